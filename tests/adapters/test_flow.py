"""Flow of known shifts, and how views of any size come onto the flow canvas."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motus_adapters import (
    DisFlow,
    compose,
    flow_canvas,
    layout_for,
    open_flow,
    open_source,
    pool_views,
)
from motus_embodiments import UsageError
from tests.adapters.pictures import shifted, texture


@pytest.mark.parametrize("size", [(240, 320), (96, 128)])
def test_known_shift(size):
    """Every view tells its own shift, in percent of its own width, at any resolution."""
    height, width = size
    layout = layout_for(dict.fromkeys(("head", "left_wrist", "right_wrist"), size))
    picture = texture(height, width)
    percent = {"head": (2.0, -1.0), "left_wrist": (-1.5, 0.0), "right_wrist": (0.0, 2.0)}
    moved = {r: shifted(picture, x * width / 100, y * width / 100) for r, (x, y) in percent.items()}
    before = compose(dict.fromkeys(percent, picture), layout)
    flow = flow_canvas(before, compose(moved, layout), layout, DisFlow())
    assert flow.shape == (2, 72, 64)
    assert flow.dtype == np.float32
    inner = {
        "head": flow[:, 8:40, 8:56],
        "left_wrist": flow[:, 52:68, 4:28],
        "right_wrist": flow[:, 52:68, 36:60],
    }
    for role, part in inner.items():
        error = part - np.asarray(percent[role])[:, None, None]
        assert np.hypot(*error).mean() < 0.1


def test_known_shift_of_a_real_picture(shared):
    recording = open_source(shared / "act_hdf5_aloha_sim")[1][1]
    picture = next(iter(recording.frames("top")))
    layout = layout_for({"head": picture.shape[:2]})
    flow = flow_canvas(picture, shifted(picture, 6.4, 3.2), layout, DisFlow())
    inner = flow[:, 8:40, 8:56]
    # A flat table has no texture to follow, so the typical cell counts, not the mean.
    assert np.abs(np.median(inner, axis=(1, 2)) - [2.0, 1.0]).max() < 0.15


@pytest.mark.parametrize("right", [40, 80])
def test_a_view_that_jumps_is_found_by_its_features(right):
    """The search alone follows none of it."""
    picture = texture(192, 256)
    moved = shifted(picture, right, 10)
    grey = [cv2.cvtColor(view, cv2.COLOR_RGB2GRAY) for view in (picture, moved)]
    peer = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*grey, None)
    flow = DisFlow().flow(picture[None], moved[None])[0]
    for field, followed in ((peer, False), (flow, True)):
        inner = field[20:-20, 20:-100]
        assert (np.abs(inner - (right, 10)).mean() < 0.1) == followed


def test_a_view_that_jumps_changes_nothing_for_the_next():
    """OpenCV's search keeps the flow that it was told to begin from; noise follows any."""
    jump = texture(192, 256), shifted(texture(192, 256), 80, 10)
    noise = np.random.default_rng(0).integers(110, 122, (2, 192, 256, 3), dtype=np.uint8)
    pairs = np.stack([jump, noise], axis=1)
    np.testing.assert_array_equal(DisFlow().flow(*pairs)[1], DisFlow().flow(*noise[:, None])[0])


def test_a_view_without_features_is_not_begun_again():
    """A lamp that goes on over nothing is no motion; of a cut no flow is right."""
    black = np.zeros((1, 192, 256, 3), np.uint8)
    assert not DisFlow().flow(black, np.full_like(black, 200)).any()
    assert np.isfinite(DisFlow().flow(black, texture(192, 256)[None])).all()


@pytest.mark.parametrize("grain", [0.4, 1.2])
def test_a_smooth_background_rests(grain):
    """The search alone finds motion in a plain wall and around what moves in front of it.

    Args:
        grain: Noise of the pictures, in levels; that of a video's key frames is the larger one.
    """
    noise = np.random.default_rng(0)
    wall = np.linspace(90, 110, 192)[:, None, None] * np.ones((192, 256, 3))
    patch = texture(60, 60)

    def picture(left):
        scene = wall.copy()
        scene[130:, 200:] = texture(62, 56)  # stands still, and tells that the camera does
        scene += noise.normal(0, grain, wall.shape)
        scene[100:160, left : left + 60] = patch
        return np.clip(scene, 0, 255).astype(np.uint8)

    flow = DisFlow().flow(picture(100)[None], picture(103)[None])[0]
    assert np.abs(flow[110:150, 110:150] - (3, 0)).mean() < 0.1
    assert np.abs(flow[:85]).mean() < 0.1
    assert np.abs(flow[:, :80]).mean() < 0.1


