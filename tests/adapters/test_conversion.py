"""Recordings in, canonical numbers out, and every refusal with its reason."""

import json

import h5py
import numpy as np
import pytest

from motus_adapters import UnifiedDataset, convert, inspect_dataset, inspect_source
from motus_embodiments import Card, DataError, Kinematics, MissingError, UsageError, load_card


def test_pixels_become_metres(pusht_source, tmp_path):
    report = convert(pusht_source, tmp_path / "set", card="pusht", codec=None, task="push the T")
    assert (report.format, report.episodes, report.rate) == ("zarr", 5, 10.0)
    assert "no rate is stored; the card's 10 Hz is taken (--rate)" in report.warnings
    dataset = UnifiedDataset(tmp_path / "set")
    assert {e.task for e in dataset.episodes} == {"push the T"}
    arrays = dataset.arrays(2)
    assert 0.19 < arrays["state"].min() < arrays["state"].max() < 0.21
    moved = np.diff(arrays["state"], axis=0)
    np.testing.assert_allclose(arrays["motion"][:-1, :2], moved, atol=1e-6)
    assert (arrays["motion"][-1] == 0).all()
    assert dataset.meta.motion_mask == (True, True, *([False] * 12))


def test_actions_from_the_following_state(pusht_source, tmp_path):
    out = tmp_path / "set"
    convert(pusht_source, out, card="pusht", codec=None, mapping={"action": []})
    arrays = UnifiedDataset(out).arrays(0)
    np.testing.assert_array_equal(arrays["action"][:-1], arrays["state"][1:])
    np.testing.assert_array_equal(arrays["action"][-1], arrays["state"][-1])


def test_wrong_card_names_one_that_fits(pusht_source, tmp_path):
    with pytest.raises(DataError, match="has 2 channels, the card 'aloha' has 14") as caught:
        convert(pusht_source, tmp_path / "set", card="aloha", codec=None)
    assert "pusht" in caught.value.hint
    assert not (tmp_path / "set").exists()


def test_limits_name_joint_frame_and_recording(layouts, tmp_path):
    truths = [layouts.truth(i, ("img",), (2, 2)) for i in range(2)]
    truths[1].state[4, 1] = 9000
    path = layouts.zarr(tmp_path / "r.zarr", truths)
    with pytest.raises(DataError, match=r"'y' is 9 m at frame 4 of episode_1") as caught:
        convert(path, tmp_path / "set", card="pusht", codec=None)
    assert "--allow limits" in caught.value.hint
    assert not (tmp_path / "set").exists()
    report = convert(path, tmp_path / "bad", card="pusht", codec=None, skip_bad=True)
    assert (report.episodes, [name for name, _ in report.skipped]) == (1, ["episode_1"])
    convert(path, tmp_path / "set", card="pusht", codec=None, allow={"limits"})
    assert inspect_dataset(tmp_path / "set").allowed == ("limits",)


def _degrees(truth):
    joints = [i for i in range(14) if i not in (6, 13)]
    truth.state[:, joints] = np.degrees(truth.state[:, joints])


def _beyond(truth):
    truth.state[6, 9] = 4.0


def _gripper_in_millimetres(truth):
    truth.state[:, 13] = np.linspace(0, 90, len(truth.state))


def _gripper_turned(truth):
    truth.action[:, 6] = 1 - truth.state[:, 6]


def _arms_exchanged(truth):
    truth.action[:] = np.concatenate([truth.state[:, 7:], truth.state[:, :7]], axis=1)


@pytest.mark.parametrize(
    ("spoil", "allowance", "message", "hint"),
    [
        (_degrees, "limits", r"state 'vx300s_\w+/\w+' is .* at frame \d+ of episode_1", "degrees"),
        (_beyond, "limits", "'vx300s_right/elbow' is 4 rad at frame 6 of episode_1", ""),
        (_gripper_in_millimetres, "limits", "'right_gripper' is 90 at frame", "0..100"),
        (_gripper_turned, "pairs", r"left_gripper.*episode_1|episode_1.*left_gripper", ""),
        (_arms_exchanged, "pairs", "episode_1", "order"),
    ],
)
def test_contradictions(layouts, tmp_path, spoil, allowance, message, hint):
    """Units, limits, gripper and order: refused by name, or let through and noted."""
    truths = [layouts.truth(i + 20, ("top",), (14, 14)) for i in range(3)]
    for truth in truths:
        t = np.linspace(0, 3, len(truth.state))[:, None]
        truth.state[:] = 0.4 * np.sin(2 * t + np.arange(14)) + 0.3 * (np.arange(14) > 6)
        truth.state[:, 6::7] = 0.5 + 0.4 * np.sin(3 * t)
        truth.action[:-1], truth.action[-1] = truth.state[1:], truth.state[-1]
    spoil(truths[1])
    source, out = layouts.act(tmp_path / "act", truths), tmp_path / "set"
    options = {"card": "aloha", "codec": None}
    with pytest.raises(DataError, match=message) as caught:
        convert(source, out, **options, allow={"motion"})
    assert hint in caught.value.hint
    assert f"--allow {allowance} lets it through" in caught.value.hint
    assert not out.exists()
    report = convert(source, out, **options, allow={"motion", "limits", "pairs"})
    assert any(f"let through in 1 recordings (--allow {allowance})" in w for w in report.warnings)
    noted = json.loads((out / "meta/motus.json").read_text())["options"]
    assert noted["allow"] == ["limits", "motion", "pairs"]
    assert noted["let_through"][allowance] == 1


