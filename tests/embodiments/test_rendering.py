"""Pictures from the cameras of cards."""

import numpy as np
import pytest

from motus_embodiments import Card, Renderer, UsageError, load_card
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
