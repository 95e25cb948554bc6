"""Planted mistakes are found and named, and honest recordings raise no alarm."""

import numpy as np
import pytest

from motus_embodiments import ActionAdapter, Card, DataError, list_cards, load_card
from tests.embodiments.planted import MISTAKES, Planted, cards_here, found, names, rates
from tests.embodiments.test_real_recordings import RECORDED

CARDS = [pytest.param(card, id=card.name) for card in cards_here()]


@pytest.mark.parametrize("card", CARDS)
def test_planted_mistakes_are_named_and_nothing_else_is(card):
    named, alarms = rates(card, range(4))
    assert named or not card.action_channels
    assert {name: share for name, share in named.items() if share < 0.95} == {}
    assert alarms == 0


def test_every_mistake_is_tried_on_some_robot():
    for name, mistake in MISTAKES.items():
        assert any(mistake.fits(card) for card, _ in list_cards()), name


# What can be planted where: still joints hide degrees, a slow robot hides one frame of lag.
REAL = {
    "aloha": (
        "degrees for radians",
        "gripper 0..100",
        "gripper -1..1",
        "gripper action inverted",
        "actions of exchanged arms",
        "actions are the states",
    ),
    "gr1": ("degrees for radians", "actions of exchanged arms", "actions are the states"),
    "pusht": ("actions late, lag known", "actions early, lag known"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_mistakes_planted_in_real_recordings_are_named(name, shared_data):
    adapter = ActionAdapter(load_card(name))
    count = dict.fromkeys(REAL[name], 0)
    recordings = RECORDED[name](shared_data)
    for state, action in recordings:
        honest = Planted(adapter.encode_state(state), adapter.encode_action(action))
        assert found(adapter, honest) == ""
        for mistake in count:
            count[mistake] += names(adapter, MISTAKES[mistake], honest)
    assert {m: n for m, n in count.items() if n < 0.95 * len(recordings)} == {}


def test_what_cannot_be_told_is_let_through():
    """Slow robots, still ones and short recordings prove nothing."""
    adapter = ActionAdapter(load_card("aloha"))
    state = adapter.command(np.tile(adapter.card.home(), (100, 1)))
    adapter.check_pair(state, state)  # stands still: the same frames, but nothing moves
    adapter.check_pair(state[:5], state[:5])


def test_radians_are_no_degrees():
    adapter = ActionAdapter(load_card("so101"))
    home = adapter.decode_state(np.array([adapter.card.home()] * 30))
    home[:, :5] = np.deg2rad(home[:, :5])
    home[:, 0] += np.linspace(0, 0.5, 30)
    with pytest.raises(DataError, match="radians"):
        adapter.check(adapter.encode_state(home), "state")


def test_a_joint_without_limits_does_not_turn_twice_round():
    table = {
        "name": "free",
        "title": "free",
        "rate": 10,
        "action": {"representation": "joint_position"},
        "arms": [{"side": "left", "joints": [{"name": "j", "unit": "rad"}]}],
    }
    adapter = ActionAdapter(Card.model_validate(table))
    adapter.check(np.full((3, 1), 12.5), "state")
    with pytest.raises(DataError, match=r"allows -12\.57 to 12\.57") as caught:
        adapter.check(np.full((3, 1), 90.0), "state")
    assert "degrees" in caught.value.hint


def test_a_gripper_in_metres_throughout_is_doubted():
    """State and action agree with each other, so only the range of the whole source tells."""
    adapter = ActionAdapter(load_card("aloha"))
    home = np.array(adapter.card.home())
    low, high = home.copy(), home.copy()
    low[6], high[6] = 0.0, 0.08
    low[13], high[13] = 0.0, 0.9
    (remark,) = adapter.remarks(low, high)
    assert "'left_gripper' never opens beyond 0.08" in remark
    high[6] = 0.0
    assert adapter.remarks(low, high) == ()  # it does not move at all
