"""Pose sampling with cuRobo on a GPU, held against MuJoCo."""

import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.curobo.config import write_curobo
from motus_embodiments.curobo.robot import CuroboRobot
from motus_embodiments.curobo.sphere_model import SphereModel
from motus_embodiments.physics import mujoco
from motus_embodiments.poses.collisions import Collisions
from motus_embodiments.poses.mujoco_sampler import SPEEDS, MujocoPoseSampler, State
from motus_embodiments.poses.paths import CHECK_STEP, Leg
from motus_embodiments.poses.workspace import Survey, random_states, survey

_SAMPLES = 1500  # poses that fit the spheres' pairs to the model
_SCOUTS = 20_000  # free poses that look for cells


class CuroboPoseSampler(MujocoPoseSampler):
    """The same hands and tours; poses, inverse kinematics and ways around by cuRobo.

    Whatever cuRobo gives is checked once more by MuJoCo, frame by frame, since spheres are not the
    robot. A target that its inverse kinematics does not reach in the wanted orientation is tried
    in any orientation by MuJoCo's. Results of a GPU differ between devices, so the same seed gives
    the same bytes only on the same machine.

    Raises:
        MissingError: The card's robot model is not here.
        UsageError: The card has no model or no end-effector.
        DataError: An arm reaches nothing without colliding, or nothing in sight.
    """

    backend: Literal["mujoco", "curobo"] = "curobo"

    def _explore(self, surveyed: Survey | None, rng: np.random.Generator) -> Survey:
        samples = random_states(self.kinematics, rng, _SAMPLES)
        spheres = SphereModel(self.kinematics, Collisions(self.kinematics, samples), samples)
        self._folder = tempfile.TemporaryDirectory(prefix="motus-curobo-")
        files = write_curobo(Path(self._folder.name), self.kinematics, spheres, self.speed)
        self._robot, self._tools = CuroboRobot(files), files.tools
        if surveyed is not None:
            return surveyed
        q = self._robot.sample(_SCOUTS)
        scouts = random_states(self.kinematics, rng, len(q))
        scouts[:, self._columns()] = q
        return survey(self.kinematics, self._view, self.speed, rng, scouts)

    def _reach(
        self, targets: list[Float[ndarray, "4 4"]], rng: np.random.Generator
    ) -> State | None:
        poses = {
            tool: _place(self._base(a) @ target)
            for a, (tool, target) in enumerate(zip(self._tools, targets, strict=True))
        }
        q = self._robot.solve(poses)
        if q is None:
            return super()._reach(targets, rng)
        goal = self._home.copy()
        goal[self._columns()] = q
        return goal

    def _reason(self, states: Float[ndarray, "f n"]) -> str | None:
        reason = super()._reason(states)
        if reason is None and not self._robot.validate(states[:, self._columns()]).all():
            return "curobo"
        return reason

    def _around(
        self, start: State, goal: State, rate: float, rng: np.random.Generator
    ) -> list[Leg] | None:
        columns = self._columns()
        found = self._robot.plan(start[columns], goal[columns])
        if found is None or len(found.positions) < 2:
            return None
        q, dt = found
        steps = np.arange(len(q)) * dt
        # As fast as cuRobo plans it, slowed down to the speed that was drawn for this move.
        limit = self.speed * rng.uniform(*SPEEDS)
        fastest = np.abs(np.diff(q, axis=0)).max(axis=0) / dt
        gripper = float((np.abs(goal - start) / limit).max())
        slower = max(1.0, float((fastest / limit[columns]).max()), gripper / steps[-1])
        seconds = steps[-1] * slower
        count = max(2, int(np.ceil(seconds * rate)))
        finer = max(1, int(np.ceil(fastest.max() / slower / rate / CHECK_STEP)))
        share = np.arange(1, count * finer + 1) / (count * finer)
        checks = start + (goal - start) * share[:, None]
        for j, column in enumerate(columns):
            checks[:, column] = np.interp(share * steps[-1], steps, q[:, j])
        checks[-1] = goal
        return [Leg(checks[finer - 1 :: finer], checks)]

    def _columns(self) -> list[int]:
        return [c for frame in self.kinematics.frames for c in range(*frame.columns.indices(10**6))]

    def _base(self, arm: int) -> Float[ndarray, "4 4"]:
        """Pose of an arm's base frame in the world; bases do not move."""
        pose, data = np.eye(4), self.kinematics.data
        base = self.kinematics.frames[arm].base
        if base >= 0 and data is not None:
            pose[:3, :3], pose[:3, 3] = data.xmat[base].reshape(3, 3), data.xpos[base]
        return pose


def _place(pose: Float[ndarray, "4 4"]) -> tuple[Float[ndarray, " 3"], Float[ndarray, " 4"]]:
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, pose[:3, :3].ravel())
    return pose[:3, 3], quaternion
