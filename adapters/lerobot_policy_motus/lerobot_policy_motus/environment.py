"""`--env.type=motus`: what `motus sim list` names, for LeRobot's commands.

These are the simulators that `motus record` and `motus eval` use, with the same cameras, numbers
and seeds; those that need an environment of their own run there. An observation tells its control
rate, so that a policy for another rate is refused.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from jaxtyping import Float, UInt8
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig

from motus_adapters import open_simulator
from motus_adapters.deployment.lerobot_files import IMAGES, POLICY_TYPE
from motus_embodiments import load_card

ACTION, STATE, RATE = "action", "observation.state", "control_rate"


@EnvConfig.register_subclass(POLICY_TYPE)
@dataclass
class MotusEnv(EnvConfig):  # type: ignore[misc]
    """One of our simulators.

    Attributes:
        task: As `motus sim list --tasks` names it.
        image_size: Side of the pictures, in pixels.
        episode_length: Steps after which an episode has failed; the simulator's own if left out.
    """

    task: str = "gym-hil:PandaPickCube"
    image_size: int = 128
    episode_length: int | None = None

    @property
    def gym_kwargs(self) -> dict[str, Any]:
        """Of one environment."""
        return {
            "task": self.task,
            "image_size": self.image_size,
            "episode_length": self.episode_length,
        }

    def create_envs(
        self, n_envs: int, use_async_envs: bool = False
    ) -> dict[str, dict[int, VectorEnv]]:
        """Start `n_envs` of them, and note what they observe."""
        kind = AsyncVectorEnv if use_async_envs and n_envs > 1 else SyncVectorEnv
        options = {"context": "forkserver"} if kind is AsyncVectorEnv else {}
        make = [partial(SimulatorEnv, **self.gym_kwargs)] * n_envs
        started = kind(make, autoreset_mode=AutoresetMode.SAME_STEP, **options)
        self._note(started.single_observation_space, started.single_action_space)
        self.fps = started.metadata["render_fps"]
        return {self.type: {0: started}}

    def _note(self, seen: gymnasium.spaces.Dict, done: gymnasium.spaces.Space[Any]) -> None:
        """Tell LeRobot the features, which it compares with the policy's."""
        self.features = {
            ACTION: PolicyFeature(FeatureType.ACTION, done.shape),
            STATE: PolicyFeature(FeatureType.STATE, seen["agent_pos"].shape),
        }
        for name, space in seen["pixels"].items():
            self.features[f"{IMAGES}{name}"] = PolicyFeature(FeatureType.VISUAL, space.shape)
        self.features_map = {name: name for name in self.features}


class SimulatorEnv(gymnasium.Env):  # type: ignore[misc]
    """A simulator behind gymnasium's interface; a solved episode ends.

    Args:
        task: Name of the simulator.
        image_size: Side of its pictures, in pixels.
        episode_length: Steps of an episode; its own if None.
    """

    render_mode = "rgb_array"

    def __init__(self, task: str, image_size: int, episode_length: int | None) -> None:
        self.task, self._simulator = task, open_simulator(task, image_size)
        self._simulator.reset(0)  # sizes of pictures and of numbers are not known before
        self.task_description = self._simulator.instruction
        self._max_episode_steps = episode_length or self._simulator.max_steps
        rate = round(self._simulator.rate)
        self.metadata = {"render_modes": [self.render_mode], "render_fps": rate}
        self._steps, seen = 0, self._observe()
        self.observation_space = gymnasium.spaces.Dict(
            {
                "pixels": gymnasium.spaces.Dict(
                    {
                        name: gymnasium.spaces.Box(0, 255, picture.shape, np.uint8)
                        for name, picture in seen["pixels"].items()
                    }
                ),
                "agent_pos": _any_numbers(len(seen["agent_pos"])),
                RATE: _any_numbers(1),
            }
        )
        self.action_space = _any_numbers(len(load_card(self._simulator.card).recorded_action))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin the episode of a seed, or one that is drawn."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**31)) if seed is None else seed
        self._simulator.reset(drawn)
        self._steps = 0
        return self._observe(), {"is_success": False}

    def step(
        self, action: Float[np.ndarray, " a"]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Carry out a native action; the reward is 1 when the task is solved."""
        self._simulator.step(action)
        self._steps += 1
        solved, over = self._simulator.success, self._steps >= self._max_episode_steps
        told = {"is_success": solved}
        return self._observe(), float(solved), solved, over and not solved, told

    def render(self) -> UInt8[np.ndarray, "h w 3"]:
        """The first camera's picture."""
        return self._picture

    def close(self) -> None:
        """Release the simulator."""
        self._simulator.close()

    def _observe(self) -> dict[str, Any]:
        seen = self._simulator.observe()
        self._picture = next(iter(seen.images.values()))
        return {
            "pixels": dict(seen.images),
            "agent_pos": np.asarray(seen.state, np.float64),
            RATE: np.array([self._simulator.rate]),
        }


def _any_numbers(count: int) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-np.inf, np.inf, (count,), np.float64)
