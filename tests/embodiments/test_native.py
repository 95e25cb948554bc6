"""How recordings write actions: every orientation, changes of every kind, and back exactly."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motus_embodiments import ActionAdapter, Card, DataError, Kinematics
from motus_embodiments.numbers.orientations import NAMES, from_native, to_native
from motus_embodiments.numbers.rotations import to_matrix, to_vector

FORMS = list(NAMES)
QUICK = settings(max_examples=20)


def told(**action):
    """Two arms whose recordings hold end-effector poses, so that no model is needed."""
    arm = {"pose": "quaternion_xyzw", "gripper": {"closed": 100.0, "open": 0.0}}
    spec = {"representation": "ee_pose"} | action
    table = {"name": "told", "title": "told", "rate": 10.0, "action": spec}
    return Card.model_validate(table | {"arms": [arm | {"side": s} for s in ("left", "right")]})


def vectors(seed, rows=6):
    """Rotation vectors shorter than pi."""
    rng = np.random.default_rng(seed)
    ways = rng.normal(size=(rows, 3))
    ways /= np.linalg.norm(ways, axis=1, keepdims=True)
    return ways * rng.uniform(0, 3.1, size=(rows, 1))


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 2**32))
@QUICK
def test_orientations_come_back(form, seed):
    vector = vectors(seed)
    native = to_native(vector, form)
    assert native.shape == (6, len(NAMES[form]))
    np.testing.assert_allclose(from_native(native, form), vector, atol=1e-8)
    np.testing.assert_allclose(to_native(from_native(native, form), form), native, atol=1e-8)


def test_orientations_mean_what_their_names_say():
    quarter = np.array([0, 0, np.pi / 2])  # x to y about z
    half = np.sqrt(0.5)
    np.testing.assert_allclose(to_native(quarter, "quaternion_wxyz"), [half, 0, 0, half])
    np.testing.assert_allclose(to_native(quarter, "quaternion_xyzw"), [0, 0, half, half])
    np.testing.assert_allclose(to_native(quarter, "rpy"), [0, 0, np.pi / 2], atol=1e-15)
    np.testing.assert_allclose(to_native(quarter, "rot6d"), [0, 1, 0, -1, 0, 0], atol=1e-15)
    np.testing.assert_allclose(to_native(quarter, "rot6d_rows"), [0, -1, 0, 1, 0, 0], atol=1e-15)
    # Fixed axes: first roll about x, then pitch about y, then yaw about z.
    turned = from_native(np.array([0.3, -0.4, 0.5]), "rpy")
    z, y, x = (to_matrix(np.array(v)) for v in ([0, 0, 0.5], [0, -0.4, 0], [0.3, 0, 0]))
    np.testing.assert_allclose(to_matrix(turned), z @ y @ x, atol=1e-12)


@pytest.mark.parametrize("small", [0, 1e-15, 5e-13, 1e-12, 1e-9])
@pytest.mark.parametrize("sign", [1, -1])
def test_quaternions_at_no_turn_and_at_half_a_turn(sign, small):
    none = from_native(np.array([sign, small, 0, 0]), "quaternion_wxyz")
    np.testing.assert_allclose(none, [2 * sign * small, 0, 0], atol=1e-12)
    for w in (small, -small):
        half = from_native(np.array([w, 0, sign, 0]), "quaternion_wxyz")
        np.testing.assert_allclose(half, [0, np.pi, 0], atol=1e-8)


def test_both_quaternions_and_stretched_axes_are_one_orientation():
    vector = vectors(3)
    native = to_native(vector, "quaternion_wxyz")
    np.testing.assert_allclose(from_native(-3 * native, "quaternion_wxyz"), vector, atol=1e-8)
    sixes = to_native(vector, "rot6d")
    sixes[:, 3:] += 0.5 * sixes[:, :3]
    np.testing.assert_allclose(from_native(2 * sixes, "rot6d"), vector, atol=1e-8)


@pytest.mark.parametrize("pitch", [np.pi / 2, -np.pi / 2])
def test_straight_up_and_down_have_no_roll(pitch):
    vector = from_native(np.array([0.3, pitch, 0.9]), "rpy")
    native = to_native(vector, "rpy")
    assert native[0] == 0
    np.testing.assert_allclose(to_matrix(from_native(native, "rpy")), to_matrix(vector), atol=1e-7)


@pytest.mark.parametrize("form", ["quaternion_wxyz", "rot6d"])
def test_no_orientation_is_refused(form):
    with pytest.raises(DataError, match="no orientation"):
        from_native(np.zeros((2, len(NAMES[form]))), form)


KINDS = [
    {"orientation": form, "delta": delta, "axes": axes}
    for form, delta, axes in itertools.product(FORMS, [None, "state", "command"], ["base", "tool"])
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@given(seed=st.integers(0, 2**32))
@settings(max_examples=8)
def test_recorded_actions_come_back(kind, seed):
    card = told(**kind, position_scale=0.05)
    adapter = ActionAdapter(card)
    rng = np.random.default_rng(seed)

    def canonical(rows):
        arms = [
            np.hstack(
                [
                    rng.normal(size=(rows, 3)),
                    vectors(rng.integers(2**32), rows),
                    rng.uniform(size=(rows, 1)),
                ]
            )
            for _ in card.arms
        ]
        return np.hstack(arms)

    state, action = canonical(6), canonical(6)
    for beside in (state, state[0]):
        native = adapter.decode_action(action, beside)
        assert native.shape == (6, len(card.recorded_action))
        np.testing.assert_allclose(adapter.encode_action(native, beside), action, atol=1e-8)
    batch = adapter.decode_action(np.stack([action, state]), np.stack([state[0], action[0]]))
    np.testing.assert_allclose(batch[0], adapter.decode_action(action, state[0]))
    np.testing.assert_allclose(batch[1], adapter.decode_action(state, action[0]))


def test_changes_mean_what_they_say():
    """A change along the base's axes, along the tool's, and from the command before."""
    start = np.array([1.0, 2, 3, 0, 0, np.pi / 2, 1.0])  # the tool's x is the base's y
    state = np.tile(np.concatenate([start, start]), (3, 1))
    native = np.zeros((3, 14))
    native[:, 0], native[:, 5] = 0.1, np.pi / 2  # forward, and a quarter turn about z

    def moved(**kind):
        targets = ActionAdapter(told(**kind)).encode_action(native, state)
        return targets[:, :3], to_matrix(targets[:, 3:6])[..., 0]

    place, ahead = moved(delta="state")
    np.testing.assert_allclose(place, [[1.1, 2, 3]] * 3)
    np.testing.assert_allclose(ahead, [[-1, 0, 0]] * 3, atol=1e-12)
    place, _ = moved(delta="state", axes="tool")
    np.testing.assert_allclose(place, [[1, 2.1, 3]] * 3)
    place, ahead = moved(delta="command")
    np.testing.assert_allclose(place[:, 0], [1.1, 1.2, 1.3])
    np.testing.assert_allclose(ahead, [[-1, 0, 0], [0, -1, 0], [1, 0, 0]], atol=1e-12)
    place, _ = moved(delta="command", axes="tool")
    np.testing.assert_allclose(place, [[1, 2.1, 3], [0.9, 2.1, 3], [0.9, 2, 3]], atol=1e-12)


def test_joint_changes_have_units_and_signs_but_no_zero():
    joints = [
        {"name": "a", "unit": "deg", "sign": -1, "zero": 1.0},
        {"name": "b", "unit": "percent", "scale": 0.02, "zero": -0.5},
    ]
    arm = {"side": "left", "joints": joints, "gripper": {"closed": 0, "open": 100}}
    table = {"name": "j", "title": "j", "rate": 10, "arms": [arm]}
    absolute = ActionAdapter(
        Card.model_validate(table | {"action": {"representation": "joint_position"}})
    )
    native = np.array([[90.0, 50, 25], [0, 0, 100]])
    np.testing.assert_allclose(
        absolute.encode_state(native), [[1 - np.pi / 2, 0.5, 0.25], [1, -0.5, 1]]
    )
    spec = {"representation": "joint_position", "delta": "state"}
    changes = ActionAdapter(Card.model_validate(table | {"action": spec}))
    state = np.array([[0.2, 0.3, 0.5], [0.4, 0.1, 0.5]])
    targets = changes.encode_action(native, state)
    np.testing.assert_allclose(targets, [[0.2 - np.pi / 2, 1.3, 0.25], [0.4, 0.1, 1]])
    np.testing.assert_allclose(changes.decode_action(targets, state), native, atol=1e-12)


def test_changes_need_their_states():
    adapter = ActionAdapter(told(delta="state"))
    with pytest.raises(DataError, match="changes"):
        adapter.encode_action(np.zeros((4, 14)))
    with pytest.raises(DataError, match="do not belong"):
        adapter.encode_action(np.zeros((4, 14)), np.zeros((3, 14)))


def test_motion_comes_from_recorded_poses():
    card = told()
    kinematics = Kinematics(card)
    assert kinematics.has_poses
    rng = np.random.default_rng(0)
    state = np.hstack(
        [
            np.hstack([rng.normal(size=(5, 3)), vectors(s, 5), rng.uniform(size=(5, 1))])
            for s in (0, 1)
        ]
    )
    motion, mask = kinematics.motion(state)
    assert mask.all()
    np.testing.assert_allclose(motion[:-1, :3], np.diff(state[:, :3], axis=0), atol=1e-6)
    turns = to_matrix(state[:, 10:13])
    np.testing.assert_allclose(
        motion[:-1, 10:13], to_vector(turns[1:] @ np.swapaxes(turns[:-1], 1, 2)), atol=1e-5
    )
    np.testing.assert_allclose(motion[:-1, 6], state[1:, 6], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"action": {"representation": "ee_position", "axes": "tool"}}, "axes"),
        (
            {"action": {"representation": "ee_pose", "orientation": "rot6d", "rotation_scale": 2}},
            "no unit",
        ),
        ({"arms": [{"side": "left"}]}, "needs joints"),
        ({"arms": [{"side": "left", "pose": "rpy"}], "model": {"file": "x.xml"}}, "no joints"),
        ({"state_order": ["left_x"]}, "state_order"),
    ],
)
def test_cards_that_make_no_sense_are_refused(change, says):
    table = told().model_dump(exclude_unset=True)
    with pytest.raises(ValueError, match=says):
        Card.model_validate(table | change)
