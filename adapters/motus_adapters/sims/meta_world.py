"""Meta-World's 50 tasks: a Sawyer whose hand is moved without turning.

Actions and states are Meta-World's own, and the picture is that of LeRobot's Meta-World, so that a
policy runs in either.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from metaworld.policies import ENV_POLICY_MAP

from motus_adapters.sims.drawing import Painter
from motus_adapters.sims.protocol import ImageSize, Observation
from motus_adapters.sims.versions import versions_of

MAX_MOVE = 0.01  # m a step and axis: action_scale of sawyer_xyz_env.py
CAMERA, PLACE = "corner2", (0.75, 0.075, 0.7)  # m; nearer than Meta-World's, as LeRobot has it
PUSH, FADE = 120.0, 0.9  # N that a push gains and the share that it keeps, each step
SIGNALS = ("near_object", "grasp_success", "grasp_reward", "in_place_reward", "obj_to_target")
UNTOLD = dict.fromkeys(SIGNALS, np.nan) | {"success": 0.0}  # before the first step
REACH, SETTLE = 8, 12  # steps to a random start, and to rest there


class MetaWorld:
    """One of the 50 tasks, with Meta-World's own expert."""

    card = "sawyer-metaworld"
    rate = 80.0
    cameras = (CAMERA,)
    has_expert = True

    def __init__(self, name: str, task: str, instruction: str, image_size: ImageSize) -> None:
        self.name, self.instruction = name, instruction
        self.versions = versions_of("metaworld", "mujoco")
        env = self._env = ALL_V3_ENVIRONMENTS[task]()
        # What `metaworld.MT1` would set; the expert has to see the goal, and seeds have to count.
        env._set_task_called = True
        env._partially_observable = env._freeze_rand_vec = False
        env.seeded_rand_vec = True
        del env.sawyer_observation_space
        self.max_steps: int = env.max_path_length
        env.max_path_length = 2**31  # it refuses to go on; when to end is our loop's affair
        self._expert: Any = ENV_POLICY_MAP[task]
        self._plan: Any = None
        env.model.camera(CAMERA).pos = PLACE
        self._paint = Painter(env.model, image_size)
        self._push = env.data.xfrc_applied[env.model.body("hand").id, :3]
        self._seen: Float[np.ndarray, " 39"] = np.zeros(39)
        self._told: Mapping[str, float] = UNTOLD
        self._way = np.nan

    @property
    def success(self) -> bool:
        """Meta-World's own measure."""
        return bool(self._told["success"])

    @property
    def signals(self) -> dict[str, float]:
        """What Meta-World says of a step, which differs from task to task; and `progress`.

        That is the share of the object's way to its goal that lies behind it.
        """
        told = {name: float(self._told[name]) for name in SIGNALS}
        return {**told, "progress": 1 - told["obj_to_target"] / self._way if self._way else 0.0}

    def reset(self, seed: int) -> None:
        """Hand at home, objects and goal at places drawn from the seed."""
        self._env.seed(seed)
        self._seen, _ = self._env.reset()
        self._plan = self._expert()
        self._told, self._way = UNTOLD, np.nan
        self._push[:] = 0

    def observe(self) -> Observation:
        """A picture; place of the hand (m) and distance of the fingers, 1 wide open."""
        picture = self._paint(self._env.data, CAMERA)[::-1, ::-1]  # the camera hangs upside down
        return Observation({CAMERA: np.ascontiguousarray(picture)}, self._seen[:4].astype("f4"))

    def step(self, action: Float[np.ndarray, " 4"]) -> None:
        """Move the place that the hand is drawn to (cm, at most 1), set the claws' effort."""
        self._seen, _, _, _, self._told = self._env.step(np.asarray(action, np.float64))
        if np.isnan(self._way):
            self._way = float(self._told["obj_to_target"])

    def expert(self) -> Float[np.ndarray, " 4"]:
        """What Meta-World's expert says, as far as it is carried out."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that its gains are high; what it says is clipped
            told = np.clip(self._plan.get_action(self._seen), -1, 1)
        env, place = self._env, self._env.data.mocap_pos[0]
        wanted = place + MAX_MOVE * told[:3]
        move = (np.clip(wanted, env.mocap_low, env.mocap_high) - place) / MAX_MOVE
        return np.append(move, told[3]).astype(np.float32)

    def disturb(self, generator: np.random.Generator) -> None:
        """To rest a few centimetres off home."""
        move = generator.uniform(-0.06, 0.06, 3) / MAX_MOVE / REACH
        for step in range(REACH + SETTLE):
            self.step(np.append(move if step < REACH else np.zeros(3), -1.0))

    def jitter(
        self, action: Float[np.ndarray, " 4"], generator: np.random.Generator
    ) -> Float[np.ndarray, " 4"]:
        """The action itself, while a force pushes the hand.

        Not the command: its steps add up, and a step that is carried out and not recorded would
        shift all that follow.
        """
        self._push[:] = FADE * self._push + generator.normal(0, PUSH, 3)
        return action

    def close(self) -> None:
        """Release both renderers."""
        self._paint.close()
        self._env.close()


def make(name: str, task: str, instruction: str, image_size: ImageSize) -> MetaWorld:
    """Start a task."""
    return MetaWorld(name, task, instruction, image_size)
