"""robosuite's tasks: a table, one arm or two, absolute joint targets.

The robot takes, for each arm, its joint angles (rad) and the gripper's opening, 0 closed to 1 open,
so that a task's numbers are those of the robot's own card. Two robots are given as `Panda+Panda`:
the first is the left arm, which is where the front camera sees it.
"""

import logging
import os
import runpy
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")

import numpy as np

Array = np.ndarray
RATE = 20.0  # Hz, robosuite's default
FRONT = "frontview"  # agentview cuts the arm off
SETTLE = 30  # steps in which a gripper opens or closes
SLOW = {"Jaco": 300}  # steps; its three fingers take so long that no expert grasps with them
NOISE = 0.01  # rad, spread of a push off the expert's way


def read(script: str, name: str) -> Any:
    """What a script beside this one has under a name."""
    return runpy.run_path(str(Path(__file__).with_name(script)))[name]


Arm, TASKS = read("robosuite_arm.py", "Arm"), read("robosuite_tasks.py", "TASKS")
EXPERTS = read("robosuite_experts.py", "EXPERTS") | read("robosuite_pairs.py", "EXPERTS")


class RobosuiteTask:
    """A task for a robot, or for two."""

    def __init__(self, task: str, robot: str, image_size: int) -> None:
        suite = import_module("robosuite")
        self._mujoco = import_module("mujoco")
        logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
        robots = robot.split("+")
        with seeded_generators():
            self.env = suite.make(
                task,
                robots=robots if len(robots) > 1 else robot,
                controller_configs=[joint_targets(name) for name in robots],
                has_renderer=False,
                has_offscreen_renderer=False,
                use_camera_obs=False,
                control_freq=RATE,
                horizon=2**31,
                ignore_done=True,
                hard_reset=False,
                seed=0,
            )
            self.env.reset()
        self._model, self._data = self.env.sim.model._model, self.env.sim.data._data
        self.arms = [
            Arm(self.env.sim, part, side) for part in self.env.robots for side in sides(part)
        ]
        self._cameras = (FRONT, *eyes(self.env.robots))
        self._free_waists()
        self._renderer = self._painter(image_size)
        self._task = TASKS[task]
        self._scripts = EXPERTS.get(task, ())
        steps = SLOW.get(robot, SETTLE)
        ends = self._settled(0.0, steps), self._settled(1.0, steps)
        for arm, closed, opened in zip(self.arms, *ends, strict=True):
            arm.closed, arm.open = closed, opened
        self.about = {
            "rate": RATE,
            "max_steps": self._task.steps,
            "cameras": self._cameras,
            "versions": {name: version(name) for name in ("robosuite", "mujoco")},
        }
        self.signals: dict[str, float] = {}

    @property
    def success(self) -> bool:
        """What robosuite itself measures."""
        return bool(self.env._check_success())

    def reset(self, seed: int) -> None:
        """Arms and objects at places drawn from the seed."""
        before = np.random.get_state()
        np.random.seed(seed % 2**32)
        generator = np.random.default_rng(seed)
        self.env.rng = generator
        things = [thing for thing in self.env.model.mujoco_objects if hasattr(thing, "rng")]
        for part in (*self.env.robots, *samplers(self.env.placement_initializer), *things):
            part.rng = generator
        self.env.reset()
        np.random.set_state(before)
        self._start = self._data.xpos.copy()
        self._measure()
        for arm in self.arms:
            arm.rest()
        self._plans = [
            script(self, arm) for script, arm in zip(self._scripts, self.arms, strict=False)
        ]

    def observe(self) -> dict[str, Array]:
        """Pictures; joint angles and opening of each arm."""
        seen = {}
        for camera in self._cameras:
            self._renderer.update_scene(self._data, camera=camera, scene_option=self._shown)
            seen[camera] = self._renderer.render().copy()
        state = np.concatenate([arm.state() for arm in self.arms])
        return {**seen, "state": state.astype(np.float32)}

    def step(self, action: Array) -> None:
        """Set the targets of joints and grippers, let 50 ms pass, measure."""
        self._advance(action)
        self._measure()

    def expert(self) -> Array:
        """The next action of the task's scripts, one for each arm."""
        return np.concatenate([next(plan) for plan in self._plans])

    def disturb(self, generator: np.random.Generator) -> None:
        """Four steps towards a point a few centimetres off home."""
        offsets = generator.uniform((-0.05, -0.08, -0.04), (0.05, 0.08, 0.04), (len(self.arms), 3))
        for _ in range(4):
            moved = [
                np.append(arm.towards(offset / 4, np.eye(3)), 1.0)
                for arm, offset in zip(self.arms, offsets, strict=True)
            ]
            self.step(np.concatenate(moved))

    def jitter(self, action: Array, generator: np.random.Generator) -> Array:
        """A push of all joints of an arm, until its gripper closes."""
        pushed, at = action.copy(), 0
        for arm in self.arms:
            if action[at + arm.width - 1] > 0.5:
                pushed[at : at + arm.width - 1] += generator.normal(0, NOISE, arm.width - 1)
            at += arm.width
        return pushed

    def scene(self) -> str:
        """Arms, table and objects as MJCF; the meshes stay where robosuite's package has them."""
        tree = ElementTree.fromstring(self.env.sim.model.get_xml())
        for geom in tree.iter("geom"):
            if geom.get("group", "0") == "0":  # collision shapes, which nobody is to see
                geom.set("group", "3")
        return ElementTree.tostring(tree, encoding="unicode")

    def close(self) -> None:
        """Release renderer and physics."""
        self._renderer.close()
        self.env.close()

    # What the signals and the scripts ask for.

    def holds(self, thing: Any) -> bool:
        """Whether any gripper has an object between its fingers."""
        return any(
            self.env._check_grasp(gripper=arm.gripper, object_geoms=thing) for arm in self.arms
        )

    def risen(self, body: str) -> float:
        """How far a body has come up since the episode began, m."""
        number = self._model.body(body).id
        return float(self._data.xpos[number, 2] - self._start[number, 2])

    def joint(self, name: str) -> float:
        """Where a joint is."""
        return float(self._data.joint(name).qpos[0])

    def place(self, body: str) -> Array:
        """Where a body is, m."""
        return self._data.body(body).xpos.copy()

    def frame(self, body: str) -> Array:
        """The axes of a body."""
        return self._data.body(body).xmat.reshape(3, 3).copy()

    def site(self, name: str) -> Array:
        """Where a site is, m."""
        return self._data.site(name).xpos.copy()

    def turn(self, body: str) -> float:
        """How far a body is turned about the vertical, rad."""
        across = self.frame(body)[:, 0]
        return float(np.arctan2(across[1], across[0]))

    def handle(self) -> Array:
        """The middle of the door's handle, m."""
        return self._data.geom("Door_handle").xpos.copy()

    def axle(self) -> Array:
        """What the door's handle turns about, level with where it is held, m."""
        place = self._data.body("Door_latch").xpos.copy()
        return place + self.outward() * float((self.handle() - place) @ self.outward())

    def outward(self) -> Array:
        """The way that the door's handle goes when it opens: across the door, to the robot."""
        return -self.frame("Door_door")[:, 1]

    def rotation(self, vector: Array) -> Array:
        """The rotation about a vector by its length, rad."""
        quaternion, matrix = np.zeros(4), np.zeros(9)
        angle = float(np.linalg.norm(vector))
        self._mujoco.mju_axisAngle2Quat(quaternion, vector / max(angle, 1e-12), angle)
        self._mujoco.mju_quat2Mat(matrix, quaternion)
        return matrix.reshape(3, 3)

    def _advance(self, action: Array) -> None:
        """Tell every arm its part of the action; of one robot's arms, the left one comes first."""
        told: dict[int, dict[str, Array]] = {id(robot): {} for robot in self.env.robots}
        at = 0
        for arm in self.arms:
            told[id(arm.robot)] |= arm.command(action[at : at + arm.width])
            at += arm.width
        vectors = [robot.create_action_vector(told[id(robot)]) for robot in self.env.robots]
        self.env.step(np.concatenate(vectors))

    def _measure(self) -> None:
        self.signals = {name: float(of(self)) for name, of in self._task.signals.items()}

    def _settled(self, opening: float, steps: int) -> list[Array]:
        """Finger positions of the empty grippers when open or closed."""
        still = [np.append(self._data.qpos[arm.joints], opening) for arm in self.arms]
        for _ in range(steps):
            self._advance(np.concatenate(still))
        return [self._data.qpos[arm.fingers].copy() for arm in self.arms]

    def _free_waists(self) -> None:
        """Let Sawyer turn: its first link rubs against its base, and that holds its waist fast."""
        for number in range(self._model.ngeom):
            if self._model.geom(number).name in ("robot0_base_col", "robot1_base_col"):
                self._model.geom_contype[number] = self._model.geom_conaffinity[number] = 0

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


