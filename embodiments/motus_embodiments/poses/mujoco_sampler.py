"""Pose sampling on a CPU, with MuJoCo's kinematics and collisions."""

import math
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.errors import DataError, UsageError
from motus_embodiments.kinematics import Kinematics, gripper_column
from motus_embodiments.numbers.rotations import to_matrix, to_vector
from motus_embodiments.poses.collisions import Collisions
from motus_embodiments.poses.paths import Leg, detour, leg, tour
from motus_embodiments.poses.sampling import COUNTS, Plan, Tally
from motus_embodiments.poses.workspace import HeadView, Survey, random_states, survey, with_margin
from motus_embodiments.robot_models.finding import find_model
from motus_embodiments.schema import Arm, Card

TILT = 0.7  # rad, largest turn of a target away from the home orientation
SPEEDS = (0.3, 0.9)  # share of the velocity limits at the fastest moment of a move
_TRIES = 3  # draws within a cell before another one is taken
_DEALS = 40  # hands of targets dealt before a trajectory is given up
_HAND = (2, 24)  # fewest and most targets dealt at once
_SURVEY, _GOALS, _PLANS = 1, 2, 3  # streams of random numbers of one seed
_SLOW = {"rad": 1.0, "m": 0.25}  # 1/s, where a card states no velocity limit

State = Float[ndarray, " n"]