def test_unknown_limits_are_plain_json(layouts, tmp_path):
    """A card without limits: null in the manifest, infinite when it is read back."""
    joints = [{"name": n, "unit": "rad"} for n in ("a", "b")]
    card = _mobile_card(arms=[{"side": "left", "joints": joints}])
    source = layouts.zarr(tmp_path / "r.zarr", [layouts.truth(0, ("img",), (2, 2))])
    convert(source, tmp_path / "set", card=card, codec=None, allow={"motion"})
    text = (tmp_path / "set/meta/motus.json").read_text()
    manifest = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (manifest["state"][0]["low"], manifest["state"][0]["high"]) == (None, None)
    assert UnifiedDataset(tmp_path / "set").meta.card == card
    assert UnifiedDataset(tmp_path / "set").meta.card.state_channels[0].low == -np.inf


def test_dry_run_writes_nothing(pusht_source, tmp_path):
    report = convert(pusht_source, tmp_path / "set", card="pusht", codec=None, dry_run=True)
    assert (report.episodes, report.dry_run) == (5, True)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 7}, "level is 7"),
        ({"allow": {"limit"}}, "no 'limit'"),
        ({"resume": True, "force": True}, "contradict"),
        ({"format": "bag"}, "no format named 'bag'"),
        ({"mapping": {"cameras": {"head": "top"}}}, "has no camera 'top'"),
        ({"mapping": {"cameras": {"nose": "img"}}}, "unknown camera role 'nose'"),
        ({"card": "puscht"}, "no embodiment named 'puscht'"),
    ],
)
def test_wrong_options(pusht_source, tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        convert(pusht_source, tmp_path / "set", **{"card": "pusht", "codec": None, **options})
    assert not (tmp_path / "set").exists()


def test_missing_codec(pusht_source, tmp_path):
    with pytest.raises(MissingError, match="no codec at"):
        convert(pusht_source, tmp_path / "set", card="pusht", codec=tmp_path / "none")


def test_unified_source_is_refused(pusht_source, tmp_path):
    convert(pusht_source, tmp_path / "set", card="pusht", codec=None)
    with pytest.raises(UsageError, match="unified dataset already"):
        convert(tmp_path / "set", tmp_path / "again", card="pusht", codec=None)


def test_damage_inside_a_file(layouts, tmp_path):
    """A chunk of pictures is damaged: the numbers are fine, so only decoding finds it."""
    card = _mobile_card()
    truths = [layouts.truth(i, ("top",), (2, 2), "go", 10.0) for i in range(3)]
    path = layouts.robomimic(tmp_path / "demos.hdf5", truths)
    with h5py.File(path, "a") as h5:
        frames = h5["data/demo_1/obs/top"][()]
        del h5["data/demo_1/obs/top"]
        images = h5["data/demo_1/obs"].create_dataset("top", data=frames, compression="gzip")
        offset = images.id.get_chunk_info(0).byte_offset
        size = images.id.get_chunk_info(0).size
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = bytes(size)
    path.write_bytes(bytes(content))
    mapping = {"state": ["obs/joint_pos", "obs/gripper_pos"], "cameras": {"head": "top"}}
    with pytest.raises(DataError, match=r"demos\.hdf5"):
        convert(path, tmp_path / "set", card=card, codec=None, mapping=mapping)
    with pytest.raises(DataError, match="half written"):
        UnifiedDataset(tmp_path / "set")
    report = convert(
        path, tmp_path / "set", card=card, codec=None, mapping=mapping, resume=True, skip_bad=True
    )
    assert [name for name, _ in report.skipped] == ["demo_1"]
    assert report.episodes == 2


def _mobile_card(**changes):
    joints = [{"name": n, "unit": "m", "low": -9, "high": 9, "axis": n} for n in "xy"]
    data = {
        "name": "stage",
        "title": "A stage",
        "arms": [{"side": "left", "joints": joints}],
        "rate": 10,
        "action": {"representation": "joint_position"},
    }
    return Card.model_validate({**data, **changes})


def test_cameras_by_alias_and_by_being_alone(layouts, tmp_path):
    cameras = ({"name": "front", "role": "head", "aliases": ["top"]},)
    truths = [layouts.truth(0, ("top", "spare"), (2, 2))]
    path = layouts.zarr(tmp_path / "a.zarr", truths)
    report = convert(path, tmp_path / "a", card=_mobile_card(cameras=cameras), codec=None)
    assert report.cameras == {"head": "top"}
    assert "not used: camera spare" in report.warnings
    with pytest.raises(DataError, match="has the cameras spare, top; the card 'stage' knows none"):
        convert(path, tmp_path / "b", card=_mobile_card(), codec=None)
    path = layouts.zarr(tmp_path / "b.zarr", [layouts.truth(0, ("odd",), (2, 2))])
    report = convert(path, tmp_path / "b", card=_mobile_card(), codec=None)
    assert report.cameras == {"head": "odd"}
    assert "camera 'odd' is taken for the head view" in report.warnings


def test_joint_actions_become_poses(layouts, tmp_path):
    pytest.importorskip("gym_hil")
    card = load_card("franka")
    home = np.asarray(card.home())
    truths = []
    for i in range(2):
        truth = layouts.truth(i, ("front_image", "wrist_image"), (8, 8), "lift", 10.0)
        truth.state[:] = home + 0.3 * truth.state
        truth.action[:] = truth.state + 0.01
        truth.state[:, -1], truth.action[:, -1] = 0.7, 0.6
        truths.append(truth)
    path = layouts.robomimic(tmp_path / "demos.hdf5", truths)
    mapping = {"cameras": {"head": "front_image", "left_wrist": "wrist_image"}}
    kind = {**mapping, "action_kind": "joint_position"}
    convert(path, tmp_path / "set", card=card, codec=None, mapping=kind, allow={"limits"})
    dataset = UnifiedDataset(tmp_path / "set")
    arrays = dataset.arrays(1)
    kinematics = Kinematics(card)
    poses = kinematics.poses(truths[1].action.astype(np.float64))[:, 0]
    np.testing.assert_allclose(arrays["action"][:, :3], poses[:, :3, 3], atol=1e-5)
    np.testing.assert_allclose(arrays["action"][:, 6], 0.6, atol=1e-6)
    motion, mask = kinematics.motion(truths[1].state.astype(np.float64))
    np.testing.assert_allclose(arrays["motion"], motion, atol=1e-5)
    assert dataset.meta.motion_mask == tuple(mask)
    assert dataset.meta.layout.boxes["left_wrist"][2:] == (32, 24)
    wrong = {**mapping, "action_kind": "ee_delta"}
    with pytest.raises(DataError, match="are ee_delta, the card 'franka' has ee_pose") as caught:
        convert(path, tmp_path / "x", card=card, codec=None, mapping=wrong)
    assert "action: []" in caught.value.hint


@pytest.mark.slow
def test_memory_does_not_grow_with_episodes(layouts, tmp_path, monkeypatch):
    """The peak of traced allocations hardly changes from 50 to 100 episodes."""
    import tracemalloc

    monkeypatch.setattr("motus_adapters.unified.assemble._ROWS", 4)
    peaks = []
    for count in (50, 100):
        truths = [layouts.truth(i % 4, ("img",), (2, 2), "go", 10.0) for i in range(count)]
        path = layouts.robomimic(tmp_path / f"{count}.hdf5", truths)
        tracemalloc.start()
        convert(path, tmp_path / f"set{count}", card=_mobile_card(), codec=None)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 300_000


def test_inspect_source(pusht_source):
    report = inspect_source(pusht_source)
    assert (report.format, report.episodes, report.frames) == ("zarr", 5, sum(range(8, 13)))
    assert report.cameras == {"img": (64, 48)}
    roles = {column.name: column.role for column in report.columns}
    assert roles == {"action": "action", "agent_pos": "state"}
    assert 199 < report.columns[0].low[0] < report.columns[0].high[0] < 201
    assert report.embodiments[0] == "pusht"
    assert report.next == f"motus convert {pusht_source} data/source --embodiment pusht"


def test_inspect_dataset(pusht_source, tmp_path):
    convert(pusht_source, tmp_path / "set", card="pusht", codec=None, level=5)
    report = inspect_dataset(tmp_path / "set")
    assert (report.embodiment, report.level, report.episodes) == ("pusht", 5, 5)
    assert report.features == {"observation.state": 2, "action": 2, "motion": 14}
    assert (report.shortest, report.longest, report.motion) == (8, 12, 2)
    with pytest.raises(DataError, match="is no unified dataset"):
        inspect_dataset(tmp_path)


def test_manifest_is_plain_json(pusht_source, tmp_path):
    convert(pusht_source, tmp_path / "set", card=_mobile_card(), codec=None, allow={"limits"})
    text = (tmp_path / "set/meta/motus.json").read_text()
    manifest = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert manifest["source"]["format"] == "zarr"
    assert manifest["source"]["name"] == "source.zarr"
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    ("name", "card", "frames"),
    [("act_hdf5_aloha_sim", "aloha", 630), ("lerobot_v20_gr1_sim", "gr1", 2096)],
)
def test_real_recordings(shared, tmp_path, name, card, frames):
    if card == "aloha":
        pytest.importorskip("gym_aloha")
    report = convert(shared / name, tmp_path / "set", card=card, codec=None)
    assert report.frames == frames
    dataset = UnifiedDataset(tmp_path / "set")
    assert len(list(dataset.frames(1))) == dataset.episodes[1].length


@pytest.mark.slow
def test_real_pusht_whole(shared, tmp_path):
    report = convert(shared / "pusht_zarr", tmp_path / "set", card="pusht", codec=None, workers=2)
    assert (report.episodes, report.frames) == (206, 25650)
