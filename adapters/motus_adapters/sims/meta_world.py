"""Meta-World's 50 tasks: a Sawyer whose hand is moved without turning.

The robot takes the absolute place of its hand (m, world frame) and the gripper's effort from -1
(open) to 1 (close). Meta-World itself takes steps of at most `MAX_MOVE` of a control target; the
difference to that target is what is sent.
"""

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

from motus_adapters.sims.drawing import Painter
from motus_adapters.sims.protocol import Observation
from motus_adapters.sims.versions import versions_of

MAX_MOVE = 0.01  # m a step and axis: action_scale of sawyer_xyz_env.py
WIDE = 0.1  # m between open fingers, as sawyer_xyz_env.py counts it
NOISE = 0.01  # m, spread of a push off the expert's way
CAMERAS = {"corner2": "corner2", "wrist": "gripperPOV"}
UPSIDE_DOWN = ("corner2",)


class MetaWorld:
    """One of the 50 tasks, with Meta-World's own expert."""

    card = "sawyer-metaworld"
    rate = 80.0
    cameras = tuple(CAMERAS)
    subgoals = ()
    reached = ()
    has_expert = True

    def __init__(self, name: str, task: str, instruction: str, image_size: int) -> None:
        self.name, self.instruction = name, instruction
        self.versions = versions_of("metaworld", "mujoco")
        env = self._env = ALL_V3_ENVIRONMENTS[task]()
        # What `metaworld.MT1` would set; the expert has to see the goal, and seeds have to count.
        env._set_task_called = True
        env._partially_observable = env._freeze_rand_vec = False
        env.seeded_rand_vec = True
        del env.sawyer_observation_space
        self.max_steps: int = env.max_path_length
        env.max_path_length = (
            2**31
        )  # it refuses to go on; when an episode ends is our loop's affair
        self._expert: Any = ENV_POLICY_MAP[task]
        self._plan: Any = None
        self._paint = Painter(env.model, image_size)
        self._seen: Float[np.ndarray, " 39"] = np.zeros(39)
        self._solved = False

    @property
    def success(self) -> bool:
        """Meta-World's own measure."""
        return self._solved

    def reset(self, seed: int) -> None:
        """Hand at home, objects and goal at places drawn from the seed."""
        self._env.seed(seed)
        self._seen, _ = self._env.reset()
        self._plan, self._solved = self._expert(), False

    def observe(self) -> Observation:
        """Two pictures, seven joint angles (rad) and the distance of the fingers, 1 wide open."""
        data = self._env.data
        images = {name: self._paint(data, camera) for name, camera in CAMERAS.items()}
        for name in UPSIDE_DOWN:
            images[name] = np.ascontiguousarray(images[name][::-1, ::-1])
        apart = data.body("rightclaw").xpos - data.body("leftclaw").xpos
        opening = np.clip(np.linalg.norm(apart) / WIDE, 0, 1)
        return Observation(images, np.append(data.qpos[:7], opening).astype(np.float32))

    def step(self, action: Float[np.ndarray, " 4"]) -> None:
        """Move the control target towards a place and set the gripper's effort."""
        move = np.clip((action[:3] - self._env.data.mocap_pos[0]) / MAX_MOVE, -1, 1)
        self._seen, _, _, _, told = self._env.step(np.append(move, action[3]))
        self._solved = bool(told["success"])

    def expert(self) -> Float[np.ndarray, " 4"]:
        """Meta-World's expert; the place is reachable within this step."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its gains are high; what it says is clipped
            told = self._plan.get_action(self._seen)
        move = MAX_MOVE * np.clip(told[:3], -1, 1)
        place = np.clip(
            self._env.data.mocap_pos[0] + move, self._env.mocap_low, self._env.mocap_high
        )
        return np.append(place, np.clip(told[3], -1, 1)).astype(np.float32)

    def disturb(self, generator: np.random.Generator) -> None:
        """Eight steps towards a point a few centimetres off home."""
        goal = self._env.data.mocap_pos[0] + generator.uniform(-0.06, 0.06, 3)
        for _ in range(8):
            self.step(np.append(goal, -1.0))

    def jitter(
        self, action: Float[np.ndarray, " 4"], generator: np.random.Generator
    ) -> Float[np.ndarray, " 4"]:
        """A push of the hand, unless the gripper closes."""
        pushed = action.copy()
        if action[3] <= 0:
            pushed[:3] += generator.normal(0, NOISE, 3)
        return pushed

    def close(self) -> None:
        """Release both renderers."""
        self._paint.close()
        self._env.close()


def make(name: str, task: str, instruction: str, image_size: int) -> MetaWorld:
    """Start a task."""
    return MetaWorld(name, task, instruction, image_size)
