"""A picture of a robot at home: its frames drawn in, and what its cameras see."""

from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from motus_embodiments.cards import write_bytes
from motus_embodiments.coupling import subtree
from motus_embodiments.errors import MissingError
from motus_embodiments.kinematics import Kinematics
from motus_embodiments.physics import mujoco
from motus_embodiments.pictures.rendering import Renderer
from motus_embodiments.schema import Card

_SIZE = (480, 640)  # of the overview, pixels
_VIEW = (240, 320)  # of each camera's view
_COLOURS = np.eye(3)  # x red, y green, z blue
_FADED = (0.7, 0.7, 0.7, 0.15)
_CAMERA_COLOUR = np.array([1.0, 0.8, 0.1])


def save_portrait(card: Card, path: Path) -> tuple[str, ...]:
    """Write a PNG of the robot at home and give the names of the views in it.

    Each end-effector and base frame is three arrows: x red, y green, z blue; a camera of the
    model is a yellow arrow along its view. What is not the robot is faded.

    Raises:
        MissingError: The card has no model, its model is not here, or nothing can draw.
    """
    if card.model is None:
        raise MissingError(
            f"the card '{card.name}' has no robot model, so there is nothing to draw",
            hint="name a model in the card",
        )
    from matplotlib.figure import Figure

    views: dict[str, UInt8[ndarray, "h w 3"]] = {"at home": _overview(card)}
    if any(camera.model_camera or camera.mount for camera in card.cameras):
        with Renderer(card, _VIEW[1], _VIEW[0]) as renderer:
            roles = {camera.name: camera.role for camera in renderer.cameras}
            for name, view in renderer.render(np.array(card.home())).items():
                views[f"{name} ({roles[name]})"] = view.copy()
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    grid = figure.add_gridspec(max(len(views) - 1, 1), 3)
    for index, (title, view) in enumerate(views.items()):
        place = grid[:, :2] if index == 0 else grid[index - 1, 2]
        axes = figure.add_subplot(place)
        axes.imshow(view)
        axes.set_title(f"{card.name} {title}" if index == 0 else title, fontsize=9)
        axes.set_axis_off()
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_bytes(path, picture.getvalue())
    return tuple(views)


def _overview(card: Card) -> UInt8[ndarray, "h w 3"]:
    kinematics = Kinematics(card)
    model, data = kinematics.model, kinematics.data
    assert model is not None
    assert data is not None
    data.qpos[:] = kinematics.qpos(np.array([card.home()]))[0]
    mujoco.mj_forward(model, data)
    robot = _robot(card, model)
    _fade_the_rest(model, robot)
    places = data.xpos[sorted(robot)]
    low, high = places.min(axis=0) - 0.1, places.max(axis=0) + 0.1
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (low + high) / 2
    size = float(np.linalg.norm(high - low))
    camera.distance, camera.azimuth, camera.elevation = 1.3 * size, 140, -25
    model.vis.global_.offwidth = max(_SIZE[1], model.vis.global_.offwidth)
    model.vis.global_.offheight = max(_SIZE[0], model.vis.global_.offheight)
    try:
        renderer = mujoco.Renderer(model, *_SIZE)
    except Exception as error:  # whatever the driver's own library raises
        raise MissingError(
            f"cannot draw: {error}", hint="`motus doctor` says what drawing needs here"
        ) from error
    with renderer:
        renderer.update_scene(data, camera)
        for position, axes in _frames(kinematics):
            for axis, colour in zip(axes.T, _COLOURS, strict=True):
                _arrow(renderer.scene, position, position + 0.14 * size * axis, colour, size)
        for index in range(model.ncam):
            at, back = data.cam_xpos[index], data.cam_xmat[index].reshape(3, 3)[:, 2]
            _arrow(renderer.scene, at, at - 0.1 * size * back, _CAMERA_COLOUR, size)
        picture: UInt8[ndarray, "h w 3"] = renderer.render()
        return picture


def _robot(card: Card, model: mujoco.MjModel) -> set[int]:
    """Bodies of the arms and of what carries them."""
    bodies: set[int] = set()
    for arm in card.arms:
        first = int(model.joint(arm.joints[0].name).bodyid[0])
        bodies |= subtree(model, int(model.body_parentid[first]) or first)
    return bodies


def _fade_the_rest(model: mujoco.MjModel, robot: set[int]) -> None:
    """Let one see through walls and tables, and light robots that bring no light."""
    others = ~np.isin(model.geom_bodyid, sorted(robot))
    others &= model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE
    model.geom_matid[others] = -1
    model.geom_rgba[others] = _FADED
    model.vis.headlight.ambient[:] = np.maximum(model.vis.headlight.ambient, 0.35)
    model.vis.headlight.diffuse[:] = np.maximum(model.vis.headlight.diffuse, 0.5)


def _frames(
    kinematics: Kinematics,
) -> list[tuple[Float[ndarray, " 3"], Float[ndarray, "3 3"]]]:
    """World position and axes of each arm's end-effector and base."""
    data, found = kinematics.data, []
    assert data is not None
    for arm, frame in zip(kinematics.card.arms, kinematics.frames, strict=True):
        if arm.end_effector is not None:
            place = data.site_xpos if frame.is_site else data.xpos
            turn = data.site_xmat if frame.is_site else data.xmat
            found.append((place[frame.id], turn[frame.id].reshape(3, 3)))
        if frame.base >= 0:
            found.append((data.xpos[frame.base], data.xmat[frame.base].reshape(3, 3)))
    return found


def _arrow(
    scene: mujoco.MjvScene,
    start: Float[ndarray, " 3"],
    end: Float[ndarray, " 3"],
    colour: Float[ndarray, " 3"],
    size: float,
) -> None:
    if scene.ngeom >= scene.maxgeom:
        return
    geom = scene.geoms[scene.ngeom]
    rgba = np.append(colour, 1.0).astype(np.float32)
    kind = mujoco.mjtGeom.mjGEOM_ARROW
    mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), rgba)
    mujoco.mjv_connector(geom, kind, 0.006 * size, start, end)
    geom.emission = 0.6
    scene.ngeom += 1
