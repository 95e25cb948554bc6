"""Forward and inverse kinematics, motion, and coupled fingers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motus_embodiments import Card, DataError, Kinematics, MissingError, UsageError, load_card
from motus_embodiments.numbers.rotations import to_matrix, to_vector
from tests.embodiments.conftest import shipped_with_models

MODELS = shipped_with_models()


@given(
    axis=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda a: np.linalg.norm(a) > 0.01),
    angle=st.one_of(st.floats(0, 3.1415), st.just(np.pi), st.floats(0, 1e-9)),
)
def test_rotation_vectors_come_back(axis, angle):
    vector = np.array(axis) / np.linalg.norm(axis) * angle
    matrix = to_matrix(vector)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(to_matrix(to_vector(matrix)), matrix, atol=1e-9)
    if angle < 3.14:
        np.testing.assert_allclose(to_vector(matrix), vector, atol=1e-9)


def test_poses_of_the_toy_arm_are_in_its_base_frame(toy):
    upright = np.array([[0.0, 0, 0, 0, 1]])
    pose = Kinematics(toy).poses(upright)[0, 0]
    np.testing.assert_allclose(pose[:3, 3], [0, 0, 0.1 + 0.3 + 0.25 + 0.06], atol=1e-12)
    turned = Kinematics(toy).poses(np.array([[0.5, 0, 0, 0, 1]]))[0, 0]
    np.testing.assert_allclose(turned[:3, :3], to_matrix(np.array([0, 0, 0.5])), atol=1e-12)


def test_poses_are_told_in_a_base_that_a_joint_moves(toy):
    """As on a lift: here the upper arm is the base, which turns."""
    data = toy.model_dump()
    data["arms"][0]["base"] = "upper"
    kinematics = Kinematics(Card.model_validate(data))
    states = np.array([[turn, lift, 0.4, 0, 1] for turn, lift in ((0, 0), (0.5, 0.2), (1, 0.4))])
    poses = kinematics.poses(states)
    np.testing.assert_allclose(poses, np.tile(poses[0], (3, 1, 1, 1)), atol=1e-12)
    motion, _ = kinematics.motion(states)
    np.testing.assert_allclose(motion[:, :6], 0, atol=1e-12)


@pytest.mark.parametrize("card", MODELS)
def test_motion_adds_up_to_the_poses(card):
    kinematics = Kinematics(card)
    rng = np.random.default_rng(0)
    states = np.array(card.home()) + 0.02 * np.cumsum(rng.normal(size=(20, len(card.home()))), 0)
    motion, mask = kinematics.motion(states)
    poses = kinematics.poses(states)
    assert motion.dtype == np.float32
    for a, arm in enumerate(card.arms):
        at = 0 if arm.side == "left" else 7
        assert mask[at : at + 6].all()
        assert mask[at + 6] == (arm.gripper is not None)
        total = poses[0, a, :3, 3] + motion[:, at : at + 3].sum(axis=0)
        np.testing.assert_allclose(total, poses[-1, a, :3, 3], atol=1e-5)
        R = poses[0, a, :3, :3]
        for row in motion[:-1, at + 3 : at + 6]:
            R = to_matrix(row.astype(float)) @ R
        np.testing.assert_allclose(R, poses[-1, a, :3, :3], atol=1e-5)
        if arm.gripper is None:
            continue
        column = [c.name for c in card.state_channels].index(arm.gripper_name)
        np.testing.assert_allclose(motion[:-1, at + 6], states[1:, column], atol=1e-6)
    assert not motion[-1, :6].any()
    assert mask.sum() == sum(6 + (arm.gripper is not None) for arm in card.arms)


def test_a_stage_has_only_the_motion_it_can_make():
    states = np.array([[0.1, 0.2], [0.15, 0.1], [0.2, 0.1]])
    motion, mask = Kinematics(load_card("pusht")).motion(states)
    assert mask.nonzero()[0].tolist() == [0, 1]
    np.testing.assert_allclose(motion[:, :2], [[0.05, -0.1], [0.05, 0], [0, 0]], atol=1e-7)


def test_without_a_model_there_are_no_poses_and_an_empty_mask():
    kinematics = Kinematics(load_card("gr1"))
    motion, mask = kinematics.motion(np.zeros((4, 44)))
    assert not mask.any()
    assert not motion.any()
    with pytest.raises(UsageError, match="no robot model"):
        kinematics.poses(np.zeros((4, 44)))


@pytest.mark.parametrize("card", MODELS)
def test_inverse_kinematics_reaches_what_forward_kinematics_gives(card):
    kinematics = Kinematics(card)
    rng = np.random.default_rng(1)
    solved = 0
    for _ in range(20):
        for a, arm in enumerate(card.arms):
            frame = kinematics.frames[a]
            state = np.array(card.home())
            low, high = np.clip([frame.low, frame.high], -np.pi, np.pi)
            state[frame.columns] = rng.uniform(low * 0.8, high * 0.8)
            target = kinematics.poses(state[None])[0, a]
            q = kinematics.solve_ik(arm.side, target, np.array(card.home())[frame.columns])
            if q is None:
                continue
            solved += 1
            state[frame.columns] = q
            reached = kinematics.poses(state[None])[0, a]
            assert np.linalg.norm(reached[:3, 3] - target[:3, 3]) < 2e-3
            assert np.linalg.norm(to_vector(reached[:3, :3].T @ target[:3, :3])) < 2e-2
            assert (q >= frame.low).all()
            assert (q <= frame.high).all()
    assert solved >= 0.7 * 20 * len(card.arms)


def test_coupled_fingers_follow_the_opening():
    card = next((p.values[0] for p in MODELS if p.id == "franka"), None)
    kinematics = Kinematics(card)
    model = kinematics.model
    states = np.tile(card.home(), (3, 1))
    states[:, 7] = [0, 0.5, 1]
    qpos = kinematics.qpos(states)
    left, right = (
        qpos[:, model.joint(f"{side}_driver_joint").qposadr[0]] for side in ("left", "right")
    )
    np.testing.assert_allclose(left, [0.8, 0.4, 0])
    np.testing.assert_allclose(left, right)
    # The parallel linkage keeps the pads upright: the follower turns back what the driver turns.
    follower = qpos[:, model.joint("left_follower_joint").qposadr[0]]
    np.testing.assert_allclose(follower, -left, atol=0.04)


def test_a_model_that_is_not_here_says_how_to_get_it():
    data = load_card("franka").model_dump()
    data["model"].update(package="gym_hil_missing")
    with pytest.raises(MissingError) as caught:
        Kinematics(Card.model_validate(data))
    assert caught.value.hint == "pip install 'motus-cli[sim]'"


def test_a_joint_that_the_model_lacks_is_named(toy):
    data = toy.model_dump()
    data["arms"][0]["joints"][0]["name"] = "twist"
    with pytest.raises(DataError, match="'twist'") as caught:
        Kinematics(Card.model_validate(data))
    assert "turn" in caught.value.hint


def test_states_of_the_wrong_width_are_refused(toy):
    with pytest.raises(DataError, match="must be"):
        Kinematics(toy).poses(np.zeros((2, 3)))
