"""Motion between poses: smooth, under the speed limits, around what is in the way."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

CHECK_STEP = 0.05  # rad or m, finest joint step between two checks of a path
PEAK = 1.875  # peak speed of a minimum-jerk move over its mean speed
_NODES = 120  # of the search for a way around, both trees together
_REACH = 0.5  # s at the speed limits, how far one step of that search goes
_SHORTCUTS = 20  # tries to leave out corners of the way that was found

State = Float[ndarray, " n"]
Reason = Callable[[Float[ndarray, "f n"]], str | None]


class Leg(NamedTuple):
    """A move from one state to the next: what is recorded and what is checked.

    Attributes:
        frames: States after the start, the last of them the goal, at the recording's rate.
        checks: The frames and finer steps between them, on the same curve.
    """

    frames: Float[ndarray, "f n"]
    checks: Float[ndarray, "c n"]


def leg(start: State, goal: State, speed: Float[ndarray, " n"], rate: float) -> Leg:
    """A minimum-jerk move that nowhere exceeds `speed` (rad/s, m/s, 1/s)."""
    count = max(2, math.ceil(seconds(start, goal, speed) * PEAK * rate))
    steps = math.ceil(float(np.abs(goal - start).max()) * PEAK / CHECK_STEP)
    finer = max(1, math.ceil(steps / count))
    checks = minimum_jerk(start, goal, count * finer)
    return Leg(checks[finer - 1 :: finer], checks)


def minimum_jerk(start: State, goal: State, num_frames: int) -> Float[ndarray, "f n"]:
    """`num_frames` points after `start`, the last of them `goal` (Flash and Hogan 1985)."""
    t = (np.arange(1, num_frames + 1) / num_frames)[:, None]
    return start + (goal - start) * (10 * t**3 - 15 * t**4 + 6 * t**5)


def seconds(start: State, goal: State, speed: Float[ndarray, " n"]) -> float:
    """Time of a straight move at constant speed; the slowest joint decides."""
    return float((np.abs(goal - start) / speed).max())


def tour(
    goals: list[State], speed: Float[ndarray, " n"], start: State | None = None
) -> list[State]:
    """The goals in an order that takes little time: nearest neighbour, then 2-opt.

    Args:
        goals: States to visit.
        speed: Speed limits, the measure of distance.
        start: Where the tour begins; the first goal where left out.
    """
    if len(goals) < 3:
        return list(goals)
    points = np.array(goals if start is None else [start, *goals])
    apart = (np.abs(points[:, None] - points[None]) / speed).max(axis=2)
    order, left = [0], set(range(1, len(points)))
    while left:
        order.append(min(left, key=lambda p: (apart[order[-1], p], p)))
        left.remove(order[-1])
    order = _two_opt(order, apart)
    return [points[p] for p in (order if start is None else order[1:])]


def _two_opt(order: list[int], apart: Float[ndarray, "p p"]) -> list[int]:
    """Turn stretches of an open tour round as long as that shortens it; the start stays."""
    end, improved = len(order), True
    while improved:
        improved = False
        for i in range(1, end - 1):
            for j in range(i + 1, end):
                before, first, last = order[i - 1], order[i], order[j]
                change = apart[before, last] - apart[before, first]
                if j + 1 < end:
                    change += apart[first, order[j + 1]] - apart[last, order[j + 1]]
                if change < -1e-9:
                    order[i : j + 1] = order[i : j + 1][::-1]
                    improved = True
    return order


def detour(
    start: State,
    goal: State,
    speed: Float[ndarray, " n"],
    draw: Callable[[], State],
    reason: Reason,
    rng: np.random.Generator,
) -> list[State] | None:
    """States on a way around what is in the way, `goal` the last; None if none was found.

    Two trees grow towards each other (RRT-Connect, Kuffner and LaValle 2000) in steps measured
    in time at the speed limits; then corners are left out where the straight way is free.

    Args:
        start: A free state.
        goal: A free state.
        speed: Speed limits.
        draw: Gives random states within limits.
        reason: Says why the first bad state is bad, None if all are good.
        rng: Chooses the corners to leave out.
    """
    near, far = _Tree(start), _Tree(goal)
    while len(near) + len(far) < _NODES:
        new = near.grow(draw(), speed, reason)
        if new is not None and far.connect(near.states[new], speed, reason):
            way = [*near.back(new)[::-1], *far.back(len(far) - 1)[1:]]
            way = way if np.array_equal(way[0], start) else way[::-1]
            return _shorten(way, reason, rng)[1:]
        near, far = far, near
    return None


class _Tree:
    """States that are linked to a root by free straight moves."""

    def __init__(self, root: State) -> None:
        self.states, self._parents = [root], [-1]

    def __len__(self) -> int:
        return len(self.states)

    def grow(self, target: State, speed: Float[ndarray, " n"], reason: Reason) -> int | None:
        """One step from the nearest state towards `target`; its number, None if it is blocked."""
        apart = (np.abs(np.array(self.states) - target) / speed).max(axis=1)
        nearest = int(apart.argmin())
        if apart[nearest] == 0:
            return nearest
        share = min(1.0, _REACH / float(apart[nearest]))
        start = self.states[nearest]
        new = target if share == 1 else start + share * (target - start)
        if reason(_straight(start, new)) is not None:
            return None
        self.states.append(new)
        self._parents.append(nearest)
        return len(self) - 1

    def connect(self, target: State, speed: Float[ndarray, " n"], reason: Reason) -> bool:
        """Step towards `target` until it is reached or something is in the way."""
        while (new := self.grow(target, speed, reason)) is not None:
            if np.array_equal(self.states[new], target):
                return True
        return False

    def back(self, number: int) -> list[State]:
        """The states from one to the root."""
        way = []
        while number >= 0:
            way.append(self.states[number])
            number = self._parents[number]
        return way


def _straight(start: State, goal: State) -> Float[ndarray, "f n"]:
    count = max(1, math.ceil(float(np.abs(goal - start).max()) / CHECK_STEP))
    return start + (goal - start) * (np.arange(1, count + 1) / count)[:, None]


def _shorten(way: list[State], reason: Reason, rng: np.random.Generator) -> list[State]:
    for _ in range(_SHORTCUTS):
        if len(way) < 3:
            return way
        i, j = sorted(rng.choice(len(way), 2, replace=False))
        if j - i > 1 and reason(_straight(way[i], way[j])) is None:
            way = way[: i + 1] + way[j:]
    return way