@contextmanager
def seeded_generators() -> Iterator[None]:
    """While a scene is made: robosuite's hammer draws its size from a generator of its own."""
    real = np.random.default_rng
    np.random.default_rng = lambda seed=None: real(0 if seed is None else seed)
    try:
        yield
    finally:
        np.random.default_rng = real


def sides(robot: Any) -> list[str]:
    """The names of a robot's arms, the left one first."""
    return sorted(robot.arms)


def eyes(robots: list[Any]) -> list[str]:
    """The cameras on the hands, in the order of the arms."""
    if len(robots) == 1 and len(robots[0].arms) == 2:
        return [f"robot0_{side}_eye_in_hand" for side in sides(robots[0])]
    return [f"robot{number}_eye_in_hand" for number in range(len(robots))]


def joint_targets(robot: str) -> dict[str, Any]:
    """The configuration that robosuite has for a robot, with absolute joint targets."""
    controllers = import_module("robosuite.controllers")
    utilities = import_module("robosuite.utils.robot_utils")
    config: dict[str, Any] = controllers.load_composite_controller_config(
        controller="BASIC", robot=robot
    )
    keep = ("kp", "damping_ratio", "impedance_mode", "kp_limits", "damping_ratio_limits")
    parts = config["body_parts"]
    config["body_parts"] = {
        side: {
            **{key: parts[side][key] for key in keep},
            "type": "JOINT_POSITION",
            "input_type": "absolute",
            "input_max": 1,
            "input_min": -1,
            "output_max": 0.05,
            "output_min": -0.05,
            "qpos_limits": None,
            "interpolation": None,
            "ramp_ratio": 0.2,
            "gripper": parts[side]["gripper"],
        }
        for side in (("right", "left") if utilities.check_bimanual(robot) else ("right",))
    }
    return config


def samplers(sampler: Any) -> list[Any]:
    """A placement sampler and those inside it."""
    if sampler is None:
        return []
    inner = getattr(sampler, "samplers", {})
    return [sampler, *(s for part in inner.values() for s in samplers(part))]


def make(task: str, robot: str, image_size: int) -> RobosuiteTask:
    """Start a task for a robot."""
    return RobosuiteTask(task, robot, image_size)
