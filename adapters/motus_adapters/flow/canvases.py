"""Optical flow of the canvas: the role of an estimator, and the flow canvas."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from motus_adapters.conversion.canvas import Box, Layout

# Pooled views on the flow canvas: role -> (x, y, width, height). Wrists have half the head's size.
FLOW_BOXES: dict[str, Box] = {
    "head": (0, 0, 64, 48),
    "left_wrist": (0, 48, 32, 24),
    "right_wrist": (32, 48, 32, 24),
}
FLOW_SHAPE = (2, 72, 64)


class FlowEstimator(Protocol):
    """Dense optical flow between views."""

    @property
    def name(self) -> str:
        """Identifies method, settings and weights; stored in the dataset."""
        ...

    @property
    def width(self) -> int:
        """Pixels of width a view should have; a narrower one is enlarged."""
        ...

    def flow(
        self, previous: UInt8[ndarray, "n h w 3"], following: UInt8[ndarray, "n h w 3"]
    ) -> Float[ndarray, "n h w 2"]:
        """Flow of each of n pairs of RGB views: float32, (right, down) in pixels.

        The pixel (x, y) of `previous` is found at (x, y) + flow in `following`; NaN where the
        method does not know.
        """
        ...


def flow_canvas(
    previous: UInt8[ndarray, "*n H W 3"],
    following: UInt8[ndarray, "*n H W 3"],
    layout: Layout,
    estimator: FlowEstimator,
) -> Float[ndarray, "*n 2 72 64"]:
    """Flow from one canvas to the next, pooled to the size the codec reads.

    Each view is taken from its box, enlarged to what the estimator needs, and its flow averaged
    over cells. A role without a camera stays zero.

    Args:
        previous: One canvas, or n of them.
        following: The canvas after it, or after each.
        layout: Where the views lie.
        estimator: The method.

    Returns:
        float32, (right, down) in percent of the width of the view it belongs to: head on rows
        0-47, left wrist below at columns 0-31, right wrist at columns 32-63.
    """
    if previous.ndim == 3:
        return flow_canvas(previous[None], following[None], layout, estimator)[0]
    return pool_views(view_flows(previous, following, layout, estimator), len(previous))


def view_flows(
    previous: UInt8[ndarray, "n H W 3"],
    following: UInt8[ndarray, "n H W 3"],
    layout: Layout,
    estimator: FlowEstimator,
) -> dict[str, Float[ndarray, "n h w 2"]]:
    """Role -> flow of that view between n pairs of canvases, in pixels of the view as enlarged."""
    fields = {}
    for role, (x, y, w, h) in layout.boxes.items():
        views = [canvases[:, y : y + h, x : x + w] for canvases in (previous, following)]
        scale = max(1.0, estimator.width / w)
        fields[role] = estimator.flow(*(_enlarged(view, scale) for view in views))
    return fields


def pool_views(
    fields: Mapping[str, Float[ndarray, "n h w 2"]], count: int, *, finer: int = 1
) -> Float[ndarray, "n 2 72*finer 64*finer"]:
    """The flow canvas of views whose flow is known in pixels.

    What is unknown (NaN) takes no part in a cell's average; a cell of nothing else is zero.

    Args:
        fields: Role -> flow of each pair.
        count: Pairs; every role has so many.
        finer: Cells along each side of one that the codec reads.
    """
    import cv2

    out = np.zeros((count, 2, *(finer * side for side in FLOW_SHAPE[1:])), np.float32)
    for role, flows in fields.items():
        left, top, width, height = (finer * side for side in FLOW_BOXES[role])
        for field, canvas in zip(flows, out, strict=True):
            finite = np.isfinite(field)
            whole = bool(finite.all())
            known = finite[..., 0] & finite[..., 1]
            seen = field if whole else np.where(known[..., None], field, 0)
            percent = seen * np.float32(100.0 / field.shape[1])  # of the view's width
            cells = cv2.resize(percent, (width, height), interpolation=cv2.INTER_AREA)
            if not whole:
                share = known.astype(np.float32)
                share = cv2.resize(share, (width, height), interpolation=cv2.INTER_AREA)
                cells /= np.maximum(share, 1e-6)[..., None]
            canvas[:, top : top + height, left : left + width] = cells.transpose(2, 0, 1)
    return out


def _enlarged(views: UInt8[ndarray, "n h w 3"], scale: float) -> UInt8[ndarray, "n H W 3"]:
    if scale == 1:
        return np.ascontiguousarray(views)
    import cv2

    height, width = (round(side * scale) for side in views.shape[1:3])
    out = np.empty((len(views), height, width, 3), np.uint8)
    for view, large in zip(views, out, strict=True):
        cv2.resize(view, (width, height), dst=large, interpolation=cv2.INTER_LINEAR)
    return out
