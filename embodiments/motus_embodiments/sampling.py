"""Random, collision-free motion of a robot: the poses of anchoring data."""

import importlib.util
import math
from collections import Counter
from collections.abc import Mapping
from ctypes import CDLL
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.collisions import Collisions
from motus_embodiments.coverage import Coverage, Grid
from motus_embodiments.errors import DataError, MissingError, UsageError
from motus_embodiments.kinematics import Kinematics, gripper_column
from motus_embodiments.models import find_model
from motus_embodiments.rotations import to_matrix
from motus_embodiments.schema import Arm, Card, Joint

Backend = Literal["auto", "mujoco", "curobo"]

MARGIN = 0.02  # of each joint's range, kept free at both ends
TILT = 0.7  # rad, largest turn of a target away from the home orientation
SPEEDS = (0.3, 0.9)  # share of the velocity limits at the fastest moment of a move
CHECK_STEP = 0.05  # rad or m, finest joint step between collision checks
_PEAK = 1.875  # peak speed of a minimum-jerk move over its mean speed
_STRIDE = 8  # cells set aside for each trajectory
_TRIES = 400  # targets tried for one move
_SCOUTS = 60_000  # random poses that find the reachable cells
_SLOW = {"rad": 1.0, "m": 0.25}  # 1/s, where a card states no velocity limit


@dataclass(frozen=True)
class SampleReport:
    """What sampling did.

    Attributes:
        backend: Who sampled.
        accepted: Moves kept.
        rejected: Targets thrown away, by reason.
        checked: Configurations checked for collisions.
        coverage: Evenness of the frames' end-effector positions, for each arm.
    """

    backend: str
    accepted: int
    rejected: Mapping[str, int]
    checked: int
    coverage: Mapping[str, Coverage]


class Plan(NamedTuple):
    """One trajectory and what it took."""

    states: Float[ndarray, "T n"]
    counts: Mapping[str, int]  # "accepted", "checked" and reasons of rejection


class PoseSampler(Protocol):
    """Makes collision-free random motion; the same (seed, index) gives the same in any process."""

    backend: str

    def plan(self, index: int, num_frames: int, rate: float) -> Plan:
        """Trajectory `index`, canonical states at `rate` Hz."""
        ...

    def trajectory(self, index: int, num_frames: int, rate: float) -> Float[ndarray, "T n"]:
        """The states of `plan`, counted in `report`."""
        ...

    def summarise(self, plans: list[Plan]) -> SampleReport:
        """What these plans took and cover."""
        ...

    def report(self) -> SampleReport:
        """What all trajectories made here took and cover."""
        ...


class Chosen(NamedTuple):
    """A sampler, and what the user should be told about the choice."""

    sampler: PoseSampler
    backend: str
    note: str  # empty when it is what was asked for


def make_sampler(card: Card, backend: Backend = "auto", seed: int = 0) -> Chosen:
    """Choose a pose sampler; "auto" takes curobo where it can run and says when it cannot.

    Raises:
        MissingError: curobo was asked for and something that it needs is not here.
        UsageError: There is no such backend, or the card has no poses to sample.
    """
    if backend not in ("auto", "mujoco", "curobo"):
        raise UsageError(f"no backend named '{backend}'", hint="known: auto, mujoco, curobo")
    note = ""
    if backend != "mujoco":
        lacking = _curobo_lacks()
        if backend == "curobo":
            raise MissingError(
                f"the curobo backend cannot run here: {lacking}",
                hint="--backend mujoco runs on any CPU",
            )
        note = f"curobo cannot run here ({lacking}), so the mujoco backend samples"
    return Chosen(MujocoPoseSampler(card, seed), "mujoco", note)


