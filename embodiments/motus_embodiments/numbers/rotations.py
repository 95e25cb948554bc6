"""Rotation vectors and matrices, vectorised and exact at both ends (no turn, half a turn)."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

_TINY = 1e-12
_HALF_TURN = 1e-6  # cos(angle / 2) below which a turn counts as half a turn, as float32 pi does


def to_matrix(vector: Float[ndarray, "... 3"]) -> Float[ndarray, "... 3 3"]:
    """Rotation matrix of a rotation vector in rad, by Rodrigues' formula.

    R = I + sin(a)/a K + (1 - cos(a))/a^2 K^2, with K the cross-product matrix of the vector and
    a its length.
    """
    v = np.asarray(vector, np.float64)
    angle = np.linalg.norm(v, axis=-1)[..., None, None]
    K = np.zeros((*v.shape[:-1], 3, 3))
    K[..., 0, 1], K[..., 0, 2], K[..., 1, 2] = -v[..., 2], v[..., 1], -v[..., 0]
    K -= np.swapaxes(K, -1, -2)
    half = np.sinc(angle / (2 * np.pi))  # sin(a/2) / (a/2)
    return np.eye(3) + np.sinc(angle / np.pi) * K + 0.5 * half**2 * (K @ K)


def to_vector(matrix: Float[ndarray, "... 3 3"]) -> Float[ndarray, "... 3"]:
    """Rotation vector in rad of a rotation matrix; its length is at most pi (to 2e-6).

    Goes through the quaternion whose largest component is found first (Shepperd, 1978), which is
    accurate everywhere. Of the two vectors of half a turn the one whose first component
    different from zero is positive is given.
    """
    R = np.asarray(matrix, np.float64)
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    x, y, z = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    xy, xz, yz = (
        R[..., 0, 1] + R[..., 1, 0],
        R[..., 0, 2] + R[..., 2, 0],
        R[..., 1, 2] + R[..., 2, 1],
    )
    # Row k is the quaternion (w, x, y, z) scaled by 4 times its own component k.
    rows = np.stack(
        [
            np.stack([1 + xx + yy + zz, x, y, z], -1),
            np.stack([x, 1 + xx - yy - zz, xy, xz], -1),
            np.stack([y, xy, 1 - xx + yy - zz, yz], -1),
            np.stack([z, xz, yz, 1 - xx - yy + zz], -1),
        ],
        -2,
    )
    largest = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    q = np.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :]
    q = q / np.linalg.norm(q, axis=-1, keepdims=True)
    q = q * _sign(q)[..., None]
    length = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(length, q[..., :1])
    factor = np.where(length > _TINY, angle / np.maximum(length, _TINY), 2.0)
    return q[..., 1:] * factor


def _sign(q: Float[ndarray, "... 4"]) -> Float[ndarray, "..."]:
    """+1 or -1 so that w is positive; at half a turn the first other component decides."""
    parts = np.where(np.abs(q) > _HALF_TURN, q, 0.0)
    first = np.argmax(parts != 0, axis=-1)
    return np.where(np.take_along_axis(parts, first[..., None], -1)[..., 0] < 0, -1.0, 1.0)