def test_without_wrists_their_part_is_zero():
    layout = layout_for({"head": (96, 128)})
    picture = texture(96, 128)
    flow = flow_canvas(picture, shifted(picture, 3, 0), layout, DisFlow())
    assert (flow[:, 48:] == 0).all()
    assert (flow[0, 8:40, 8:56] > 1).all()


@pytest.mark.parametrize("right", [5, 80])
def test_threads_change_nothing(right):
    layout = layout_for({"head": (240, 320)})
    pair = texture(240, 320), shifted(texture(240, 320), right, 2)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        many = flow_canvas(*pair, layout, DisFlow())
        assert cv2.getNumThreads() == 4
        cv2.setNumThreads(1)
        np.testing.assert_array_equal(many, flow_canvas(*pair, layout, DisFlow()))
    finally:
        cv2.setNumThreads(threads)


@pytest.mark.parametrize("choice", ["dis", "dis-fine"])
def test_many_pairs_are_followed_as_each_alone(choice):
    layout = layout_for({"head": (96, 128), "left_wrist": (96, 128)})
    method = open_flow(choice)
    frames = np.stack(
        [
            compose({"head": view, "left_wrist": view}, layout)
            for view in (shifted(texture(96, 128), 2 * t, t) for t in range(4))
        ]
    )
    many = flow_canvas(frames[:-1], frames[1:], layout, method.estimator)
    assert many.shape == (3, 2, 72, 64)
    for pair, flow in zip(pairwise(frames), many, strict=True):
        np.testing.assert_array_equal(flow, flow_canvas(*pair, layout, method.estimator))


class Sizes:
    """Notes what it is shown; everything moves by one pixel to the right."""

    name, width = "sizes", 120

    def __init__(self):
        self.seen = []

    def flow(self, previous, following):
        self.seen.append(previous.shape[1:3])
        return np.broadcast_to(np.float32([1, 0]), (*previous.shape[:-1], 2))


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (80, [(90, 120), (90, 120)]),
        (160, [(120, 160), (90, 120)]),
        (320, [(240, 320), (120, 160)]),
    ],
)
def test_an_estimator_is_shown_the_width_it_needs(width, shown):
    layout = layout_for(dict.fromkeys(("head", "right_wrist"), (width * 3 // 4, width)))
    canvas = np.zeros((layout.height, layout.width, 3), np.uint8)
    estimator = Sizes()
    flow = flow_canvas(canvas, canvas, layout, estimator)
    assert estimator.seen == shown
    head, wrist = flow[0, :48], flow[0, 48:, 32:]
    np.testing.assert_allclose(head, 100 / shown[0][1], rtol=1e-5)
    np.testing.assert_allclose(wrist, 100 / shown[1][1], rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.floats(-20, 20), st.floats(-20, 20))
def test_what_is_unknown_takes_no_part_in_a_cell(seed, right, down):
    rng = np.random.default_rng(seed)
    field = np.full((96, 128, 2), (right, down), np.float32)
    field[rng.random((96, 128)) < 0.5] = np.nan
    field[:8, :8, 0] = np.nan  # four cells of nothing else
    pooled = pool_views({"head": field[None]}, 1)[0]
    assert not pooled[:, :4, :4].any()
    known = cv2.resize(
        np.isfinite(field[..., 0]).astype(np.float32), (64, 48), interpolation=cv2.INTER_AREA
    )
    wanted = np.array([right, down])[:, None] / 1.28
    np.testing.assert_allclose(
        pooled[:, :48][:, known > 0], wanted.repeat((known > 0).sum(), 1), atol=1e-4
    )
    assert not pooled[:, 48:].any()


def test_a_wrong_name_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="no flow estimator named 'raft-smal'") as caught:
        open_flow("raft-smal:weights.pth+still")
    assert "raft-small" in caught.value.hint
    with pytest.raises(UsageError, match="'dis' has no weights"):
        open_flow("dis:weights.pth")
    assert open_flow("dis-fine+consistent+still").name == "dis-fine-orb-rest-256+consistent+still"
    assert DisFlow().name == open_flow("dis").name