class MujocoPoseSampler:
    """Even end-effector targets, inverse kinematics, collision-checked minimum-jerk moves.

    The cells that each arm reaches (5 cm, free of collisions, in sight of the head camera) are
    shuffled into a deck. Each trajectory is dealt its own hand of them, goes through the hand
    in an order that takes little time, and around what is in the way.

    Raises:
        MissingError: The card's robot model is not here.
        UsageError: The card has no model or no end-effector.
        DataError: An arm reaches nothing without colliding, or nothing in sight.
    """

    backend: Literal["mujoco", "curobo"] = "mujoco"

    def __init__(self, card: Card, seed: int = 0, surveyed: Survey | None = None) -> None:
        find_model(card)
        self.kinematics = Kinematics(card)
        if not self.kinematics.has_poses or not all(arm.joints for arm in card.arms):
            raise UsageError(
                f"the card '{card.name}' names no joints and end_effector to sample poses of"
            )
        self.card, self.seed = card, seed
        with_margin(self.kinematics)
        self.speed = _speed_limits(card)
        self._view = HeadView(self.kinematics)
        rng = np.random.default_rng([seed, _SURVEY])
        self.survey = self._explore(surveyed, rng)
        self.collisions = Collisions(self.kinematics, np.empty((0, 0)), self.survey.always)
        self.note = self.collisions.note
        self._names = [channel.name for channel in card.state_channels]
        self._home = np.array(card.home())
        self._home_R = self.kinematics.poses(self._home[None])[0, :, :3, :3]
        self._is_boxed = card.action.representation != "joint_position"

    def tally(self) -> Tally:
        """An empty tally of this robot's trajectories."""
        return Tally(self.kinematics, self.survey.grids)

    def goals(self, count: int) -> Float[ndarray, "count n"]:
        """Collision-free canonical states, end-effectors spread over the cells that are reached.

        Raises:
            DataError: Too few were found; the message says why targets failed.
        """
        found: list[State] = []
        rng, counts = np.random.default_rng([self.seed, _GOALS]), Counter[str]()
        for deal in range(_DEALS):
            found += self._hand(0, deal, count - len(found), rng, counts)
            if len(found) == count:
                return self._complete(np.array(found))
        raise self._stuck(counts)

    def plan(self, index: int, num_frames: int, rate: float) -> Plan:
        """Trajectory `index`: canonical states at `rate` Hz, and what they took.

        Raises:
            DataError: No collision-free motion was found; the message says why targets failed.
        """
        rng = np.random.default_rng([self.seed, _PLANS, index])
        counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        before = self.collisions.checked
        path: list[Float[ndarray, "f n"]] = []
        length = 0
        for goal in self._goals(index, num_frames / rate, rng, counts):
            if not path:
                frames = goal[None]
            elif (found := self._way(path[-1][-1], goal, rate, rng, counts)) is None:
                counts["path"] += 1
                continue
            else:
                frames = found
            counts["accepted"] += 1
            path.append(frames)
            length += len(frames)
            if length >= num_frames:
                counts["checked"] = self.collisions.checked - before
                return Plan(self._complete(np.concatenate(path)[:num_frames]), dict(counts))
        raise self._stuck(counts)

    def _explore(self, surveyed: Survey | None, rng: np.random.Generator) -> Survey:
        return surveyed or survey(self.kinematics, self._view, self.speed, rng)

    def _goals(
        self, index: int, seconds: float, rng: np.random.Generator, counts: Counter[str]
    ) -> Iterator[State]:
        """Targets of one trajectory, each hand in the order of a short tour."""
        mean = self.survey.move_seconds / (sum(SPEEDS) / 2)
        size = min(max(_HAND[0], math.ceil(seconds / mean)), _HAND[1])
        last: State | None = None
        for deal in range(_DEALS):
            hand = self._hand(index * size, deal, size, rng, counts)
            ordered = tour(hand, self.speed, last)
            yield from ordered
            last = ordered[-1] if ordered else last

    def _hand(
        self, first: int, deal: int, size: int, rng: np.random.Generator, counts: Counter[str]
    ) -> list[State]:
        """Free states at the targets of `size` cards, from card `first` on, as far as they exist.

        The first deal takes each card of the deck once; later ones go through another order.
        """
        found = []
        for n in range(size):
            card = first + n + max(0, deal - 1) * size
            for _ in range(_TRIES):
                state, reason = self._draw(card, min(deal, 1), rng)
                if state is not None:
                    found.append(state)
                    break
                counts[reason] += 1
        return found

    def _draw(self, card: int, order: int, rng: np.random.Generator) -> tuple[State | None, str]:
        """A canonical state with every end-effector in its cell, or why there is none."""
        targets = []
        for a, grid in enumerate(self.survey.grids):
            deck = self.survey.decks[a][order]
            target = np.eye(4)
            target[:3, 3] = grid.draw(int(deck[card % len(deck)]), rng)
            target[:3, :3] = self._home_R[a] @ _tilt(rng)
            if not self._view.sees(target[None, :3, 3], a)[0]:
                return None, "unseen"
            targets.append(target)
        goal = self._reach(targets, rng)
        if goal is None:
            return None, "unreachable"
        for arm in self.card.arms:
            if arm.gripper:
                goal[gripper_column(self.card, arm)] = rng.uniform()
        reason = self._reason(goal[None])
        return (goal, "") if reason is None else (None, reason)

    def _reach(
        self, targets: list[Float[ndarray, "4 4"]], rng: np.random.Generator
    ) -> State | None:
        """A state with every end-effector at its target, near the home pose where that can be."""
        goal = self._home.copy()
        for a, arm in enumerate(self.card.arms):
            columns = self.kinematics.frames[a].columns
            q = self._reach_one(arm, targets[a], goal[columns], rng)
            if q is None:
                return None
            goal[columns] = q
        return goal

    def _reach_one(
        self,
        arm: Arm,
        target: Float[ndarray, "4 4"],
        near: Float[ndarray, " j"],
        rng: np.random.Generator,
    ) -> Float[ndarray, " j"] | None:
        """The target's pose where the arm can take it, else its place in any orientation."""
        solve = partial(self.kinematics.solve_ik, arm.side, target, near, rng=rng)
        posed = solve(orientation=True, restarts=1) if len(arm.joints) >= 6 else None
        return solve(orientation=False, restarts=1) if posed is None else posed

    def _way(
        self,
        start: State,
        goal: State,
        rate: float,
        rng: np.random.Generator,
        counts: Counter[str],
    ) -> Float[ndarray, "f n"] | None:
        """Frames after `start` up to `goal`, straight or around; None if there is no way."""
        straight = self._leg(start, goal, rate, rng)
        if self._reason(straight.checks) is None:
            return straight.frames
        legs = self._around(start, goal, rate, rng)
        if legs is None or any(self._reason(part.checks) is not None for part in legs):
            return None
        counts["replanned"] += 1
        return np.concatenate([part.frames for part in legs])

    def _around(
        self, start: State, goal: State, rate: float, rng: np.random.Generator
    ) -> list[Leg] | None:
        """Moves from `start` to `goal` around what is in the way; None if there is no way."""

        def draw() -> State:
            return random_states(self.kinematics, rng, 1)[0]

        way = detour(start, goal, self.speed, draw, self._reason, rng)
        if way is None:
            return None
        return [self._leg(a, b, rate, rng) for a, b in zip([start, *way], way, strict=False)]

    def _leg(self, start: State, goal: State, rate: float, rng: np.random.Generator) -> Leg:
        return leg(start, goal, self.speed * rng.uniform(*SPEEDS), rate)

    def _reason(self, states: Float[ndarray, "f n"]) -> str | None:
        """Why the first bad state is bad, None if all are good."""
        if self._is_boxed and self._leaves_workspace(states):
            return "workspace"
        return self.collisions.reason(states)

    def _leaves_workspace(self, states: Float[ndarray, "f n"]) -> bool:
        """Whether a commanded position would leave the box that limits commands."""
        points = self.kinematics.poses(states)[:, :, :3, 3]
        boxes = [(a, arm.workspace) for a, arm in enumerate(self.card.arms) if arm.workspace]
        return any(
            bool(((points[:, a] < box.low) | (points[:, a] > box.high)).any()) for a, box in boxes
        )

    def _complete(self, states: Float[ndarray, "f n"]) -> Float[ndarray, "f n"]:
        """The states with the end-effectors' poses filled in, where recordings hold them."""
        if any(arm.pose for arm in self.card.arms):
            poses, names = self.kinematics.poses(states), self._names
            for a, arm in enumerate(self.card.arms):
                at = names.index(f"{arm.side}_x")
                states[:, at : at + 3] = poses[:, a, :3, 3]
                states[:, at + 3 : at + 6] = to_vector(poses[:, a, :3, :3])
        return states

    def _stuck(self, counts: Counter[str]) -> DataError:
        thrown = Counter({name: n for name, n in counts.items() if name in COUNTS[3:] and n})
        why = ", ".join(f"{reason} {n}" for reason, n in thrown.most_common())
        return DataError(
            f"no collision-free motion of '{self.card.name}' was found (rejected: {why})",
            hint="look at the card's workspace and at what stands around the robot in its model",
        )


def _tilt(rng: np.random.Generator) -> Float[ndarray, "3 3"]:
    axis = rng.normal(size=3)
    return to_matrix(axis / np.linalg.norm(axis) * rng.uniform(0, TILT))


def _speed_limits(card: Card) -> Float[ndarray, " n"]:
    """Largest speed of each channel of a state, in rad/s, m/s or 1/s; infinite for poses."""
    joints = {
        joint.name: joint for joint in (*(j for a in card.arms for j in a.joints), *card.joints)
    }
    grippers = {arm.gripper_name: arm.gripper for arm in card.arms if arm.gripper}
    limits = []
    for channel in card.state_channels:
        if channel.name in joints:
            joint = joints[channel.name]
            limits.append(joint.velocity or _SLOW[joint.si])
        elif channel.name in grippers:
            limits.append(1 / grippers[channel.name].seconds)
        else:
            limits.append(math.inf)
    return np.array(limits)
