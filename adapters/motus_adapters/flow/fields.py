"""Arithmetic of flow: chained over time, checked backwards, freed of the camera's own motion."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from numpy import ndarray

from motus_adapters.conversion.canvas import Layout
from motus_adapters.flow.canvases import FLOW_BOXES, FlowEstimator

# Sundaram, Brox and Keutzer 2010, eq. 5: slack of the round trip, as a share of the squared
# lengths and in square pixels.
_SLACK = 0.01
_SLACK_PIXELS = 0.5

_CAMERA_ERROR = 0.15  # percent of the width by which a still cell's flow may miss the fit
_CAMERA_SHARE = 0.25  # of the cells that must agree before a motion is taken for the camera's


def chain_fields(
    first: Float[ndarray, "n h w 2"], second: Float[ndarray, "n h w 2"]
) -> Float[ndarray, "n h w 2"]:
    """Flow over both steps, in pixels: first(x) + second(x + first(x)).

    What left the picture in the first step goes on like the border where it left.
    """
    return first + _fetched(second, first)


def chain_canvases(
    first: Float[ndarray, "n 2 72 64"], second: Float[ndarray, "n 2 72 64"], layout: Layout
) -> Float[ndarray, "n 2 72 64"]:
    """The same of flow canvases: each view by itself, in the units of `flow_canvas`."""
    out = np.zeros_like(first)
    for role, (left, top, width, height) in FLOW_BOXES.items():
        if role not in layout.boxes:
            continue
        _, _, w, h = layout.boxes[role]
        # Percent of the view's width -> cells, which need not be square.
        cells = np.array([width / 100, height / 100 * w / h], np.float32)
        part = np.s_[:, :, top : top + height, left : left + width]
        fields = [flow[part].transpose(0, 2, 3, 1) * cells for flow in (first, second)]
        out[part] = (chain_fields(fields[0], fields[1]) / cells).transpose(0, 3, 1, 2)
    return out


def chain_runs(
    flows: Float[ndarray, "n 2 72 64"], steps: int, layout: Layout
) -> Float[ndarray, "n-steps+1 2 72 64"]:
    """Flow over every run of so many steps that follow one another, chained."""
    whole = len(flows) - steps + 1
    chained = flows[:whole]
    for at in range(1, steps):
        chained = chain_canvases(chained, flows[at : at + whole], layout)
    return chained


def consistent_pixels(
    forward: Float[ndarray, "n h w 2"], backward: Float[ndarray, "n h w 2"]
) -> Bool[ndarray, "n h w"]:
    """Where following the flow and then the flow back ends where it began (Sundaram 2010).

    Pixels that are hidden in the other picture fail, as do those where the estimator guesses.

    Args:
        forward: From the first pictures to the second ones, in pixels.
        backward: From the second ones to the first ones.
    """
    height, width = forward.shape[1:3]
    back = _fetched(backward, forward)
    error = np.square(forward + back).sum(axis=-1)
    slack = _SLACK * (np.square(forward) + np.square(back)).sum(axis=-1) + _SLACK_PIXELS
    at = _grid(height, width) + forward
    inside = ((at >= 0) & (at <= (width - 1, height - 1))).all(axis=-1)
    good: Bool[ndarray, "n h w"] = inside & (error < slack)
    return good


@dataclass(frozen=True)
class ConsistentFlow:
    """An estimator asked both ways, at twice its cost: where the answers differ, flow is unknown.

    Attributes:
        estimator: Who is asked.
    """

    estimator: FlowEstimator

    @property
    def name(self) -> str:
        """See `FlowEstimator.name`."""
        return f"{self.estimator.name}+consistent"

    @property
    def width(self) -> int:
        """See `FlowEstimator.width`."""
        return self.estimator.width

    def flow(
        self, previous: UInt8[ndarray, "n h w 3"], following: UInt8[ndarray, "n h w 3"]
    ) -> Float[ndarray, "n h w 2"]:
        """See `FlowEstimator.flow`."""
        forward = self.estimator.flow(previous, following)
        known = consistent_pixels(forward, self.estimator.flow(following, previous))
        return np.where(known[..., None], forward, np.float32(np.nan))


def remove_camera_motion(canvases: Float[ndarray, "n 2 72 64"]) -> Float[ndarray, "n 2 72 64"]:
    """Flow canvases without the head camera's own motion, as of a camera on a moving head.

    The motion is the affine map that most of the head view follows (OpenCV's RANSAC, refined on
    those that agree); it is left in where less than a quarter of the cells agree on one. Wrist
    views stay as they are: what moves a wrist camera is the arm.
    """
    import cv2

    left, top, width, height = FLOW_BOXES["head"]
    x = (np.arange(width, dtype=np.float32) + 0.5) * (100 / width)
    y = (np.arange(height, dtype=np.float32) + 0.5) * (100 / width)
    at = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    out = canvases.copy()
    for flow in out:
        view = flow[:, top : top + height, left : left + width]
        moved = at + view.reshape(2, -1).T
        matrix, agree = cv2.estimateAffine2D(
            at, moved, method=cv2.RANSAC, ransacReprojThreshold=_CAMERA_ERROR
        )
        if matrix is None or agree.mean() < _CAMERA_SHARE:
            continue
        camera = at @ (matrix[:, :2] - np.eye(2)).T + matrix[:, 2]
        view -= camera.T.reshape(view.shape).astype(np.float32)
    return out


def _fetched(
    field: Float[ndarray, "n h w 2"], along: Float[ndarray, "n h w 2"]
) -> Float[ndarray, "n h w 2"]:
    """`field` at the place to which `along` leads; NaN where either is unknown."""
    import cv2

    at = (_grid(*field.shape[1:3]) + along).astype(np.float32)
    parts = [
        cv2.remap(one, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for one, place in zip(field.astype(np.float32), at, strict=True)
    ]
    return np.stack(parts)


def _grid(height: int, width: int) -> Float[ndarray, "h w 2"]:
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
