"""Pictures of a robot from its card's cameras, fast on a CPU.

A software renderer spends its time on triangles, not on pixels. So meshes lose the triangles that
no pixel would show, and what lies outside a camera's view is not drawn.
"""

import os
from types import TracebackType
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from motus_embodiments.errors import MissingError, UsageError
from motus_embodiments.kinematics import Kinematics
from motus_embodiments.physics import mujoco
from motus_embodiments.pictures.appearance import Appearance, Dresser, furnish
from motus_embodiments.pictures.surfaces import Surface
from motus_embodiments.robot_models.finding import compile_spec, find_model, load_card_spec
from motus_embodiments.schema import Camera, Card

View = UInt8[ndarray, "h w 3"]

_DETAIL = (
    0.128  # m over the picture's height in pixels: 1 mm at 128, half a pixel at a hand's width
)
_HIDDEN = 5  # group of the geoms that a camera does not see; MuJoCo draws it only if asked to


class Renderer:
    """Draws canonical states; objects of the model's scene stay where the model puts them.

    Shadows, reflections and multi-sampling are off. Use it in a `with` block or call `close`.

    Raises:
        UsageError: The card has no camera that can be rendered.
        MissingError: The robot model or a way to draw is not here.
    """

    def __init__(
        self,
        card: Card,
        width: int,
        height: int,
        kinematics: Kinematics | None = None,
        appearance: Appearance | None = None,
    ) -> None:
        """Set up for pictures of one size.

        Args:
            card: The robot.
            width: Of the pictures.
            height: Of the pictures.
            kinematics: Of the card; saves loading its model.
            appearance: What may be drawn otherwise than in the model; see `dress`.
        """
        self.card = card
        self.cameras = tuple(c for c in card.cameras if c.model_camera or c.mount)
        if not self.cameras:
            raise UsageError(
                f"no camera of '{card.name}' can be rendered",
                hint="give a camera a model_camera or a mount in the card",
            )
        self._kinematics = kinematics or Kinematics(card)
        self._model = _with_cameras(card, appearance or Appearance())
        self._dresser = Dresser(self._model, appearance or Appearance())
        self.dress(0)
        _thin_meshes(self._model, _DETAIL / height)
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
        self._groups = self._model.geom_group.copy()
        self._aspect = width / height
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = 0

    def dress(self, index: int) -> None:
        """Give the scene the looks of trajectory `index`, as the appearance draws them."""
        self._dresser.dress(index)

    def render(self, state: Float[ndarray, " n"]) -> dict[str, View]:
        """One picture a camera, by the card's camera names, of a canonical state."""
        self._pose(state)
        views = {}
        for name, camera in self._ids.items():
            self._look_through(camera)
            views[name] = self._renderer.render()
        return views

    def surfaces(self, state: Float[ndarray, " n"]) -> dict[str, Surface]:
        """What each camera sees in that state, for `true_flow`; costs two pictures a camera.

        Skins, flexes and tendons count as parts of the world that stand still.
        """
        self._pose(state)
        positions = self._data.xpos.copy()
        rotations = self._data.xmat.reshape(-1, 3, 3).copy()
        views = {}
        for name, camera in self._ids.items():
            self._look_through(camera)
            self._renderer.enable_depth_rendering()
            depth = self._renderer.render()
            self._renderer.enable_segmentation_rendering()
            shown, kind = np.moveaxis(self._renderer.render(), -1, 0)
            self._renderer.disable_segmentation_rendering()
            body = np.zeros(depth.shape, np.int32)
            for sort, owner in (
                (mujoco.mjtObj.mjOBJ_GEOM, self._model.geom_bodyid),
                (mujoco.mjtObj.mjOBJ_SITE, self._model.site_bodyid),
            ):
                own = kind == int(sort)  # an enum would be compared with pixel by pixel
                body[own] = owner[shown[own]]
            depth[shown < 0] = np.inf
            focal, centre = self._lens()
            views[name] = Surface(
                depth,
                body,
                focal,
                centre,
                self._data.cam_xpos[camera].copy(),
                # MuJoCo's camera looks along its -z, with y up.
                self._data.cam_xmat[camera].reshape(3, 3) * (1, -1, -1),
                positions,
                rotations,
            )
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

    def _pose(self, state: Float[ndarray, " n"]) -> None:
        self._data.qpos[:] = self._kinematics.qpos(np.asarray(state)[None])[0]
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _look_through(self, camera: int) -> None:
        out_of_view = _out_of_view(self._model, self._data, camera, self._aspect)
        self._model.geom_group[:] = np.where(out_of_view, _HIDDEN, self._groups)
        self._renderer.update_scene(self._data, camera=camera)

    def _lens(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Focal lengths and optical centre in pixels of the camera looked through."""
        width, height = self._renderer.width, self._renderer.height
        lens = self._renderer.scene.camera[0]
        tall = lens.frustum_top - lens.frustum_bottom
        # A camera with a sensor of its own has a width, the half of it; else it fits the picture.
        wide = 2 * lens.frustum_width or tall * self._aspect
        focal = (lens.frustum_near * width / wide, lens.frustum_near * height / tall)
        across = 0.5 - lens.frustum_center / wide
        return focal, (width * across, height * lens.frustum_top / tall)

    def _camera_id(self, camera: Camera) -> int:
        name = camera.name_in_model
        index = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        if index < 0:
            known = ", ".join(self._model.camera(i).name for i in range(self._model.ncam))
            raise UsageError(
                f"the model of '{self.card.name}' has no camera '{name}'",
                hint=f"it has: {known or 'none; give the camera a mount in the card'}",
            )
        return int(index)


def _out_of_view(
    model: mujoco.MjModel, data: mujoco.MjData, camera: int, aspect: float
) -> Bool[ndarray, " g"]:
    """Geoms whose bounding sphere lies outside a camera's view; planes have none and stay."""
    at = (data.geom_xpos - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3)
    radius, depth = model.geom_rbound, -at[:, 2]
    out: Bool[ndarray, " g"] = depth < -radius
    up = np.tan(np.radians(model.cam_fovy[camera]) / 2)
    for axis, half in ((0, up * aspect), (1, up)):
        # Distance from the plane through the camera that bounds the view on this side.
        out |= (np.abs(at[:, axis]) - half * depth) / np.hypot(1, half) > radius
    return out & (radius > 0)


def _thin_meshes(model: mujoco.MjModel, cell: float) -> None:
    """Merge the vertices within each cube of `cell` m; drop the triangles that this flattens.

    Vertex clustering (Rossignac and Borrel 1993), in place. Normals belong to corners, so that
    edges stay sharp. Collisions use hulls of their own and are not touched.
    """
    for mesh in range(model.nmesh):
        at = int(model.mesh_vertadr[mesh])
        vertices = model.mesh_vert[at : at + model.mesh_vertnum[mesh]]
        start, count = int(model.mesh_faceadr[mesh]), int(model.mesh_facenum[mesh])
        cubes = np.floor(vertices / cell).astype(np.int64)
        _, first, cube_of = np.unique(cubes, axis=0, return_index=True, return_inverse=True)
        faces = first[cube_of][model.mesh_face[start : start + count]]
        ordered = np.sort(faces, axis=1)
        whole = (np.diff(ordered, axis=1) > 0).all(axis=1)
        once = np.zeros(count, bool)
        once[np.unique(ordered, axis=0, return_index=True)[1]] = True
        kept = np.flatnonzero(whole & once)
        if len(kept) == 0:
            continue
        for array in (model.mesh_facenormal, model.mesh_facetexcoord):
            array[start : start + len(kept)] = array[start + kept]
        model.mesh_face[start : start + len(kept)] = faces[kept]
        model.mesh_facenum[mesh] = len(kept)


def _with_cameras(card: Card, appearance: Appearance) -> mujoco.MjModel:
    """The card's model, the cameras that only the card has, and what the appearance adds."""
    path = find_model(card)
    spec = load_card_spec(card)
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
            name=camera.name_in_model,
            pos=camera.mount.position,
            quat=camera.mount.quaternion,
            fovy=camera.mount.fovy,
        )
    bases = [spec.body(arm.base) for arm in card.arms if arm.base]
    furnish(spec, appearance, min((float(base.pos[2]) for base in bases if base), default=0.0))
    return compile_spec(spec, path)
