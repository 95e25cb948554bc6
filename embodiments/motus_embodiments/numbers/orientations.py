"""How recordings write an orientation, to rotation vectors and back."""

from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.errors import DataError
from motus_embodiments.numbers.rotations import to_matrix, to_vector

Orientation = Literal[
    "rotation_vector", "quaternion_wxyz", "quaternion_xyzw", "rpy", "rot6d", "rot6d_rows"
]

# Names of the numbers of each form, in the order in which they stand in a recording.
NAMES: dict[Orientation, tuple[str, ...]] = {
    "rotation_vector": ("rx", "ry", "rz"),
    "quaternion_wxyz": ("qw", "qx", "qy", "qz"),
    "quaternion_xyzw": ("qx", "qy", "qz", "qw"),
    "rpy": ("roll", "pitch", "yaw"),
    "rot6d": ("r00", "r10", "r20", "r01", "r11", "r21"),
    "rot6d_rows": ("r00", "r01", "r02", "r10", "r11", "r12"),
}

_SHORT = 1e-6  # a quaternion or an axis shorter than this has no direction


def from_native(values: Float[ndarray, "... k"], form: Orientation) -> Float[ndarray, "... 3"]:
    """Rotation vectors (rad) of orientations written as `form`.

    rpy are roll, pitch and yaw about fixed axes in rad, R = Rz(yaw) Ry(pitch) Rx(roll), as in
    URDF. rot6d is the matrix's first two columns one after the other (Zhou et al. 2019),
    rot6d_rows its first two rows (pytorch3d and diffusion_policy); both are made orthogonal, and
    quaternions are made of length one. Rotation vectors are left as they are.

    Raises:
        DataError: A quaternion or an axis of length zero.
    """
    values = np.asarray(values, np.float64)
    match form:
        case "rotation_vector":
            return values
        case "quaternion_wxyz":
            return to_vector(_quaternion_matrix(values))
        case "quaternion_xyzw":
            return to_vector(_quaternion_matrix(np.roll(values, 1, axis=-1)))
        case "rpy":
            roll, pitch, yaw = (values[..., i, None] * np.eye(3)[i] for i in range(3))
            return to_vector(to_matrix(yaw) @ to_matrix(pitch) @ to_matrix(roll))
        case "rot6d" | "rot6d_rows":
            first, second = _unit(values[..., :3]), values[..., 3:]
            second = _unit(second - (first * second).sum(-1, keepdims=True) * first)
            matrix = np.stack([first, second, np.cross(first, second)], axis=-2)
            return to_vector(matrix if form == "rot6d_rows" else np.swapaxes(matrix, -1, -2))


def to_native(vector: Float[ndarray, "... 3"], form: Orientation) -> Float[ndarray, "... k"]:
    """Inverse of `from_native`.

    Of the two quaternions of an orientation it gives the one with w >= 0, and of its roll, pitch
    and yaw those with |pitch| <= pi/2 (straight up or down, roll is 0).
    """
    vector = np.asarray(vector, np.float64)
    match form:
        case "rotation_vector":
            return vector
        case "quaternion_wxyz":
            return _quaternion(vector)
        case "quaternion_xyzw":
            return np.roll(_quaternion(vector), -1, axis=-1)
        case "rpy":
            return _rpy(to_matrix(vector))
        case "rot6d":
            matrix = np.swapaxes(to_matrix(vector), -1, -2)
            return matrix[..., :2, :].reshape(*vector.shape[:-1], 6)
        case "rot6d_rows":
            return to_matrix(vector)[..., :2, :].reshape(*vector.shape[:-1], 6)


def _unit(values: Float[ndarray, "... k"]) -> Float[ndarray, "... k"]:
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    if (length < _SHORT).any():
        raise DataError(
            "an orientation is all zeros, which is no orientation",
            hint="frames without a pose cannot be learned from; drop them",
        )
    return values / length


def _quaternion_matrix(wxyz: Float[ndarray, "... 4"]) -> Float[ndarray, "... 3 3"]:
    q = _unit(wxyz)
    q = np.where(q[..., :1] < 0, -q, q)  # the same turn, told the short way round
    half = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(half, q[..., :1])
    return to_matrix(q[..., 1:] * angle / np.maximum(half, 1e-12))


def _quaternion(vector: Float[ndarray, "... 3"]) -> Float[ndarray, "... 4"]:
    angle = np.linalg.norm(vector, axis=-1, keepdims=True)
    q = np.concatenate([np.cos(angle / 2), 0.5 * np.sinc(angle / (2 * np.pi)) * vector], axis=-1)
    return np.where(q[..., :1] < 0, -q, q)


def _rpy(R: Float[ndarray, "... 3 3"]) -> Float[ndarray, "... 3"]:
    pitch = np.arctan2(-R[..., 2, 0], np.hypot(R[..., 0, 0], R[..., 1, 0]))
    level = np.hypot(R[..., 2, 1], R[..., 2, 2]) > _SHORT
    roll = np.where(level, np.arctan2(R[..., 2, 1], R[..., 2, 2]), 0.0)
    yaw = np.where(
        level, np.arctan2(R[..., 1, 0], R[..., 0, 0]), np.arctan2(-R[..., 0, 1], R[..., 1, 1])
    )
    return np.stack([roll, pitch, yaw], axis=-1)
