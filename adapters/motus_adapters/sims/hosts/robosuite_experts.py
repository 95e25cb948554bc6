"""Scripted experts for robosuite, which has none: ours, told as what a hand does after another.

Read by robosuite_host.py; robosuite_pairs.py and libero_expert.py take its ways. An expert is a
generator for one arm; what it yields is the next action of that arm.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray
Steps = Iterator[Array]
Script = Callable[[Any, Any], Steps]

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
# Of a nut and its peg, and the can.
PEG = 0.15  # m from a peg's middle to where a nut is above it
THIN = 0.005  # m above a nut's middle that it is held
LOST = 0.03  # m between its handle and the hand
PATIENCE = 50  # steps that a way may take
ALIGNED = 1 + 2 * np.cos(0.06)  # trace of a rotation by 0.06 rad


def lift(task: Any, arm: Any) -> Steps:
    """Above the cube, down, close, up."""
    yield from _grasp(task, arm, "cube_main")
    top = task.place("cube_main") + CARRY * UP
    while True:
        yield arm.go(top, CLOSED, UPRIGHT)


def stack(task: Any, arm: Any) -> Steps:
    """Grasp the red cube, carry it over the green one, put it down, let go, away."""
    turn = task.rotation(least(task.turn("cubeA_main"), np.pi / 2) * UP)
    yield from _grasp(task, arm, "cubeA_main", turn)
    rest = task.place("cubeA_main")[2]
    held = arm.hand() - task.place("cubeA_main")  # as it lies between the fingers
    high = rest + CARRY
    yield from reach(arm, lambda: np.array([*arm.hand()[:2], high]), CLOSED, turn, ROUGHLY)

    def above(clear: float) -> Array:
        return task.place("cubeB_main") + held + (STACKED + clear) * UP

    yield from reach(arm, lambda: above(0.06), CLOSED, turn)
    yield from reach(arm, lambda: above(CLEAR), CLOSED, turn, PRECISE)
    yield from stay(arm, OPEN, OPEN_STEPS, turn)
    while True:
        yield arm.go(above(0.15), OPEN, turn)


def door(task: Any, arm: Any) -> Steps:
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
        yield from reach(arm, lambda: before, OPEN, slant, ROUGHLY)  # noqa: B023
        yield from stay(arm, OPEN, TILT_STEPS, slant)
        yield from reach(arm, lambda: before, OPEN, slant, patience=20)  # noqa: B023
        yield from reach(arm, hold, OPEN, slant, patience=30)
        yield from stay(arm, CLOSED, CLOSE_STEPS, slant)
        axle, lever = task.axle(), arm.hand() - task.axle()
        side = np.sign(np.cross(lever, -UP) @ outward)
        for angle in np.linspace(0, PRESS, PRESS_STEPS):
            arc = np.cos(angle) * lever - np.sin(angle) * np.linalg.norm(lever) * UP
            turned = task.rotation(side * angle * outward) @ slant
            yield arm.go(axle + arc, CLOSED, turned)
        for _ in range(FIRM_STEPS):
            yield arm.go(arm.hand() - FIRM * UP, CLOSED, turned)
        while np.linalg.norm(arm.hand() - hold()) < SLIPPED:
            yield arm.go(hold() + PULL * task.outward() - SINK * UP, CLOSED, turned)


def nuts(*numbers: int) -> Script:
    """Nuts over their pegs, one after the other: each taken by its handle and turned in line.

    Begins again where a nut isn't on its peg then.
    """

    def script(task: Any, arm: Any) -> Steps:
        home = arm.hand()
        for number in numbers:
            body = task.env.nuts[number].root_body
            while not task.env.on_peg(task.place(body), number):
                yield from way(arm, home, OPEN, UPRIGHT)
                yield from _nut(task, arm, number)
        while True:
            yield arm.go(home, OPEN, UPRIGHT)

    return script


def _nut(task: Any, arm: Any, number: int) -> Steps:
    """Take a nut, turn it, lower it over its peg, let go, away."""
    nut = task.env.nuts[number]
    body, peg = nut.root_body, task.place(f"peg{number + 1}")
    grip, end = _wrist(task.turn(body), arm.across())
    turn, over = task.rotation(grip * UP), peg + PEG * UP

    def handle(height: float) -> Array:
        return task.site(nut.important_sites["handle"]) + height * UP

    def carry(goal: Array, turn: Array, near: float) -> Steps:
        for _ in range(PATIENCE):
            off = goal - task.place(body)
            there = np.linalg.norm(off) < near and _is_turned(arm, turn)
            if there or np.linalg.norm(arm.hand() - handle(0.0)) > LOST:
                return
            yield arm.go(arm.hand() + off, CLOSED, turn)

    def level() -> Array:
        return task.rotation(end * UP) @ task.frame(body).T @ arm.turned()

    yield from reach(arm, lambda: handle(HOVER), OPEN, turn, patience=PATIENCE)
    yield from face(arm, OPEN, turn)
    yield from reach(arm, lambda: handle(THIN), OPEN, turn, PRECISE, PATIENCE)
    yield from stay(arm, CLOSED, CLOSE_STEPS, turn)
    yield from carry(np.array([*task.place(body)[:2], over[2]]), turn, ROUGHLY)
    yield from carry(over, level(), ROUGHLY)
    yield from carry(over, level(), PRECISE)
    yield from carry(peg, level(), NEAR)
    turn = arm.turned()
    yield from stay(arm, OPEN, OPEN_STEPS, turn)
    yield from way(arm, arm.hand() + CARRY * UP, OPEN, turn)


def _wrist(nut: float, across: float) -> tuple[float, float]:
    """How a hand is turned to take a nut, and the nut to be let go, so that the wrist twists least.

    Args:
        nut: Where the nut's handle points to, rad.
        across: Where the hand's fingers open along, rad.
    """
    ways = []
    for end in (np.pi, np.pi / 2, -np.pi / 2):  # not away from the robot: it may be out of reach
        for flip in (0, np.pi):
            grip = least(nut + np.pi / 2 - across + flip, 2 * np.pi)
            last = grip + least(end - nut, 2 * np.pi)
            ways.append((abs(grip) + abs(last), grip, end))
    return min(ways)[1:]


def can(task: Any, arm: Any) -> Steps:
    """Take the can, carry it over its bin, let it fall, away.

    Begins again where it isn't in its bin then.
    """
    number = task.env.object_id
    body, goal = task.env.objects[number].root_body, task.env.target_bin_placements[number]
    while True:
        yield from _grasp(task, arm, body)
        high = CARRY * UP + (0, 0, task.place(body)[2])
        yield from way(arm, high + arm.hand() * (1, 1, 0), CLOSED, UPRIGHT)
        yield from way(arm, high + goal * (1, 1, 0), CLOSED, UPRIGHT)
        yield from way(arm, goal + HOVER * UP, CLOSED, UPRIGHT)
        yield from stay(arm, OPEN, OPEN_STEPS)
        while not task.env.not_in_bin(task.place(body), number):
            yield arm.go(high + goal * (1, 1, 0), OPEN, UPRIGHT)


def _grasp(task: Any, arm: Any, body: str, turn: Array = UPRIGHT) -> Steps:
    """Above an object, down, close."""

    def above(height: float) -> Callable[[], Array]:
        return lambda: task.place(body) + height * UP

    yield from reach(arm, above(HOVER), OPEN, turn)
    yield from reach(arm, above(0.0), OPEN, turn)
    yield from stay(arm, CLOSED, CLOSE_STEPS, turn)


def reach(
    arm: Any,
    goal: Callable[[], Array],
    opening: float,
    turn: Array = UPRIGHT,
    near: float = NEAR,
    patience: int = 10_000,
) -> Steps:
    """Towards a place, until the hand is near it or has tried for long enough."""
    for _ in range(patience):
        wanted = goal()
        if np.linalg.norm(arm.hand() - wanted) < near:
            return
        yield arm.go(wanted, opening, turn)


def way(arm: Any, place: Array, opening: float, turn: Array) -> Steps:
    """Roughly to a place that stays where it is."""
    yield from reach(arm, lambda: place, opening, turn, ROUGHLY, PATIENCE)


def stay(arm: Any, opening: float, steps: int, turn: Array = UPRIGHT) -> Steps:
    """Where the hand is, for some steps."""
    place = arm.hand()
    for _ in range(steps):
        yield arm.go(place, opening, turn)


def face(arm: Any, opening: float, turn: Array) -> Steps:
    """Where the hand is, until it is turned, or has tried for long enough."""
    place = arm.hand()
    for _ in range(PATIENCE):
        if _is_turned(arm, turn):
            return
        yield arm.go(place, opening, turn)


def _is_turned(arm: Any, turn: Array) -> bool:
    return bool(np.trace(turn.T @ arm.turned()) > ALIGNED)


def least(angle: float, period: float) -> float:
    """The smallest angle that looks the same."""
    return (angle + period / 2) % period - period / 2


EXPERTS: Mapping[str, Sequence[Script]] = {
    "Lift": (lift,),
    "Stack": (stack,),
    "Door": (door,),
    "NutAssembly": (nuts(0, 1),),
    "NutAssemblySquare": (nuts(0),),
    "NutAssemblyRound": (nuts(1),),
    "PickPlaceCan": (can,),
}
