"""Pictures of a robot from its card's cameras, fast on a CPU."""

import os
from types import TracebackType
from typing import Self

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from motus_embodiments.errors import MissingError, UsageError
from motus_embodiments.kinematics import Kinematics
from motus_embodiments.models import compile_spec, find_model, load_spec
from motus_embodiments.physics import mujoco
from motus_embodiments.schema import Camera, Card

View = UInt8[ndarray, "h w 3"]


class Renderer:
    """Draws canonical states; objects of the model's scene stay where the model puts them.

    Shadows, reflections and multi-sampling are off, which is about ten times faster on a CPU.
    Use it in a `with` block or call `close`.

    Raises:
        UsageError: The card has no camera that can be rendered.
        MissingError: The robot model or a way to draw is not here.
    """

    def __init__(self, card: Card, width: int, height: int) -> None:
        self.card = card
        self.cameras = tuple(c for c in card.cameras if c.model_camera or c.mount)
        if not self.cameras:
            raise UsageError(
                f"no camera of '{card.name}' can be rendered",
                hint="give a camera a model_camera or a mount in the card",
            )
        self._kinematics = Kinematics(card)
        self._model = _with_cameras(card)
        self._data = mujoco.MjData(self._model)
        self._ids = {camera.name: self._camera_id(camera) for camera in self.cameras}
        self._model.vis.quality.shadowsize = 0
        self._model.vis.quality.offsamples = 0
        self._model.vis.global_.offwidth = max(width, self._model.vis.global_.offwidth)
        self._model.vis.global_.offheight = max(height, self._model.vis.global_.offheight)
        try:
            self._renderer = mujoco.Renderer(self._model, height, width)
        except Exception as error:  # whatever the driver's own library raises
            raise MissingError(
                f"cannot draw with MUJOCO_GL={os.environ['MUJOCO_GL']}: {error}",
                hint="apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri; or libosmesa6 and "
                "MUJOCO_GL=osmesa; and import motus_embodiments before mujoco",
            ) from error
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0

    def render(self, state: Float[ndarray, " n"]) -> dict[str, View]:
        """One picture a camera, by the card's camera names, of a canonical state."""
        self._data.qpos[:] = self._kinematics.qpos(np.asarray(state)[None])[0]
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        views = {}
        for name, camera in self._ids.items():
            self._renderer.update_scene(self._data, camera=camera)
            views[name] = self._renderer.render()
        return views

    def close(self) -> None:
        """Give the drawing context back."""
        self._renderer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _camera_id(self, camera: Camera) -> int:
        name = camera.model_camera or camera.name
        index = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        if index < 0:
            known = ", ".join(self._model.camera(i).name for i in range(self._model.ncam))
            raise UsageError(
                f"the model of '{self.card.name}' has no camera '{name}'",
                hint=f"it has: {known or 'none; give the camera a mount in the card'}",
            )
        return int(index)


def _with_cameras(card: Card) -> mujoco.MjModel:
    """The card's model and the cameras that only the card has."""
    path = find_model(card)
    spec = load_spec(path)
    for camera in card.cameras:
        if camera.mount is None:
            continue
        body = spec.worldbody if camera.mount.body is None else spec.body(camera.mount.body)
        if body is None:
            raise UsageError(
                f"camera '{camera.name}' of '{card.name}' is mounted on '{camera.mount.body}', "
                f"which {path} does not have"
            )
        body.add_camera(
            name=camera.name,
            pos=camera.mount.position,
            quat=camera.mount.quaternion,
            fovy=camera.mount.fovy,
        )
    return compile_spec(spec, path)
