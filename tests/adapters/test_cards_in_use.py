"""Shipped cards on the recordings they are for: hands without actions, changes, own units."""

import json

import h5py
import numpy as np
import pytest
from layouts.egodex import HAND, write_egodex
from layouts.truth import make_truth

from motus_adapters import UnifiedDataset, convert
from motus_embodiments import Card, load_card
from motus_embodiments.numbers.orientations import to_native


def test_human_hands_have_motion_and_no_actions(tmp_path):
    source = write_egodex(tmp_path / "e", [make_truth(0, ("ego",), (2, 2), "pours")])
    mapping = {"state": ["leftHand", "rightHand"]}
    convert(source, tmp_path / "d", card="human-hands", mapping=mapping, codec=None, level=2)
    dataset = UnifiedDataset(tmp_path / "d")
    assert not dataset.meta.has_action
    assert dataset.meta.motion_mask == (*[True] * 6, False, *[True] * 6, False)
    arrays = dataset.arrays(0)
    np.testing.assert_allclose(
        arrays["state"][:, :3], np.tile(HAND, (len(arrays["state"]), 1)), atol=1e-5
    )
    np.testing.assert_allclose(arrays["motion"], 0, atol=1e-5)  # the hands stay before the camera


def test_changes_become_targets(tmp_path):
    """Bridge's: poses as rpy, actions as changes of them, a gripper that is 1 open."""
    rng = np.random.default_rng(0)
    frames = 40
    place = np.cumsum(rng.normal(0, 0.01, (frames + 1, 3)), 0)
    turn = np.cumsum(rng.normal(0, 0.02, (frames + 1, 3)), 0)
    opening = np.repeat([1.0, 0, 1, 0, 1], 9)[: frames + 1, None]
    poses = np.hstack([place, to_native(turn, "rpy"), opening])
    with h5py.File(tmp_path / "x.hdf5", "w") as h5:
        demo = h5.create_group("data/demo_0")
        demo["obs/pose"] = poses[:-1]
        demo["obs/image_0_image"] = np.zeros((frames, 48, 64, 3), np.uint8)
        changes = np.zeros((frames, 7))
        changes[:, :3] = np.diff(place, axis=0)
        changes[:, 6] = opening[1:, 0]
        demo["actions"] = changes
        demo.attrs["num_samples"] = frames
        h5["data"].attrs["env_args"] = json.dumps({"env_name": "x"})
    mapping = {"state": "obs/pose", "action_kind": "ee_delta", "rate": 5, "task": "push"}
    convert(tmp_path / "x.hdf5", tmp_path / "d", card="widowx-bridge", mapping=mapping, codec=None)
    arrays = UnifiedDataset(tmp_path / "d").arrays(0)
    assert arrays["state"].shape == (frames, 7)
    np.testing.assert_allclose(arrays["state"][:, 3:6], turn[:-1], atol=1e-5)
    np.testing.assert_allclose(arrays["action"][:, :3], place[1:], atol=1e-5)
    np.testing.assert_allclose(arrays["action"][:, 3:6], turn[:-1], atol=1e-5)
    np.testing.assert_allclose(arrays["motion"][:-1, :3], np.diff(place, axis=0)[:-1], atol=1e-5)


def test_a_joint_unit_of_percent_needs_what_it_means():
    data = load_card("so101").model_dump(mode="json", exclude_unset=True)
    data["arms"][0]["joints"][0] |= {"unit": "percent"}
    with pytest.raises(ValueError, match="needs a scale"):
        Card.model_validate(data)
