"""Scripted experts for robosuite, which has none: ours, told as what a hand does after another.

Read by robosuite_host.py, and by libero_expert.py for its ways. An expert is a generator; what it
yields is the robot's next action.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = np.ndarray
Steps = Iterator[Array]

OPEN, CLOSED = 1.0, 0.0
UP, UPRIGHT = np.array([0.0, 0.0, 1.0]), np.eye(3)
HOVER, CARRY = 0.10, 0.15  # m before an object, and above where it lay
PRECISE, NEAR, ROUGHLY = 0.006, 0.012, 0.03  # m
CLOSE_STEPS, OPEN_STEPS, TILT_STEPS = 8, 10, 10
STACKED, CLEAR = 0.045, 0.004  # m between the middles of two cubes, and before letting go
# Of the door's handle, whose latch comes free at about 1.1 rad.
SLANT = 0.9  # rad of the hand, off upright
OUTER = 0.02  # m from its middle to where it is held
PRESS, PRESS_STEPS = 1.5, 40  # rad that it is turned, and how long that takes
FIRM, FIRM_STEPS = 0.04, 10  # m below where it gives way
PULL, SINK = 0.05, 0.02  # m that the hand is told to be off it, outwards and down
SLIPPED = 0.08  # m between it and the hand


def lift(task: Any) -> Steps:
    """Above the cube, down, close, up."""
    yield from _grasp(task, "cube_main")
    top = task.place("cube_main") + CARRY * UP
    while True:
        yield task.go(top, CLOSED, UPRIGHT)


def stack(task: Any) -> Steps:
    """Grasp the red cube, carry it over the green one, put it down, let go, away."""
    turn = task.rotation(_square(task.turn("cubeA_main")) * UP)
    yield from _grasp(task, "cubeA_main", turn)
    rest = task.place("cubeA_main")[2]
    held = task.hand() - task.place("cubeA_main")  # as it lies between the fingers
    high = rest + CARRY
    yield from reach(task, lambda: np.array([*task.hand()[:2], high]), CLOSED, turn, ROUGHLY)

    def above(clear: float) -> Array:
        return task.place("cubeB_main") + held + (STACKED + clear) * UP

    yield from reach(task, lambda: above(0.06), CLOSED, turn)
    yield from reach(task, lambda: above(CLEAR), CLOSED, turn, PRECISE)
    yield from stay(task, OPEN, OPEN_STEPS, turn)
    while True:
        yield task.go(above(0.15), OPEN, turn)


def door(task: Any) -> Steps:
    """Take the handle at a slant, so that the hand is clear of the door; turn it, and pull.

    Begins again where the handle slips out of the hand.
    """

    def hold() -> Array:
        lever = task.handle() - task.axle()
        return task.handle() + OUTER * lever / np.linalg.norm(lever)

    while True:
        outward = task.outward()
        slant = task.rotation(SLANT * np.cross(UP, outward))
        away = outward * np.sin(SLANT) + UP * np.cos(SLANT)  # from the fingertips to the hand
        before = hold() + HOVER * away
        yield from reach(task, lambda: before, OPEN, slant, ROUGHLY)  # noqa: B023
        yield from stay(task, OPEN, TILT_STEPS, slant)
        yield from reach(task, lambda: before, OPEN, slant, patience=20)  # noqa: B023
        yield from reach(task, hold, OPEN, slant, patience=30)
        yield from stay(task, CLOSED, CLOSE_STEPS, slant)
        axle, lever = task.axle(), task.hand() - task.axle()
        side = np.sign(np.cross(lever, -UP) @ outward)
        for angle in np.linspace(0, PRESS, PRESS_STEPS):
            arc = np.cos(angle) * lever - np.sin(angle) * np.linalg.norm(lever) * UP
            turned = task.rotation(side * angle * outward) @ slant
            yield task.go(axle + arc, CLOSED, turned)
        for _ in range(FIRM_STEPS):
            yield task.go(task.hand() - FIRM * UP, CLOSED, turned)
        while np.linalg.norm(task.hand() - hold()) < SLIPPED:
            yield task.go(hold() + PULL * task.outward() - SINK * UP, CLOSED, turned)


def _grasp(task: Any, body: str, turn: Array = UPRIGHT) -> Steps:
    """Above an object, down, close."""

    def above(height: float) -> Callable[[], Array]:
        return lambda: task.place(body) + height * UP

    yield from reach(task, above(HOVER), OPEN, turn)
    yield from reach(task, above(0.0), OPEN, turn)
    yield from stay(task, CLOSED, CLOSE_STEPS, turn)


def reach(
    task: Any,
    goal: Callable[[], Array],
    opening: float,
    turn: Array = UPRIGHT,
    near: float = NEAR,
    patience: int = 10_000,
) -> Steps:
    """Towards a place, until the hand is near it or has tried for long enough."""
    for _ in range(patience):
        wanted = goal()
        if np.linalg.norm(task.hand() - wanted) < near:
            return
        yield task.go(wanted, opening, turn)


def stay(task: Any, opening: float, steps: int, turn: Array = UPRIGHT) -> Steps:
    """Where the hand is, for some steps."""
    place = task.hand()
    for _ in range(steps):
        yield task.go(place, opening, turn)


def _square(angle: float) -> float:
    """The smallest turn that brings a hand in line with the sides of a square."""
    return (angle + np.pi / 4) % (np.pi / 2) - np.pi / 4


EXPERTS: dict[str, Callable[[Any], Steps]] = {"Lift": lift, "Stack": stack, "Door": door}
