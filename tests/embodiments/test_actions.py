"""The action contract: exact inverses for every shipped card, and wrong data recognised."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motus_embodiments import ActionAdapter, Card, DataError, list_cards, load_card
from motus_embodiments.numbers.rotations import to_matrix
from tests.embodiments.conftest import shipped_with_models

CARDS = [pytest.param(card, id=card.name) for card, _ in list_cards()]
QUICK = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def within(channels, shares):
    low = np.array([max(c.low, -10.0) for c in channels])
    high = np.array([min(c.high, 10.0) for c in channels])
    return low + shares * (high - low)


def drawn(seed, card, kind, rows=5):
    """Canonical values; rotation vectors are shorter than pi, where they are unique."""
    channels = card.state_channels if kind == "state" else card.action_channels
    values = within(channels, np.random.default_rng(seed).uniform(size=(rows, len(channels))))
    turns = [i for i, c in enumerate(channels) if c.kind == "rotation"]
    values[:, turns] *= 0.5
    return values


@pytest.mark.parametrize("card", CARDS)
@given(seed=st.integers(0, 2**32))
@QUICK
def test_decode_of_encode_is_the_identity(card, seed):
    adapter = ActionAdapter(card)
    state, action = drawn(seed, card, "state"), drawn(seed + 1, card, "action")
    adapter.check(state, "state")
    adapter.check(action, "action")
    native = adapter.decode_state(state)
    np.testing.assert_allclose(adapter.encode_state(native), state, rtol=1e-9, atol=1e-9)
    back = adapter.decode_state(adapter.encode_state(native))
    np.testing.assert_allclose(back, native, rtol=1e-9, atol=1e-9)
    for beside in (state, state[0]):  # the states of all frames, or the first one
        native = adapter.decode_action(action, beside)
        back = adapter.encode_action(native, beside)
        np.testing.assert_allclose(back, action, rtol=1e-9, atol=1e-9)
        back = adapter.decode_action(back, beside)
        np.testing.assert_allclose(back, native, rtol=1e-9, atol=1e-9)


RELATIVE = [
    pytest.param(card.values[0], id=card.id, marks=card.marks) for card in shipped_with_models()
] + [pytest.param(load_card("pusht"), id="pusht")]


@pytest.mark.parametrize("representation", ["joint_position", "ee_pose", "ee_position"])
@pytest.mark.parametrize("card", RELATIVE)
def test_absolute_of_relative_is_the_identity(card, representation):
    spec = card.action.model_copy(update={"representation": representation, "relative": True})
    card = Card.model_validate(card.model_copy(update={"action": spec}).model_dump())
    adapter = ActionAdapter(card)

    @given(seed=st.integers(0, 2**32))
    @QUICK
    def law(seed):
        state = drawn(seed, card, "state", rows=3)
        action = drawn(seed + 1, card, "action", rows=12).reshape(3, 4, -1)
        turns = [i for i, c in enumerate(card.action_channels) if c.kind == "rotation"]
        action[..., turns] *= 0.5  # rotation vectors inside the ball of radius pi
        back = adapter.absolute(adapter.relative(action, state), state)
        np.testing.assert_allclose(back, action, atol=1e-9)

    law()


def test_relative_pose_is_zero_at_the_state_and_keeps_the_base_axes():
    pytest.importorskip("mujoco")
    card = RELATIVE[[p.id for p in RELATIVE].index("franka")].values[0]
    adapter = ActionAdapter(card)
    state = np.array(card.home())
    here = adapter.command(state[None])[0]
    relative = adapter.relative(here, state)
    np.testing.assert_allclose(relative[:6], 0, atol=1e-9)
    assert relative[6] == here[6] == 1.0
    moved = here.copy()
    moved[:3] += [0.01, -0.02, 0.03]
    np.testing.assert_allclose(adapter.relative(moved, state)[:3], [0.01, -0.02, 0.03], atol=1e-9)


def test_float32_half_turn_comes_back_unchanged():
    card = load_card("franka")
    adapter = ActionAdapter(card)
    state = np.array(card.home())
    action = np.array([0.5, 0, 0.1, np.float32(np.pi), 0, 0, 1])
    back = adapter.absolute(adapter.relative(action, state), state)
    np.testing.assert_allclose(back, action, atol=1e-6)
    np.testing.assert_allclose(to_matrix(back[3:6]), np.diag([1.0, -1, -1]), atol=1e-6)


def test_wrong_number_of_channels_names_card_and_a_fitting_one():
    with pytest.raises(DataError) as caught:
        ActionAdapter(load_card("franka")).encode_state(np.zeros((3, 14)))
    assert "14 channels" in caught.value.message
    assert "'franka' has 8" in caught.value.message
    assert "'aloha'" in caught.value.hint


def test_own_order_and_signs():
    data = load_card("pusht").model_dump()
    data["arms"][0]["joints"][1]["sign"] = -1
    data["arms"][0]["joints"][1].update(low=-0.512, high=0.0, home=-0.1)
    card = Card.model_validate(data | {"state_order": ("y", "x")})
    native = np.array([[100.0, 200.0]])
    np.testing.assert_allclose(ActionAdapter(card).encode_state(native), [[0.2, -0.1]])


def test_limit_error_names_channel_value_limit_and_frame():
    card = load_card("aloha")
    states = np.tile(card.home(), (20, 1))
    states[7, 1] = 1.5
    with pytest.raises(DataError) as caught:
        ActionAdapter(card).check(states, "state", "episode 3")
    assert "'vx300s_left/shoulder' is 1.5 rad at frame 7 of episode 3" in caught.value.message
    assert "-1.85 to 1.257" in caught.value.message
    assert caught.value.where == "episode 3"


def test_not_a_number_is_refused():
    states = np.tile(load_card("aloha").home(), (4, 1))
    states[2, 3] = np.nan
    with pytest.raises(DataError, match="is nan at frame 2"):
        ActionAdapter(load_card("aloha")).check(states, "state")


def rejected(card, values, kind="state"):
    with pytest.raises(DataError) as caught:
        ActionAdapter(card).check(values, kind)
    return caught.value.hint


def wave(card, seed=0, rows=60):
    """A smooth recording: states, and the actions that lead to the next one."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 6, rows + 1)[:, None]
    width = len(card.state_channels)
    shares = 0.5 + 0.4 * np.sin(time * rng.uniform(0.5, 1.5, width) + rng.uniform(0, 6, width))
    values = within(card.state_channels, shares)
    return values[:-1], values[1:]


