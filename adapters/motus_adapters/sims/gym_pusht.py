"""gym-pusht: a disc that pushes a T onto its outline, in two dimensions."""

from importlib import import_module

import cv2
import numpy as np
from jaxtyping import Float

from motus_adapters.sims.protocol import ImageSize, Observation
from motus_adapters.sims.versions import versions_of
from motus_embodiments import UsageError

CAMERA = "img"
DRAWN = 512  # px, the size of the plane


class PushT:
    """Push the T until it covers 95 % of its outline."""

    card = "pusht"
    rate = 10.0
    max_steps = 300
    cameras = (CAMERA,)
    has_expert = False

    def __init__(self, name: str, instruction: str, image_size: int) -> None:
        self.name, self.instruction, self._size = name, instruction, image_size
        self.versions = versions_of("gym-pusht", "pymunk")
        env = import_module("gym_pusht.envs.pusht").PushTEnv
        self._env = env(visualization_width=DRAWN, visualization_height=DRAWN)
        self._covered = 0.0

    @property
    def success(self) -> bool:
        """What gym-pusht itself measures."""
        return self._covered > self._env.success_threshold

    @property
    def signals(self) -> dict[str, float]:
        """The share of the outline that is covered."""
        return {"covered": self._covered}

    def reset(self, seed: int) -> None:
        """Disc and T at places drawn from the seed."""
        self._env.reset(seed=seed)
        self._env._last_action = None
        self._covered = 0.0

    def observe(self) -> Observation:
        """The plane from above, and where the disc is (px, x to the right and y down)."""
        # The environment's own picture would carry a mark at the last command, which a camera
        # does not see.
        drawn = self._env._get_img(self._env._draw(), DRAWN, DRAWN)
        picture = cv2.resize(drawn, (self._size, self._size), interpolation=cv2.INTER_AREA)
        return Observation({CAMERA: picture}, np.array(self._env.agent.position, np.float32))

    def step(self, action: Float[np.ndarray, " 2"]) -> None:
        """Set where the disc should go (px) and let 0.1 s pass."""
        *_, info = self._env.step(np.asarray(action, np.float64))
        self._covered = float(info["coverage"])

    def expert(self) -> Float[np.ndarray, " 2"]:
        """There is none."""
        raise UsageError(
            f"{self.name} has no scripted expert",
            hint="`motus sim list --tasks` shows which have one",
        )

    def disturb(self, generator: np.random.Generator) -> None:
        """Nothing: the start is random already."""

    def jitter(
        self, action: Float[np.ndarray, " 2"], generator: np.random.Generator
    ) -> Float[np.ndarray, " 2"]:
        """The action itself."""
        del generator
        return action

    def close(self) -> None:
        """Release the drawing surface."""
        self._env.close()


def make(name: str, task: str, instruction: str, image_size: ImageSize) -> PushT:
    """Start the one task there is.

    Raises:
        UsageError: The picture is to be no square, which the plane is.
    """
    del task
    if not isinstance(image_size, int):
        raise UsageError(f"{name} draws square pictures only", hint="give one number")
    return PushT(name, instruction, image_size)
