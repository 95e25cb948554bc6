"""The canvas: the one image the model sees, composed of the robot's camera views."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from motus_embodiments import DataError

ROLES = ("head", "left_wrist", "right_wrist")

Box = tuple[int, int, int, int]  # x, y, width, height in canvas pixels


@dataclass(frozen=True)
class Layout:
    """Where each view lies on the canvas.

    Attributes:
        width: Canvas width in pixels, even.
        height: Canvas height in pixels, even.
        boxes: Role -> (x, y, width, height); a role without a camera has no box.
    """

    width: int
    height: int
    boxes: Mapping[str, Box]

    def to_dict(self) -> dict[str, Any]:
        """As written to `meta/motus.json`."""
        boxes = {role: list(self.boxes[role]) for role in ROLES if role in self.boxes}
        return {"width": self.width, "height": self.height, "boxes": boxes}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Layout":
        """Read back what `to_dict` wrote."""
        boxes = {role: (b[0], b[1], b[2], b[3]) for role, b in data["boxes"].items()}
        return Layout(int(data["width"]), int(data["height"]), boxes)


def layout_for[R: str](sizes: Mapping[R, tuple[int, int]], max_width: int = 320) -> Layout:
    """The layout for cameras of the given sizes.

    The head view keeps its size, scaled down to `max_width` if wider; wrist views get half its
    width and half its height, side by side below it, each in the slot of its own side.

    Args:
        sizes: Role -> (height, width) of the recorded frames.
        max_width: Widest head view, in pixels.

    Raises:
        DataError: No camera has the role `head`, or a role is unknown.
    """
    views: dict[str, tuple[int, int]] = {str(role): size for role, size in sizes.items()}
    unknown = sorted(set(views) - set(ROLES))
    if unknown:
        raise DataError(f"unknown camera role '{unknown[0]}'", hint=f"roles are {', '.join(ROLES)}")
    if "head" not in views:
        raise DataError(
            f"no camera has the role head; there is {', '.join(sorted(views)) or 'no camera'}",
            hint="name the main camera in the mapping: cameras: {head: COLUMN}",
        )
    height, width = views["head"]
    scale = min(1.0, max_width / width)
    head_w, head_h = _multiple_of_4(width * scale), _multiple_of_4(height * scale)
    boxes: dict[str, Box] = {"head": (0, 0, head_w, head_h)}
    half_w, half_h = head_w // 2, head_h // 2
    if "left_wrist" in views:
        boxes["left_wrist"] = (0, head_h, half_w, half_h)
    if "right_wrist" in views:
        boxes["right_wrist"] = (half_w, head_h, half_w, half_h)
    return Layout(head_w, head_h + (half_h if len(boxes) > 1 else 0), boxes)


def compose[R: str](views: Mapping[R, np.ndarray], layout: Layout) -> np.ndarray:
    """Draw the views on one canvas; a missing view stays black.

    Args:
        views: Role -> uint8 RGB [h, w, 3]; any size, letterboxed into the role's box.
        layout: Where each role lies.

    Returns:
        uint8 [layout.height, layout.width, 3].
    """
    canvas = np.zeros((layout.height, layout.width, 3), np.uint8)
    for role, view in views.items():
        if role in layout.boxes:
            x, y, w, h = layout.boxes[role]
            canvas[y : y + h, x : x + w] = letterbox(view, (w, h), stretch=4)
    return canvas


def letterbox(image: np.ndarray, size: tuple[int, int], *, stretch: int = 0) -> np.ndarray:
    """Scale to fit into `size` with the aspect ratio kept and black bars around.

    Args:
        image: uint8 [..., h, w, 3]; leading axes are frames.
        size: (width, height) in pixels.
        stretch: Up to so many pixels the image is stretched instead of barred, since a box
            rounded to whole pixels never has the exact ratio.

    Returns:
        uint8 [..., height, width, 3].
    """
    if image.ndim > 3:
        flat = image.reshape(-1, *image.shape[-3:])
        out = np.stack([letterbox(one, size, stretch=stretch) for one in flat])
        return out.reshape(*image.shape[:-3], *out.shape[1:])
    width, height = size
    h, w = image.shape[:2]
    if (w, h) == (width, height):
        return image
    import cv2

    scale = min(width / w, height / h)
    inner_w, inner_h = max(1, round(w * scale)), max(1, round(h * scale))
    if width - inner_w <= stretch and height - inner_h <= stretch:
        inner_w, inner_h = width, height
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    inner = cv2.resize(image, (inner_w, inner_h), interpolation=method)
    if (inner_w, inner_h) == (width, height):
        return inner
    out = np.zeros((height, width, 3), np.uint8)
    x, y = (width - inner_w) // 2, (height - inner_h) // 2
    out[y : y + inner_h, x : x + inner_w] = inner
    return out


def _multiple_of_4(length: float) -> int:
    return max(4, 4 * round(length / 4))
