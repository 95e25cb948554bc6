"""Random, collision-free motion of a robot: what a pose sampler is, and how it is counted."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.kinematics import Kinematics
from motus_embodiments.poses.coverage import Coverage, Grid, draw_coverage
from motus_embodiments.poses.workspace import Survey

# Why a target is thrown away, in the order of the report.
REASONS = (
    *("unreachable", "unseen", "self", "arm_arm", "table", "object", "workspace", "path"),
    "curobo",  # its own spheres refuse what MuJoCo lets pass
)
COUNTS = ("accepted", "replanned", "checked", *REASONS)


class Plan(NamedTuple):
    """One trajectory and what it took."""

    states: Float[ndarray, "T n"]
    counts: Mapping[str, int]  # by the names of COUNTS


@dataclass(frozen=True)
class SampleReport:
    """What sampling did.

    Attributes:
        accepted: Targets that trajectories go to.
        replanned: Those of them that a straight move could not reach.
        rejected: Targets thrown away, by reason.
        reject_rate: Share of the targets tried that was thrown away.
        checked: Configurations checked for collisions.
        coverage: Evenness of the frames' end-effector positions, for each arm.
    """

    accepted: int
    replanned: int
    rejected: Mapping[str, int]
    reject_rate: float
    checked: int
    coverage: Mapping[str, Coverage]


class Tally:
    """Adds up trajectories, one at a time."""

    def __init__(self, kinematics: Kinematics, grids: Iterable[Grid]) -> None:
        self._kinematics, self._grids = kinematics, tuple(grids)
        self._visits = [np.zeros(len(grid), np.int64) for grid in self._grids]
        self._counts: Counter[str] = Counter()

    def add(self, plan: Plan) -> None:
        """Count one trajectory in."""
        self._counts.update(plan.counts)
        points = self._kinematics.poses(plan.states)[:, :, :3, 3]
        for a, grid in enumerate(self._grids):
            self._visits[a] += grid.visits(points[:, a])

    def report(self) -> SampleReport:
        """What they took and cover."""
        rejected = {reason: self._counts[reason] for reason in REASONS if self._counts[reason]}
        thrown, accepted = sum(rejected.values()), self._counts["accepted"]
        return SampleReport(
            accepted=accepted,
            replanned=self._counts["replanned"],
            rejected=rejected,
            reject_rate=thrown / max(1, thrown + accepted),
            checked=self._counts["checked"],
            coverage={
                arm.side: grid.coverage(seen)
                for arm, grid, seen in zip(
                    self._kinematics.card.arms, self._grids, self._visits, strict=True
                )
            },
        )

    def draw(self, path: Path) -> None:
        """The same as a picture (PNG)."""
        report, card = self.report(), self._kinematics.card
        tried = max(1, report.accepted + sum(report.rejected.values()))
        sides = [arm.side for arm in card.arms]
        visits = dict(zip(sides, zip(self._grids, self._visits, strict=True), strict=True))
        rates = {reason: count / tried for reason, count in report.rejected.items()}
        title = f"{card.name}: where the end-effectors were, in their base frames"
        draw_coverage(path, title, visits, rates)


class PoseSampler(Protocol):
    """Makes collision-free random motion; the same (seed, index) gives the same in any process.

    Attributes:
        backend: Who samples.
        note: What the user should know about the robot, or empty.
        kinematics: Of the robot; inverse kinematics keeps a margin from the limits.
        survey: What the robot reaches, to be handed to samplers of other processes.
    """

    backend: Literal["mujoco", "curobo"]
    note: str
    kinematics: Kinematics
    survey: Survey

    def plan(self, index: int, num_frames: int, rate: float) -> Plan:
        """Trajectory `index`: canonical states at `rate` Hz, and what they took.

        Raises:
            DataError: No collision-free motion was found; the message says why targets failed.
        """
        ...

    def goals(self, count: int) -> Float[ndarray, "count n"]:
        """Collision-free canonical states, end-effectors spread over the cells that are reached."""
        ...

    def tally(self) -> Tally:
        """An empty tally of this robot's trajectories."""
        ...
