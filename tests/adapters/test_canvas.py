import numpy as np
import pytest

from motus_adapters import Layout, compose, layout_for, letterbox
from motus_embodiments import DataError


def test_layout_of_three_cameras():
    layout = layout_for(dict.fromkeys(("head", "left_wrist", "right_wrist"), (480, 640)))
    assert (layout.width, layout.height) == (320, 360)
    assert layout.boxes == {
        "head": (0, 0, 320, 240),
        "left_wrist": (0, 240, 160, 120),
        "right_wrist": (160, 240, 160, 120),
    }
    assert Layout.from_dict(layout.to_dict()) == layout


@pytest.mark.parametrize(("height", "width"), [(96, 96), (101, 77), (7, 9), (1080, 1920)])
def test_sizes_are_even_and_bounded(height, width):
    layout = layout_for({"head": (height, width), "right_wrist": (3, 3)}, max_width=128)
    numbers = [layout.width, layout.height, *(n for box in layout.boxes.values() for n in box)]
    assert all(n % 2 == 0 for n in numbers)
    assert layout.width <= 128


def test_small_head_is_not_enlarged():
    assert layout_for({"head": (96, 96)}) == Layout(96, 96, {"head": (0, 0, 96, 96)})


def test_head_is_needed():
    with pytest.raises(DataError, match="no camera has the role head; there is left_wrist"):
        layout_for({"left_wrist": (10, 10)})


def test_compose_puts_each_view_in_its_box():
    layout = layout_for({"head": (48, 64), "right_wrist": (48, 64)})
    views = {"head": np.full((48, 64, 3), 10, np.uint8), "right_wrist": np.full((48, 64, 3), 200)}
    canvas = compose({k: v.astype(np.uint8) for k, v in views.items()}, layout)
    assert canvas.shape == (72, 64, 3)
    assert (canvas[:48] == 10).all()
    assert (canvas[48:, 32:] == 200).all()
    assert (canvas[48:, :32] == 0).all()


def test_letterbox_keeps_the_ratio():
    frames = np.full((2, 3, 40, 80, 3), 255, np.uint8)
    out = letterbox(frames, (64, 64))
    assert out.shape == (2, 3, 64, 64, 3)
    lit = out[0, 0, :, :, 0].any(axis=1)
    assert lit.sum() == 32
    assert not lit[:16].any()
    assert (out[0, 0, 16:48] == 255).all()
