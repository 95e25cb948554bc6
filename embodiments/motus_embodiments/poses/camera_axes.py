"""The axes of a robot's cameras, along which what they see of a motion is the same for any robot.

All point to the right of the picture, up, and from the scene towards the camera.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.kinematics import Kinematics, base_pose
from motus_embodiments.physics import mujoco
from motus_embodiments.schema import Camera, Card


def head_axes(card: Card) -> Float[ndarray, "arms 3 3"] | None:
    """Turns from each arm's base frame to the axes of the head camera.

    None where the robot has no model, or no head camera that could be rendered.
    """
    turns = _turns(card, np.array([card.home()]), ["head"] * len(card.arms))
    return None if turns is None or np.isnan(turns).any() else turns[0]


def wrist_axes(card: Card, states: Float[ndarray, "n s"]) -> Float[ndarray, "n arms 3 3"] | None:
    """Turns from each arm's base frame to the axes of its wrist camera, which moves with the hand.

    NaN for an arm without a wrist camera that could be rendered; None where the robot has no model.

    Args:
        card: The robot.
        states: Canonical states.
    """
    return _turns(card, states, [f"{arm.side}_wrist" for arm in card.arms])


def _turns(
    card: Card, states: Float[ndarray, "n s"], roles: Sequence[str]
) -> Float[ndarray, "n arms 3 3"] | None:
    """From each arm's base to the camera whose role is named for it."""
    kinematics = Kinematics(card)
    model, data = kinematics.model, kinematics.data
    if model is None or data is None:
        return None
    cameras = {camera.role: camera for camera in card.cameras}
    turns = np.full((len(states), len(card.arms), 3, 3), np.nan)
    for at, qpos in enumerate(kinematics.qpos(states)):
        place(model, data, qpos)
        for arm, role in enumerate(roles):
            pose = camera_pose(model, data, cameras[role]) if role in cameras else None
            if pose is not None:
                turns[at, arm] = pose[1].T @ base_pose(data, kinematics.frames[arm])[0]
    return turns


def place(model: mujoco.MjModel, data: mujoco.MjData, qpos: Float[ndarray, " nq"]) -> None:
    """Put bodies and cameras where positions have them."""
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_camlight(model, data)


def camera_body(model: mujoco.MjModel, camera: Camera) -> int:
    """The body that carries a camera, 0 for the world; -1 if it cannot be rendered."""
    if camera.mount is not None:
        if camera.mount.body is None:
            return 0
        return int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, camera.mount.body))
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera.name_in_model)
    return -1 if index < 0 else int(model.cam_bodyid[index])


def camera_pose(
    model: mujoco.MjModel, data: mujoco.MjData, camera: Camera
) -> tuple[Float[ndarray, " 3"], Float[ndarray, "3 3"], float] | None:
    """Position, axes and tangent of half the field of view; None if it cannot be rendered."""
    body = camera_body(model, camera)
    if body < 0:
        return None
    if camera.mount is not None:
        mount = camera.mount
        axes = data.xmat[body].reshape(3, 3)
        matrix = np.zeros(9)
        mujoco.mju_quat2Mat(matrix, np.array(mount.quaternion) / np.linalg.norm(mount.quaternion))
        position = data.xpos[body] + axes @ np.array(mount.position)
        return position, axes @ matrix.reshape(3, 3), float(np.tan(np.radians(mount.fovy) / 2))
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera.name_in_model)
    half = float(np.tan(np.radians(model.cam_fovy[index]) / 2))
    return data.cam_xpos[index].copy(), data.cam_xmat[index].reshape(3, 3).copy(), half