class MujocoPoseSampler:
    """Even end-effector targets, inverse kinematics, collision-checked minimum-jerk moves.

    Targets of all trajectories are dealt from one shuffled deck of reachable 5 cm cells, so
    that a data set covers the workspace evenly whoever makes which trajectory.

    Raises:
        MissingError: The card's robot model is not here.
        UsageError: The card has no model or no end-effector.
    """

    backend = "mujoco"

    def __init__(self, card: Card, seed: int = 0) -> None:
        find_model(card)
        self.kinematics = Kinematics(card)
        if not self.kinematics.has_poses:
            raise UsageError(f"the card '{card.name}' names no end_effector to sample poses of")
        self.card, self.seed = card, seed
        self.kinematics.frames = tuple(
            frame._replace(low=low, high=high)
            for frame in self.kinematics.frames
            for low, high in [_inner(frame.low, frame.high)]
        )
        rng = np.random.default_rng(np.random.SeedSequence([seed]))
        scouts = self._random_states(rng, _SCOUTS)
        self.collisions = Collisions(self.kinematics, scouts[:256])
        self._home = np.array(card.home())
        self._home_R = self.kinematics.poses(self._home[None])[0, :, :3, :3]
        points = self.kinematics.poses(scouts)[:, :, :3, 3]
        self.grids = [_grid(arm, points[:, a]) for a, arm in enumerate(card.arms)]
        for arm, grid in zip(card.arms, self.grids, strict=True):
            if not len(grid):
                raise DataError(
                    f"the {arm.side} arm of '{card.name}' never reaches its workspace",
                    hint="workspace is in the arm's base frame, in m",
                )
        self._decks = [rng.permutation(len(grid)) for grid in self.grids]
        self._limits = _speed_limits(card)
        self._made: list[Plan] = []

    def trajectory(self, index: int, num_frames: int, rate: float) -> Float[ndarray, "T n"]:
        """Canonical states of trajectory `index`, collision-free and within limits."""
        plan = self.plan(index, num_frames, rate)
        self._made.append(plan)
        return plan.states

    def report(self) -> SampleReport:
        """What the trajectories made here took and cover."""
        return self.summarise(self._made)

    def plan(self, index: int, num_frames: int, rate: float) -> Plan:
        """Plan trajectory `index`.

        Raises:
            DataError: No collision-free move was found; the message says why targets failed.
        """
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, index]))
        counts: Counter[str] = Counter()
        deal = index * _STRIDE
        states, deal = self._move(None, deal, rate, rng, counts)
        while len(states) < num_frames:
            more, deal = self._move(states[-1], deal, rate, rng, counts)
            states = np.concatenate([states, more])
        return Plan(states[:num_frames], counts)

    def summarise(self, plans: list[Plan]) -> SampleReport:
        """What these plans took and cover."""
        counts: Counter[str] = Counter()
        visits = [np.zeros(len(grid), np.int64) for grid in self.grids]
        for plan in plans:
            counts.update(plan.counts)
            points = self.kinematics.poses(plan.states)[:, :, :3, 3]
            for a, grid in enumerate(self.grids):
                visits[a] += grid.visits(points[:, a])
        reasons = {k: v for k, v in sorted(counts.items()) if k not in ("accepted", "checked")}
        coverage: dict[str, Coverage] = {
            arm.side: grid.coverage(seen)
            for arm, grid, seen in zip(self.card.arms, self.grids, visits, strict=True)
        }
        return SampleReport(self.backend, counts["accepted"], reasons, counts["checked"], coverage)

    def _move(
        self,
        start: Float[ndarray, " n"] | None,
        deal: int,
        rate: float,
        rng: np.random.Generator,
        counts: Counter[str],
    ) -> tuple[Float[ndarray, "f n"], int]:
        """The next frames, from `start` (not included) to a new target, and the next card."""
        for _ in range(_TRIES):
            goal, reason = self._goal(self._home if start is None else start, deal, rng)
            deal += 1
            if goal is not None:
                path = goal[None] if start is None else self._path(start, goal, rate, rng)
                reason = self._blocked(start, goal, path, counts)
                if reason is None:
                    counts["accepted"] += 1
                    return path, deal
            counts[reason or "unreachable"] += 1
        why = ", ".join(f"{reason} {n}" for reason, n in counts.most_common())
        raise DataError(
            f"no collision-free move of '{self.card.name}' in {_TRIES} tries ({why})",
            hint="look at the card's workspace and at what stands around the robot in its model",
        )

    def _goal(
        self, near: Float[ndarray, " n"], deal: int, rng: np.random.Generator
    ) -> tuple[Float[ndarray, " n"] | None, str | None]:
        """A canonical state with every end-effector at its target."""
        goal = self._home.copy()
        for a, arm in enumerate(self.card.arms):
            frame, deck = self.kinematics.frames[a], self._decks[a]
            target = np.eye(4)
            target[:3, 3] = self.grids[a].draw(int(deck[deal % len(deck)]), rng)
            target[:3, :3] = self._home_R[a] @ _tilt(rng)
            q = self._reach(arm, target, near[frame.columns], rng)
            if q is None:
                return None, "unreachable"
            goal[frame.columns] = q
            if arm.gripper:
                goal[gripper_column(self.card, arm)] = rng.uniform()
        return goal, None

    def _reach(
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

    def _path(
        self,
        start: Float[ndarray, " n"],
        goal: Float[ndarray, " n"],
        rate: float,
        rng: np.random.Generator,
    ) -> Float[ndarray, "f n"]:
        """Minimum-jerk frames after `start` up to `goal`, under the velocity limits."""
        fastest = self._limits * rng.uniform(*SPEEDS)
        seconds = float((np.abs(goal - start) / fastest).max()) * _PEAK
        return minimum_jerk(start, goal, max(2, math.ceil(seconds * rate)))

    def _blocked(
        self,
        start: Float[ndarray, " n"] | None,
        goal: Float[ndarray, " n"],
        path: Float[ndarray, "f n"],
        counts: Counter[str],
    ) -> str | None:
        """Why a move is refused, None if it is free; the goal is looked at first."""
        reason = self._collides(goal[None], counts)
        if reason is not None or start is None:
            return reason
        finest = math.ceil(float(np.abs(goal - start).max()) * _PEAK / CHECK_STEP)
        steps = path if finest <= len(path) else minimum_jerk(start, goal, finest)
        if self._leaves_workspace(path):
            return "workspace"
        # Frames and the finer steps between them; both lie on the same curve.
        dense = steps if finest <= len(path) else np.concatenate([path, steps])
        return "path" if self._collides(dense, counts) else None

    def _collides(self, states: Float[ndarray, "f n"], counts: Counter[str]) -> str | None:
        for qpos in self.kinematics.qpos(states):
            counts["checked"] += 1
            if hit := self.collisions.first(qpos):
                return hit
        return None

    def _leaves_workspace(self, path: Float[ndarray, "f n"]) -> bool:
        """Whether a commanded position would leave the box that limits commands."""
        if self.card.action.representation == "joint_position":
            return False
        points = self.kinematics.poses(path)[:, :, :3, 3]
        boxes = [(a, arm.workspace) for a, arm in enumerate(self.card.arms) if arm.workspace]
        return any(
            bool(((points[:, a] < box.low) | (points[:, a] > box.high)).any()) for a, box in boxes
        )

    def _random_states(self, rng: np.random.Generator, count: int) -> Float[ndarray, "s n"]:
        states = np.tile(self.card.home(), (count, 1))
        for arm, frame in zip(self.card.arms, self.kinematics.frames, strict=True):
            shape = (count, len(frame.low))
            states[:, frame.columns] = rng.uniform(frame.low, frame.high, shape)
            if arm.gripper:
                states[:, gripper_column(self.card, arm)] = rng.uniform(size=count)
        return states


def minimum_jerk(
    start: Float[ndarray, " n"], goal: Float[ndarray, " n"], num_frames: int
) -> Float[ndarray, "f n"]:
    """`num_frames` points after `start`, the last of them `goal` (Flash and Hogan 1985)."""
    t = (np.arange(1, num_frames + 1) / num_frames)[:, None]
    return start + (goal - start) * (10 * t**3 - 15 * t**4 + 6 * t**5)


def _tilt(rng: np.random.Generator) -> Float[ndarray, "3 3"]:
    axis = rng.normal(size=3)
    return to_matrix(axis / np.linalg.norm(axis) * rng.uniform(0, TILT))


def _grid(arm: Arm, points: Float[ndarray, "s 3"]) -> Grid:
    if arm.workspace is None:
        return Grid(points)
    return Grid(points, np.array(arm.workspace.low), np.array(arm.workspace.high))


def _inner(
    low: Float[ndarray, " j"], high: Float[ndarray, " j"]
) -> tuple[Float[ndarray, " j"], Float[ndarray, " j"]]:
    """Limits with the margin kept; a joint without limits gets one turn."""
    low, high = np.where(np.isfinite(low), low, -np.pi), np.where(np.isfinite(high), high, np.pi)
    margin = MARGIN * (high - low)
    return low + margin, high - margin


def _speed_limits(card: Card) -> Float[ndarray, " n"]:
    limits: list[float] = []
    for arm in card.arms:
        limits += [_speed(joint) for joint in arm.joints]
        limits += [1 / arm.gripper.seconds] if arm.gripper else []
    return np.array([*limits, *(_speed(joint) for joint in card.joints)])


def _speed(joint: Joint) -> float:
    return joint.velocity or _SLOW[joint.si]


def _curobo_lacks() -> str:
    """What the curobo backend would need and does not find."""
    lacking = []
    try:
        CDLL("libcuda.so.1")
    except OSError:
        lacking.append("a CUDA device")
    if importlib.util.find_spec("curobo") is None:
        lacking.append("cuRobo v2 from its source (the PyPI packages of that name are empty)")
    if lacking:
        return f"it needs {' and '.join(lacking)}"
    return "this version of motus does not drive it yet"
