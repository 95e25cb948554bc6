"""robosuite's single-arm tasks: one table, six arms, absolute joint targets.

The robot takes its joint angles (rad) and the gripper's opening, 0 closed to 1 open, so that a
task's numbers are those of the robot's own card. The expert for Lift is ours; robosuite has none.
"""

import logging
import os
from importlib import import_module
from importlib.metadata import version
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")

import numpy as np

Array = np.ndarray
RATE = 20.0  # Hz, robosuite's default
MAX_STEPS = {"Lift": 200, "Stack": 300, "Door": 300, "NutAssemblySquare": 400, "PickPlaceCan": 400}
CAMERAS = ("frontview", "robot0_eye_in_hand")  # agentview cuts the arm off
SETTLE = 30  # steps in which any of the grippers opens or closes
HOVER, LIFT = 0.10, 0.15  # m above the cube's centre, above its rest
NEAR = 0.012  # m
CLOSE_STEPS = 8
MAX_MOVE = 0.04  # m a step
DAMPING = 0.02  # of the least-squares inverse
NOISE = 0.01  # rad, spread of a push off the expert's way


class RobosuiteTask:
    """A task for an arm."""

    def __init__(self, task: str, robot: str, image_size: int) -> None:
        suite = import_module("robosuite")
        self._mujoco = import_module("mujoco")
        logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
        self._env = suite.make(
            task,
            robots=robot,
            controller_configs=joint_targets(robot),
            has_renderer=False,
            has_offscreen_renderer=False,
            use_camera_obs=False,
            control_freq=RATE,
            horizon=2**31,
            ignore_done=True,
            hard_reset=False,
            seed=0,
        )
        self._env.reset()
        self._arm = self._env.robots[0]
        self._gripper = self._arm.gripper["right"]
        model, sim = self._env.sim.model, self._env.sim
        self._model, self._data = model._model, sim.data._data
        self._joints = list(self._arm._ref_joint_pos_indexes)
        self._dofs = list(self._arm._ref_joint_vel_indexes)
        self._site = model.site_name2id(self._gripper.important_sites["grip_site"])
        names = self._gripper.joints
        self._fingers = [model.get_joint_qpos_addr(name) for name in names]
        self._free_waist()
        self._renderer = self._painter(image_size)
        self._is_lift = task == "Lift"
        self._closed, self._open = (self._settled(opening) for opening in (0.0, 1.0))
        self.about = {
            "rate": RATE,
            "max_steps": MAX_STEPS[task],
            "cameras": CAMERAS,
            "subgoals": ("grasped", "lifted") if self._is_lift else (),
            "has_expert": self._is_lift,
            "versions": {name: version(name) for name in ("robosuite", "mujoco")},
        }
        self.reached: list[str] = []

    @property
    def success(self) -> bool:
        """What robosuite itself measures."""
        return bool(self._env._check_success())

    def reset(self, seed: int) -> None:
        """Arm and objects at places drawn from the seed."""
        before = np.random.get_state()
        np.random.seed(seed % 2**32)
        generator = np.random.default_rng(seed)
        self._env.rng = generator
        for part in (*self._env.robots, *samplers(self._env.placement_initializer)):
            part.rng = generator
        self._env.reset()
        np.random.set_state(before)
        self.reached, self._grasping = [], 0
        self._upright = self._data.site_xmat[self._site].reshape(3, 3).copy()
        self._rest = float(self._cube[2]) if self._is_lift else 0.0

    def observe(self) -> dict[str, Array]:
        """Two pictures, the joint angles and the measured opening."""
        seen = {}
        for camera in CAMERAS:
            self._renderer.update_scene(self._data, camera=camera, scene_option=self._shown)
            seen[camera] = self._renderer.render().copy()
        fingers, stroke = self._data.qpos[self._fingers], self._open - self._closed
        opening = np.clip((fingers - self._closed) @ stroke / (stroke @ stroke), 0, 1)
        state = np.append(self._data.qpos[self._joints], opening)
        return {**seen, "state": state.astype(np.float32)}

    def step(self, action: Array) -> None:
        """Set the joint targets and the gripper, and let 50 ms pass."""
        # robosuite counts a gripper from -1 open to 1 closed.
        self._env.step(np.append(action[:-1], 1 - 2 * np.clip(action[-1], 0, 1)))
        if self._is_lift and "lifted" not in self.reached:
            held = self._env._check_grasp(gripper=self._gripper, object_geoms=self._env.cube)
            if held and "grasped" not in self.reached:
                self.reached.append("grasped")
            if held and self._cube[2] > self._rest + 0.01:
                self.reached.append("lifted")

    def expert(self) -> Array:
        """Above the cube, down, close, up."""
        hand, cube = self._data.site_xpos[self._site], self._cube
        over = float(np.linalg.norm(hand[:2] - cube[:2])) < NEAR
        wanted = np.array([*cube[:2], cube[2] + (0.0 if over else HOVER)])
        if self._grasping or (over and abs(hand[2] - cube[2]) < NEAR):
            self._grasping += 1
            wanted = hand.copy()
            if self._grasping > CLOSE_STEPS:
                wanted[2] = self._rest + LIFT
        move = wanted - hand
        move *= min(1.0, MAX_MOVE / max(1e-9, float(np.linalg.norm(move))))
        return np.append(self._towards(move), 0.0 if self._grasping else 1.0)

    def disturb(self, generator: np.random.Generator) -> None:
        """Four steps towards a point a few centimetres off home."""
        offset = generator.uniform((-0.05, -0.08, -0.04), (0.05, 0.08, 0.04)) / 4
        for _ in range(4):
            self.step(np.append(self._towards(offset), 1.0))

    def jitter(self, action: Array, generator: np.random.Generator) -> Array:
        """A push of all joints, until the gripper closes."""
        pushed = action.copy()
        if action[-1] > 0.5:
            pushed[:-1] += generator.normal(0, NOISE, len(action) - 1)
        return pushed

    def close(self) -> None:
        """Release renderer and physics."""
        self._renderer.close()
        self._env.close()

    @property
    def _cube(self) -> Array:
        return self._data.body("cube_main").xpos.copy()

    def _towards(self, move: Array) -> Array:
        """Joint angles that bring the hand by `move` (m) nearer, and upright again."""
        place, turn = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        self._mujoco.mj_jacSite(self._model, self._data, place, turn, self._site)
        jacobian = np.concatenate([place, turn])[:, self._dofs]
        now = self._data.site_xmat[self._site].reshape(3, 3)
        # Half the sum of the axes' cross products: the small rotation from `now` to upright.
        lean = 0.5 * sum(np.cross(now[:, i], self._upright[:, i]) for i in range(3))
        error = np.concatenate([move, lean])
        square = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        change = jacobian.T @ np.linalg.solve(square, error)
        return self._data.qpos[self._joints] + change

    def _settled(self, opening: float) -> Array:
        """Finger positions of the empty gripper when open or closed."""
        self.reached, self._rest = ["lifted"], 0.0
        angles = self._data.qpos[self._joints].copy()
        for _ in range(SETTLE):
            self.step(np.append(angles, opening))
        return self._data.qpos[self._fingers].copy()

    def _free_waist(self) -> None:
        """Let Sawyer turn: its first link rubs against its base, and that holds its waist fast."""
        names = [self._model.geom(i).name for i in range(self._model.ngeom)]
        if "robot0_base_col" in names:
            base = names.index("robot0_base_col")
            self._model.geom_contype[base] = self._model.geom_conaffinity[base] = 0

    def _painter(self, size: int) -> Any:
        """A renderer without shadows, reflections, multi-sampling and collision shapes."""
        mujoco, model = self._mujoco, self._model
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = size
        renderer = mujoco.Renderer(model, size, size)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[flag] = 0
        self._shown = mujoco.MjvOption()
        self._shown.geomgroup[0] = 0
        return renderer


def joint_targets(robot: str) -> dict[str, Any]:
    """The configuration that robosuite has for an arm, with absolute joint targets."""
    controllers = import_module("robosuite.controllers")
    config: dict[str, Any] = controllers.load_composite_controller_config(
        controller="BASIC", robot=robot
    )
    right = config["body_parts"]["right"]
    keep = ("kp", "damping_ratio", "impedance_mode", "kp_limits", "damping_ratio_limits")
    config["body_parts"] = {
        "right": {
            **{key: right[key] for key in keep},
            "type": "JOINT_POSITION",
            "input_type": "absolute",
            "input_max": 1,
            "input_min": -1,
            "output_max": 0.05,
            "output_min": -0.05,
            "qpos_limits": None,
            "interpolation": None,
            "ramp_ratio": 0.2,
            "gripper": right["gripper"],
        }
    }
    return config


def samplers(sampler: Any) -> list[Any]:
    """A placement sampler and those inside it."""
    if sampler is None:
        return []
    inner = getattr(sampler, "samplers", {})
    return [sampler, *(s for part in inner.values() for s in samplers(part))]


def make(task: str, robot: str, image_size: int) -> RobosuiteTask:
    """Start a task for an arm."""
    return RobosuiteTask(task, robot, image_size)
