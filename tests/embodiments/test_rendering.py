"""Pictures from the cameras of cards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motus_embodiments import Card, Renderer, UsageError, load_card
from motus_embodiments.physics import mujoco
from motus_embodiments.pictures import rendering
from tests.embodiments.conftest import shipped_with_models


@pytest.mark.parametrize("card", shipped_with_models())
def test_every_camera_draws_the_robot(card):
    home = np.array(card.home())
    other = home.copy()
    other[1] -= 0.4
    with Renderer(card, 96, 64) as renderer:
        first, second = renderer.render(home), renderer.render(other)
        again = renderer.render(home)
    assert set(first) == {camera.name for camera in card.cameras}
    for name, view in first.items():
        assert view.shape == (64, 96, 3)
        assert view.dtype == np.uint8
        assert view.std() > 5
        np.testing.assert_array_equal(view, again[name])
    assert any((first[name] != second[name]).mean() > 0.02 for name in first)


@pytest.mark.parametrize("card", shipped_with_models())
def test_what_is_left_out_does_not_show(card, monkeypatch):
    state = np.array(card.home())
    with Renderer(card, 128, 96) as renderer:
        fast = renderer.render(state)
    monkeypatch.setattr(rendering, "_out_of_view", lambda model, *_: np.zeros(model.ngeom, bool))
    with Renderer(card, 128, 96) as renderer:
        whole = renderer.render(state)
        for name in fast:
            np.testing.assert_array_equal(fast[name], whole[name])
    monkeypatch.setattr(rendering, "_thin_meshes", lambda *_: None)
    with Renderer(card, 128, 96) as renderer:
        for name, view in renderer.render(state).items():
            error = np.square(view.astype(float) - whole[name]).mean()
            assert 10 * np.log10(255**2 / max(error, 1e-9)) > 32  # dB


@given(
    st.tuples(*[st.floats(-1, 1)] * 3), st.floats(20, 100), st.floats(0.5, 2), st.floats(0.05, 0.4)
)
def test_nothing_in_view_is_left_out(place, fovy, aspect, radius):
    x, y, z = place
    ball = f"<geom type='sphere' size='{radius}' pos='{x:.6f} {y:.6f} {z - 1:.6f}'/>"
    camera = f"<camera name='c' fovy='{fovy}'/>"
    text = f"<mujoco><worldbody>{camera}{ball}</worldbody></mujoco>"
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    out = rendering._out_of_view(model, data, 0, aspect)[0]
    around = np.random.default_rng(0).normal(size=(400, 3))
    points = data.geom_xpos[0] + radius * around / np.linalg.norm(around, axis=1, keepdims=True)
    half = np.tan(np.radians(fovy) / 2)
    depth = -points[:, 2]
    seen = (depth > 0) & (np.abs(points[:, 1]) < half * depth)
    seen &= np.abs(points[:, 0]) < half * aspect * depth
    assert not (out and seen.any())


def test_a_card_can_mount_its_own_camera(toy):
    data = toy.model_dump()
    mount = {"body": "palm", "position": (0, 0.06, -0.1), "quaternion": (0, 1, 0, 0), "fovy": 60}
    data["cameras"] += ({"name": "hand", "role": "left_wrist", "mount": mount},)
    card = Card.model_validate(data)
    with Renderer(card, 64, 64) as renderer:
        views = renderer.render(np.array(card.home()))
    assert set(views) == {"front", "hand"}
    assert views["hand"].std() > 1


def test_a_camera_the_model_lacks_is_named(toy):
    data = toy.model_dump()
    data["cameras"][0]["model_camera"] = "frnt"
    with pytest.raises(UsageError, match="'frnt'") as caught:
        Renderer(Card.model_validate(data), 32, 32)
    assert "front" in caught.value.hint


def test_a_robot_without_cameras_to_draw_is_refused():
    with pytest.raises(UsageError, match="no camera"):
        Renderer(load_card("pusht"), 32, 32)
