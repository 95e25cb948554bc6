"""True optical flow: what each pixel of a drawn picture shows, and where that is a moment later."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

# A point is hidden if it lies this much of its distance behind what is drawn there: less than a
# hand's thickness at arm's length, more than neighbouring pixels of a slanted table differ.
_BEHIND = 0.02


@dataclass(frozen=True)
class Surface:
    """What one camera sees of a scene of rigid bodies.

    Attributes:
        depth: Distance along the optical axis in m; infinite where there is nothing.
        body: The body seen; 0 is the world, which never moves.
        focal: Focal length in pixels, (right, down).
        centre: Where the optical axis meets the picture, in pixels from its upper left corner.
        position: Of the camera in the world, in m.
        rotation: Of the camera: its axes right, down, forward as columns.
        body_positions: Of every body in the world, in m.
        body_rotations: Of every body.
    """

    depth: Float[ndarray, "h w"]
    body: Int[ndarray, "h w"]
    focal: tuple[float, float]
    centre: tuple[float, float]
    position: Float[ndarray, "3"]
    rotation: Float[ndarray, "3 3"]
    body_positions: Float[ndarray, "b 3"]
    body_rotations: Float[ndarray, "b 3 3"]


@dataclass(frozen=True)
class TrueFlow:
    """The flow from one picture to the next, known from geometry.

    Attributes:
        flow: (right, down) in pixels; what pixel (x, y) shows is found at (x, y) + flow.
            NaN where it has passed behind the camera.
        visible: Where that place lies within the second picture and nothing hides it there.
    """

    flow: Float[ndarray, "h w 2"]
    visible: Bool[ndarray, "h w"]


def true_flow(first: Surface, second: Surface) -> TrueFlow:
    """Optical flow from one moment to the next of the same camera and scene.

    Each pixel is lifted to the point that it shows, which is carried on by its body and projected
    by the camera where that is by then. What lies at infinity only turns.
    """
    height, width = first.depth.shape
    places = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) + 0.5
    rays = np.concatenate(
        [(places - first.centre) / first.focal, np.ones((height, width, 1))], axis=-1
    )
    endless = ~np.isfinite(first.depth)
    points = rays * np.where(endless, 1.0, first.depth)[..., None]
    moved = np.empty_like(points)
    for body in np.unique(first.body):
        seen = first.body == body
        turn, shift = _carry(first, second, body)
        moved[seen] = points[seen] @ turn.T + shift
    moved[endless] = rays[endless] @ (second.rotation.T @ first.rotation).T
    ahead = moved[..., 2] > 1e-6
    distance = np.where(ahead, moved[..., 2], 1.0)
    target = moved[..., :2] / distance[..., None] * second.focal + second.centre
    flow = np.where(ahead[..., None], target - places, np.nan).astype(np.float32)
    distance[endless] = np.inf
    return TrueFlow(flow, ahead & _in_sight(target, distance, second.depth))


def _carry(
    first: Surface, second: Surface, body: int
) -> tuple[Float[ndarray, "3 3"], Float[ndarray, "3"]]:
    """Rotation and shift from the first camera's frame to the second's, of points of a body."""
    turn = second.body_rotations[body] @ first.body_rotations[body].T
    shift = second.body_positions[body] - turn @ first.body_positions[body]
    back = second.rotation.T
    return back @ turn @ first.rotation, back @ (turn @ first.position + shift - second.position)


def _in_sight(
    target: Float[ndarray, "h w 2"], distance: Float[ndarray, "h w"], depth: Float[ndarray, "h w"]
) -> Bool[ndarray, "h w"]:
    height, width = depth.shape
    inside = np.all((target >= 0) & (target < (width, height)), axis=-1)
    column, row = np.where(inside[..., None], target, 0).astype(int).transpose(2, 0, 1)
    there = depth[row, column]
    seen: Bool[ndarray, "h w"] = inside & ((distance <= there * (1 + _BEHIND)) | np.isinf(there))
    return seen
