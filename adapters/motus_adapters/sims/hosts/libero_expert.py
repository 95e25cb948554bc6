"""A scripted expert for those of LIBERO's tasks in which small things are put into others: ours.

Read by libero_host.py. What it yields is the robot's next action.
"""

import runpy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
SCRIPT = runpy.run_path(str(Path(__file__).with_name("robosuite_experts.py")))
OPEN, CLOSED, UP, CARRY = (SCRIPT[name] for name in ("OPEN", "CLOSED", "UP", "CARRY"))
reach, stay = SCRIPT["reach"], SCRIPT["stay"]

DEEP = 0.03  # m below a thing's top that it is held
ABOVE = 0.01  # m above what it stands on that the fingers stay
CLEAR = 0.03  # m between a thing and the rim of what it is let fall into
ANGLES = np.arange(0, np.pi, np.pi / 36)
PATIENCE = 60  # steps that a way may take
CLOSE_STEPS, OPEN_STEPS = 12, 10


def put(task: Any, moves: Sequence[tuple[str, str]]) -> Iterator[Array]:
    """One thing after the other: take it across its narrow side, carry it, let go.

    Args:
        task: The host.
        moves: Thing and the region that it belongs in.
    """
    fingers = task.across()
    while True:
        for thing, region in moves:
            if not task.lies(thing, region):
                yield from _carry(task, thing, region, fingers)
        yield task.go(task.hand(), OPEN, np.eye(3))


def _carry(task: Any, thing: str, region: str, fingers: float) -> Iterator[Array]:
    """Take a thing across its narrow side; the fingers open along `fingers` (rad) at first."""
    shape = task.points(thing)
    low, high = shape.min(0), shape.max(0)
    middle = (low + high) / 2
    turn = _turn(_narrow(shape) - fingers)
    grip = np.array([*middle[:2], max(low[2] + ABOVE, high[2] - DEEP)])
    top = task.rim(region) + CLEAR + grip[2] - low[2]
    safe = max(top, grip[2] + CARRY)

    def way(goal: Array, opening: float) -> Iterator[Array]:
        yield from reach(task, lambda: goal, opening, turn, patience=PATIENCE)

    yield from way(np.array([*task.hand()[:2], safe]), OPEN)
    yield from way(np.array([*grip[:2], safe]), OPEN)
    yield from way(grip, OPEN)
    yield from stay(task, CLOSED, CLOSE_STEPS, turn)
    yield from way(np.array([*grip[:2], safe]), CLOSED)
    goal = task.place(region)
    yield from way(np.array([*goal[:2], safe]), CLOSED)
    yield from way(np.array([*goal[:2], top]), CLOSED)
    yield from stay(task, OPEN, OPEN_STEPS, turn)
    yield from way(np.array([*goal[:2], safe]), OPEN)


def _narrow(shape: Array) -> float:
    """The way across which a thing is narrowest, rad about the vertical."""
    ways = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
    return float(ANGLES[np.argmin(np.ptp(shape[:, :2] @ ways, axis=0))])


def _turn(angle: float) -> Array:
    """The rotation about the vertical by an angle, or by what looks the same to two fingers."""
    angle = (angle + np.pi / 2) % np.pi - np.pi / 2
    return np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
