"""True flow: where geometry says it in closed form, and by warping one picture onto the other."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motus_embodiments import Renderer, Surface, derive_card, load_card, true_flow
from tests.embodiments.conftest import ARM, OPTIONS, why_not_here

HEIGHT, WIDTH, FOCAL, CENTRE = 12, 16, (20.0, 18.0), (7.5, 6.5)
small = st.floats(-0.2, 0.2)


def wall(depth: float = 2.0) -> Surface:
    """A flat body straight ahead of a camera that stands in the origin and looks along z."""
    return Surface(
        np.full((HEIGHT, WIDTH), depth, np.float32),
        np.ones((HEIGHT, WIDTH), int),
        FOCAL,
        CENTRE,
        np.zeros(3),
        np.eye(3),
        np.array([[0.0, 0, 0], [0.3, -0.1, depth]]),
        np.stack([np.eye(3)] * 2),
    )


def from_centre() -> np.ndarray:
    """Of each pixel's middle, in pixels: [h, w, 2]."""
    x, y = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    return np.stack([x - CENTRE[0], y - CENTRE[1]], axis=-1)


def turned(angle: float) -> np.ndarray:
    """About the optical axis, from right to down."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


@given(small, small, st.floats(0.5, 5))
def test_a_body_that_slides(right, down, depth):
    first = wall(depth)
    moved = first.body_positions + np.array([[0, 0, 0], [right, down, 0]])
    flow = true_flow(first, replace(first, body_positions=moved)).flow
    np.testing.assert_allclose(
        flow, np.broadcast_to(np.multiply(FOCAL, (right, down)) / depth, flow.shape), atol=1e-4
    )


@given(small, st.floats(0.5, 5))
def test_a_camera_that_goes_ahead(ahead, depth):
    first = wall(depth)
    flow = true_flow(first, replace(first, position=np.array([0, 0, ahead]))).flow
    np.testing.assert_allclose(flow, from_centre() * (depth / (depth - ahead) - 1), atol=1e-4)


@given(st.floats(-0.5, 0.5))
def test_a_camera_that_rolls_turns_even_what_is_at_infinity(angle):
    first = replace(wall(), depth=np.full((HEIGHT, WIDTH), np.inf, np.float32))
    rolled = replace(first, rotation=turned(angle), position=np.array([3.0, 4, 5]))
    normal = from_centre() / FOCAL
    wanted = (normal @ turned(-angle)[:2, :2].T - normal) * FOCAL
    np.testing.assert_allclose(true_flow(first, rolled).flow, wanted, atol=1e-4)


@given(st.floats(-0.5, 0.5))
def test_a_body_that_turns_about_its_own_middle(angle):
    first = wall()
    rotations = np.stack([np.eye(3), turned(angle)])
    middle = first.body_positions[1]
    at = from_centre() / FOCAL * middle[2] - middle[:2]
    wanted = (at @ turned(angle)[:2, :2].T - at) / middle[2] * FOCAL
    flow = true_flow(first, replace(first, body_rotations=rotations)).flow
    np.testing.assert_allclose(flow, wanted, atol=1e-4)


def test_camera_and_world_moving_together_see_no_flow():
    first = wall()
    away = np.array([0.4, -0.2, 0.7])
    turn = turned(0.3) @ np.array([[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
    second = replace(
        first,
        position=turn @ first.position + away,
        rotation=turn @ first.rotation,
        body_positions=first.body_positions @ turn.T + away,
        body_rotations=turn @ first.body_rotations,
    )
    seen = true_flow(first, second)
    np.testing.assert_allclose(seen.flow, 0, atol=1e-4)
    assert seen.visible.all()


def test_what_is_hidden_leaves_the_picture_or_passes_the_camera_is_not_visible():
    first = wall()
    hidden = first.depth.copy()
    hidden[:, :4] = 0.5  # something in front of the wall
    seen = true_flow(first, replace(first, depth=hidden)).visible
    assert not seen[:, :4].any()
    assert seen[:, 4:].all()
    aside = replace(first, position=np.array([1.0, 0, 0]))  # 10 pixels to the left
    seen = true_flow(first, aside).visible
    assert not seen[:, :10].any()
    assert seen[:, 10:].all()
    passed = true_flow(first, replace(first, position=np.array([0, 0, 3.0])))
    assert np.isnan(passed.flow).all()
    assert not passed.visible.any()


def warp_error(first, second, flow) -> tuple[float, float]:
    """Mean grey levels by which the second picture differs: fetched back along the flow, as is."""
    grid = np.stack(np.meshgrid(np.arange(first.shape[1]), np.arange(first.shape[0])), axis=-1)
    at = (grid + np.nan_to_num(flow.flow)).astype(np.float32)
    back = cv2.remap(second.astype(np.float32), at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    seen = flow.visible
    still = np.abs(second.astype(np.float32) - first)[seen].mean()
    return float(np.abs(back - first)[seen].mean()), float(still)


def check_by_warping(card, change, view, size=(192, 144)) -> None:
    state = np.array(card.home())
    other = state + change
    with Renderer(card, *size) as renderer:
        pictures = renderer.render(state), renderer.render(other)
        surfaces = renderer.surfaces(state), renderer.surfaces(other)
        again = renderer.render(state)
    there = true_flow(surfaces[0][view], surfaces[1][view])
    assert there.visible.mean() > 0.5
    error, still = warp_error(pictures[0][view], pictures[1][view], there)
    assert error < 0.4 * still
    np.testing.assert_array_equal(again[view], pictures[0][view])


@pytest.mark.parametrize("lens", ["fovy='45'", "sensorsize='.004 .003' focal='.003 .0026'"])
def test_a_rendered_arm_by_warping(tmp_path, lens):
    """Also through a camera with a sensor of its own, whose axis does not meet the middle."""
    if "sensor" in lens:
        lens += " principal='.0004 .0002' resolution='640 480'"
    checks = "<asset><texture name='c' type='2d' builtin='checker' width='64' height='64'"
    checks += " rgb1='.9 .8 .7' rgb2='.2 .3 .1'/><material name='c' texture='c'/></asset>"
    text = ARM.replace("<worldbody>", checks + "<worldbody>", 1).replace(
        "<geom ", "<geom material='c' "
    )
    (tmp_path / "toy.xml").write_text(text.replace('name="front"', f'name="front" {lens}'))
    card = derive_card("toy", tmp_path / "toy.xml", **OPTIONS)
    check_by_warping(card, np.array([0.06, 0.03, 0.05, 0.0, 0.0]), "front")


def test_a_wrist_camera_by_warping():
    card = load_card("franka")
    if reason := why_not_here(card):
        pytest.skip(reason)
    change = np.zeros(len(card.home()))
    change[[0, 3]] = 0.01, 0.02
    check_by_warping(card, change, "wrist")
