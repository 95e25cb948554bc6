"""Pictures of a MuJoCo scene, drawn the quick way."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco
import numpy as np
from jaxtyping import UInt8

from motus_adapters.sims.protocol import ImageSize


class Painter:
    """Draws pictures of a scene without shadows, reflections and multi-sampling.

    These cost ten times the rest on a CPU renderer.

    Args:
        model: The scene; its quality settings are changed.
        size: Of the pictures.
    """

    def __init__(self, model: mujoco.MjModel, size: ImageSize) -> None:
        model.vis.quality.shadowsize = 0
        model.vis.quality.offsamples = 0
        height, width = (size, size) if isinstance(size, int) else size
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._renderer = mujoco.Renderer(model, height, width)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0

    def __call__(self, data: mujoco.MjData, camera: str) -> UInt8[np.ndarray, "h w 3"]:
        """What a camera sees."""
        self._renderer.update_scene(data, camera=camera)
        picture: UInt8[np.ndarray, "h w 3"] = self._renderer.render()
        return picture

    def close(self) -> None:
        """Release the graphics context."""
        self._renderer.close()