@pytest.mark.parametrize("seed", range(10))
def test_degrees_are_recognised(seed):
    card = load_card("aloha")
    states, _ = wave(card, seed)
    joints = [i for i, c in enumerate(card.state_channels) if c.kind == "joint"]
    states[:, joints] = np.rad2deg(states[:, joints])
    assert "degrees" in rejected(card, states)


@pytest.mark.parametrize(("scale", "says"), [(255, "0..255"), (100, "0..100"), (-1, "-1..0")])
def test_gripper_scales_are_recognised(scale, says):
    card = load_card("aloha")
    states, _ = wave(card)
    states[:, 6] = np.linspace(0, 1, len(states)) * scale
    assert says in rejected(card, states)


@pytest.mark.parametrize(
    ("closed", "opened", "recorded", "says"),
    [
        (0, 100, (-100, 0), "lies in -100..0: its sign is turned; set open: -100 in the card"),
        (0, -3.4, (0, 3.4), "lies in 3.4..0: its sign is turned; set open: 3.4 in the card"),
        (0, 100, (-100, 100), "spans -100 to 100"),
        (0, 0.08, (0, 1), "looks like 0..1:"),
        (0, 0.04, (0, 0.08), "spans 0 to 0.08"),
        (1, 0, (0, 255), "looks like 0..255"),
        (1, 0, (-1, 1), "looks like -1..1"),
        (0, 0.08, (0, 100), "looks like 0..100"),
    ],
)
def test_hints_on_grippers_tell_what_was_recorded(closed, opened, recorded, says):
    """Not the openings between 0 and 1 that the card makes of it."""
    data = load_card("aloha").model_dump()
    data["arms"][0]["gripper"].update(closed=closed, open=opened)
    card = Card.model_validate(data)
    native = ActionAdapter(card).decode_state(wave(card)[0])
    native[:, 6] = np.linspace(*recorded, len(native))
    assert says in rejected(card, ActionAdapter(card).encode_state(native))


@pytest.mark.parametrize("seed", range(10))
def test_inverted_gripper_and_swapped_arms_are_proven_by_the_pair(seed):
    card = load_card("aloha")
    adapter = ActionAdapter(card)
    states, actions = wave(card, seed)
    states[:, [6, 13]] = actions[:, [6, 13]] = np.repeat([[0.0], [1.0], [0.0]], 20, axis=0)
    adapter.check_pair(states, actions)  # no false alarm
    turned = actions.copy()
    turned[:, 6] = 1 - turned[:, 6]
    with pytest.raises(DataError, match="runs against"):
        adapter.check_pair(states, turned, "episode 1")
    swapped = np.concatenate([actions[:, 7:], actions[:, :7]], axis=1)
    with pytest.raises(DataError, match="right arm"):
        adapter.check_pair(states, swapped)


def test_swapped_arms_are_seen_in_limits_that_differ():
    data = load_card("aloha").model_dump()
    for joint in data["arms"][1]["joints"]:
        joint.update(low=5.0, high=6.0, home=5.5)
    card = Card.model_validate(data)
    states, _ = wave(card)
    assert "exchanged" in rejected(card, np.concatenate([states[:, 7:], states[:, :7]], axis=1))
