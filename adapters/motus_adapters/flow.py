"""Optical flow of the canvas, one step at a time."""

from typing import Protocol

import numpy as np

from motus_adapters.canvas import Box, Layout

# Pooled views on the flow canvas: role -> (x, y, width, height). Wrists have half the head's size.
FLOW_BOXES: dict[str, Box] = {
    "head": (0, 0, 64, 48),
    "left_wrist": (0, 48, 32, 24),
    "right_wrist": (32, 48, 32, 24),
}
FLOW_SHAPE = (2, 72, 64)

# DIS loses small motion on small pictures: views are enlarged to at least this width first.
_MIN_WIDTH = {"head": 256, "left_wrist": 128, "right_wrist": 128}


class FlowEstimator(Protocol):
    """Dense optical flow between two views."""

    @property
    def name(self) -> str:
        """Identifies method and settings; stored in the dataset."""
        ...

    def flow(self, previous: np.ndarray, following: np.ndarray) -> np.ndarray:
        """Flow of uint8 RGB views [h, w, 3]: float32 [h, w, 2], (right, down) in pixels.

        The pixel (x, y) of `previous` is found at (x, y) + flow in `following`.
        """
        ...


class DisFlow:
    """Dense inverse search of OpenCV, preset medium (Kroeger et al. 2016).

    On one thread, since OpenCV splits the search among threads and the result with it.
    """

    name = "dis-medium"

    def __init__(self) -> None:
        import cv2

        self._dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def flow(self, previous: np.ndarray, following: np.ndarray) -> np.ndarray:
        """See `FlowEstimator.flow`."""
        import cv2

        threads = cv2.getNumThreads()
        if threads != 1:
            cv2.setNumThreads(1)
        try:
            grey = [cv2.cvtColor(view, cv2.COLOR_RGB2GRAY) for view in (previous, following)]
            result: np.ndarray = self._dis.calc(grey[0], grey[1], None)
            return result
        finally:
            if threads != 1:
                cv2.setNumThreads(threads)


def flow_canvas(
    previous: np.ndarray,
    following: np.ndarray,
    layout: Layout,
    estimator: FlowEstimator,
) -> np.ndarray:
    """Flow from one canvas to the next, pooled to the size the codec reads.

    Each view is taken from its box, enlarged to at least 256 (head) or 128 (wrist) pixels of
    width, and its flow averaged over cells. A role without a camera stays zero.

    Args:
        previous: uint8 [height, width, 3], canvas of frame i.
        following: The same of frame i + 1.
        layout: Where the views lie.
        estimator: The method.

    Returns:
        float32 [2, 72, 64], (right, down) in percent of the width of the view it belongs to:
        head on rows 0-47, left wrist below at columns 0-31, right wrist at columns 32-63.
    """
    import cv2

    out = np.zeros(FLOW_SHAPE, np.float32)
    for role, (x, y, w, h) in layout.boxes.items():
        views = [canvas[y : y + h, x : x + w] for canvas in (previous, following)]
        if w < _MIN_WIDTH[role]:
            size = (_MIN_WIDTH[role], round(h * _MIN_WIDTH[role] / w))
            views = [cv2.resize(view, size, interpolation=cv2.INTER_LINEAR) for view in views]
        flow = estimator.flow(np.ascontiguousarray(views[0]), np.ascontiguousarray(views[1]))
        flow = flow * np.float32(100.0 / flow.shape[1])  # pixels -> percent of the view's width
        left, top, width, height = FLOW_BOXES[role]
        pooled = cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA)
        out[:, top : top + height, left : left + width] = pooled.transpose(2, 0, 1)
    return out
