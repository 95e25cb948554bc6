"""The one place that calls cuRobo (version 2, from its source): poses, collisions, IK, planning.

Nothing here runs without CUDA. What is called was read in the source at commit a35a708;
tests/embodiments/test_curobo.py holds every call against a recorded list of its signatures.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import yaml
from jaxtyping import Bool, Float
from numpy import ndarray

from motus_embodiments.curobo.config import CuroboFiles

_ROUNDS = 50  # of rejection sampling before it is given up
_SEEDS = 32  # starts of an inverse kinematics problem
_TOLERANCES = {"position_tolerance": 0.001, "orientation_tolerance": 0.01}  # m, rad


class Trajectory(NamedTuple):
    """Positions [H, j] of the card's arm joints, `dt` seconds apart."""

    positions: Float[ndarray, "H j"]
    dt: float


class CuroboRobot:
    """One robot in cuRobo; joints are the card's arm joints in the card's order.

    Each part is built when it is first asked for, since building one takes seconds.
    """

    def __init__(self, files: CuroboFiles) -> None:
        self._files = files
        self._types: Any = import_module("curobo.types")
        self._device = self._types.DeviceCfg()
        # Names of files would be looked up in cuRobo's own folders, tables are taken as they are.
        self._robot: Any = yaml.safe_load(files.robot.read_text())
        scene: Any = yaml.safe_load(files.scene.read_text())
        self._scene: Any = scene if scene["cuboid"] else None
        self._parts: dict[str, Any] = {}

    def tool_positions(self, q: Float[ndarray, "b j"]) -> Float[ndarray, "b arms 3"]:
        """Where the end-effectors are, in the world, in m."""
        kinematics = self._kinematics()
        found = kinematics.compute_kinematics(self._state(q, kinematics.joint_names)).tool_poses
        places = [_numpy(found.get_link_pose(tool).position) for tool in self._files.tools]
        return np.stack([place.reshape(len(q), 3) for place in places], axis=1)

    def sample(self, count: int) -> Float[ndarray, "count j"]:
        """Joint positions that are free of collisions; fewer than asked for if those are rare."""
        checker, found = self._checker(), list[ndarray]()
        for _ in range(_ROUNDS):
            # One call gives fewer than asked for where much is thrown away.
            found.append(_numpy(checker.sample(count, mask_valid=True)))
            if sum(map(len, found)) >= count:
                break
        return self._ours(np.concatenate(found)[:count], checker.kinematics.joint_names)

    def validate(self, q: Float[ndarray, "b j"]) -> Bool[ndarray, " b"]:
        """Which joint positions are within limits and free of collisions."""
        checker = self._checker()
        theirs = self._theirs(q, checker.kinematics.joint_names)
        valid = checker.validate(self._device.to_device(theirs[:, None]))  # [batch, horizon, dof]
        return _numpy(valid).reshape(len(q)).astype(bool)

    def solve(
        self, poses: Mapping[str, tuple[Float[ndarray, " 3"], Float[ndarray, " 4"]]]
    ) -> Float[ndarray, " j"] | None:
        """Joint positions with every tool at its place (world, w x y z), without collision."""
        solver = self._solver()
        goal = {
            tool: self._types.Pose(
                position=self._device.to_device(position[None]),
                quaternion=self._device.to_device(quaternion[None]),
            )
            for tool, (position, quaternion) in poses.items()
        }
        result = solver.solve_pose(self._types.GoalToolPose.from_poses(goal, num_goalset=1))
        if not _numpy(result.success).any():
            return None
        found: Float[ndarray, " j"] = self._ours(
            _numpy(result.solution).reshape(1, -1), solver.joint_names
        )[0]
        return found

    def plan(self, start: Float[ndarray, " j"], goal: Float[ndarray, " j"]) -> Trajectory | None:
        """A collision-free, time-optimal trajectory between joint positions."""
        planner = self._planner()
        names = planner.joint_names
        result = planner.plan_cspace(
            self._state(goal[None], names), self._state(start[None], names)
        )
        if result is None or not _numpy(result.success).any():
            return None
        found = result.get_interpolated_plan()
        positions = _numpy(found.position).reshape(-1, len(names))
        return Trajectory(self._ours(positions, names), float(_numpy(found.dt).reshape(-1)[0]))

    def _kinematics(self) -> Any:
        module = import_module("curobo.kinematics")
        return self._part(
            "kinematics",
            lambda: module.Kinematics(module.KinematicsCfg.from_data_dict(deepcopy(self._robot))),
        )

    def _checker(self) -> Any:
        module = import_module("curobo.collision_checking")
        return self._part(
            "checker",
            lambda: module.RobotCollisionChecker(
                module.RobotCollisionCheckerCfg.load_from_config(
                    robot_config=deepcopy(self._robot), scene_model=self._scene
                )
            ),
        )

    def _solver(self) -> Any:
        module = import_module("curobo.inverse_kinematics")
        return self._part(
            "solver",
            lambda: module.InverseKinematics(
                module.InverseKinematicsCfg.create(
                    robot=deepcopy(self._robot),
                    scene_model=self._scene,
                    num_seeds=_SEEDS,
                    max_batch_size=1,
                    **_TOLERANCES,
                )
            ),
        )

    def _planner(self) -> Any:
        module = import_module("curobo.motion_planner")
        return self._part(
            "planner",
            lambda: module.MotionPlanner(
                module.MotionPlannerCfg.create(
                    robot=deepcopy(self._robot),
                    scene_model=self._scene,
                    num_ik_seeds=_SEEDS,
                    **_TOLERANCES,
                )
            ),
        )

    def _part(self, name: str, build: Callable[[], Any]) -> Any:
        if name not in self._parts:
            self._parts[name] = build()
        return self._parts[name]

    def _state(self, q: Float[ndarray, "b j"], names: list[str]) -> Any:
        position = self._device.to_device(self._theirs(q, names))
        return self._types.JointState.from_position(position, joint_names=list(names))

    def _theirs(self, q: Float[ndarray, "b j"], names: list[str]) -> Float[ndarray, "b j"]:
        return q[:, [self._files.joints.index(name) for name in names]]

    def _ours(self, q: Float[ndarray, "b j"], names: list[str]) -> Float[ndarray, "b j"]:
        return q[:, [list(names).index(name) for name in self._files.joints]]


def _numpy(tensor: Any) -> ndarray:
    array: ndarray = np.asarray(tensor.detach().cpu().numpy())
    return array
