"""RLDS folders: the contract on DROID's and Bridge's layout, and their traps."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from layouts.rlds import (
    Example,
    table,
    tensor,
    write_bridge,
    write_droid,
    write_folder,
    write_records,
)
from layouts.truth import make_truth
from reader_contract import ReaderContract, read_everything

from motus_adapters import open_source
from motus_adapters.readers.tfrecord import opened_example, record_starts
from motus_embodiments import DataError


class TestDroid(ReaderContract):
    format, channels, state_name = "rlds", (8, 8), "observation/joint_position"
    cameras = ("exterior_image_1_left", "wrist_image_left")
    task, rate = "put the pen in the cup", 15.0
    tolerance = 3.0  # JPEG
    shards = 3

    def write(self, folder, episodes):
        return write_droid(folder / "1.0.1", episodes, self.shards)

    def breakable(self, path):
        return next(path.glob("*tfrecord-00001*"))

    def state(self, truth):
        return inverted(truth.state)

    def action(self, truth):
        return inverted(truth.action)


def inverted(rows):
    """DROID's gripper is 0 open and 1 closed, ours the other way round."""
    return np.concatenate([rows[:, :7], 1 - rows[:, 7:]], axis=1)


class TestBridge(ReaderContract):
    format, channels, state_name, separate = "rlds", (7, 7), "observation/state", False
    cameras = ("image_0", "image_1")
    task, rate = "put the spoon on the towel", 5.0

    def write(self, folder, episodes):
        return write_bridge(folder, episodes)

    def breakable(self, path):
        return next(path.glob("*tfrecord-00001*"))


CAMERAS = ("exterior_image_1_left",)


def droid(folder: Path, count: int = 3) -> Path:
    return write_droid(folder, [make_truth(i, CAMERAS, (8, 8), "open it") for i in range(count)])


def warnings_of(path: Path) -> str:
    return "\n".join(w for r in open_source(path)[1] for w in r.episode.warnings)


def test_dummy_views_are_left_out_and_told(tmp_path):
    truths = [make_truth(i, ("image_0",), (7, 7), "push") for i in range(2)]
    recordings = open_source(write_bridge(tmp_path / "bridge", truths))[1]
    assert recordings[0].cameras == ("image_0",)
    assert "'image_9' shows one picture throughout" in recordings[0].episode.warnings[0]
    assert recordings[0].action_kind == "ee_delta"


def test_a_first_action_of_zeros_is_dropped_with_its_step(tmp_path):
    truth = make_truth(0, ("image_0",), (7, 7), "push")
    truth.action[0] = 0
    (recording,) = open_source(write_bridge(tmp_path / "bridge", [truth, truth]))[1][:1]
    assert recording.num_frames == len(truth.state) - 1
    np.testing.assert_allclose(recording.state, truth.state[1:])
    np.testing.assert_allclose(recording.action, truth.action[1:])
    frames = list(recording.frames("image_0"))
    np.testing.assert_array_equal(frames, truth.frames["image_0"][1:])
    assert "first action is all zero" in "\n".join(recording.episode.warnings)


def test_pictures_stored_as_numbers_lose_that_step_as_well(tmp_path):
    truth = make_truth(0, ("image",), (7, 7), "push")
    truth.action[0] = 0
    observation = {"image": tensor((48, 64, 3), "uint8"), "state": tensor((7,), "float32")}
    steps = {"action": tensor((7,), "float32"), "observation": table(observation)}
    values = {
        "steps/action": truth.action,
        "steps/observation/state": truth.state,
        "steps/observation/image": truth.frames["image"],
    }
    path = write_folder(tmp_path / "bridge", "bridge_dataset", steps, [values], shards=1)
    (recording,) = open_source(path)[1]
    np.testing.assert_array_equal(list(recording.frames("image")), truth.frames["image"][1:])


def test_a_flipped_bit_in_a_picture_is_noticed(tmp_path):
    path = droid(tmp_path / "droid")
    shard = next(path.glob("*-00000-of-*"))
    content = bytearray(shard.read_bytes())
    content[shard.read_bytes().index(b"\xff\xd8\xff") + 400] ^= 4
    shard.write_bytes(bytes(content))
    assert len(open_source(path)[1]) == 3
    with pytest.raises(DataError, match=r"00000-of-00002 has a wrong checksum in the record at"):
        read_everything(path)


def test_missing_shards_and_episodes_are_told(tmp_path):
    path = droid(tmp_path / "droid")
    next(path.glob("*-00001-of-*")).unlink()
    told = warnings_of(path)
    assert "split 'train' has 1 of its 2 shards" in told
    assert "dataset_info.json: split 'train' has 3 episodes, the files have 2" in told


def test_failures_are_told(tmp_path):
    path = droid(tmp_path / "droid", 2)
    shard = next(path.glob("*-00000-of-*"))
    offset, length = record_starts(shard)[0]
    example = Example.FromString(shard.read_bytes()[offset : offset + length])
    example.features.feature["episode_metadata/file_path"].bytes_list.value[0] = b"/failure/1.h5"
    values = {name: _plain(feature) for name, feature in example.features.feature.items()}
    write_records(shard, [values])
    assert "some episodes are recorded failures" in warnings_of(path)


def _plain(feature):
    if feature.bytes_list.value:
        return list(feature.bytes_list.value)
    kind = "float" if feature.float_list.value else "int64"
    return np.asarray(getattr(feature, f"{kind}_list").value)


def test_lists_of_unlike_length_are_errors(tmp_path):
    path = droid(tmp_path / "droid", 2)
    shard = next(path.glob("*-00000-of-*"))
    offset, length = record_starts(shard)[0]
    example = Example.FromString(shard.read_bytes()[offset : offset + length])
    values = {name: _plain(feature) for name, feature in example.features.feature.items()}
    short = {**values, "steps/observation/joint_position": np.zeros(7, np.float32)}
    write_records(shard, [short])
    with pytest.raises(DataError, match="'observation/joint_position' has 7 numbers for 8 steps"):
        read_everything(path)
    name = "steps/observation/exterior_image_1_left"
    write_records(shard, [{**values, name: values[name][:3]}])
    with pytest.raises(DataError, match="'exterior_image_1_left' has 3 frames for 8 steps"):
        read_everything(path)
    write_records(shard, [{"episode_metadata/file_path": [b"x"]}])
    with pytest.raises(DataError, match="there is no step in it"):
        open_source(path)


def test_another_container_is_named(tmp_path):
    path = droid(tmp_path / "droid", 1)
    for shard in path.glob("*tfrecord*"):
        shard.unlink()
    info = json.loads((path / "dataset_info.json").read_text())
    (path / "dataset_info.json").write_text(json.dumps({**info, "fileFormat": "array_record"}))
    with pytest.raises(DataError, match=r"no TFRecord file, and its files are said to be array_re"):
        open_source(path)


@pytest.mark.parametrize("schema", ["{", '{"featuresDict": {"features": {"steps": 7}}}'])
def test_a_broken_schema_is_named(tmp_path, schema):
    path = droid(tmp_path / "droid", 1)
    (path / "features.json").write_text(schema)
    with pytest.raises(DataError, match=r"features\.json"):
        open_source(path, "rlds")


def test_numbers_survive_every_encoding(tmp_path):
    """Negative and large whole numbers, and none at all, against protobuf's own encoder."""
    values = {
        "whole": np.array([0, 1, -1, 127, 128, 300, 2**31, -(2**63), 2**63 - 1]),
        "real": np.array([0.5, -1e30, np.nan], np.float32),
        "none": np.zeros(0, np.float32),
        "text": ["grün".encode(), b""],
    }
    write_records(tmp_path / "x", [values, values])
    (_, _), (offset, length) = record_starts(tmp_path / "x")
    with opened_example(tmp_path / "x", offset, length) as example:
        np.testing.assert_array_equal(example["whole"].numbers(), values["whole"])
        np.testing.assert_array_equal(example["real"].numbers(), values["real"])
        assert len(example["none"].numbers()) == 0
        assert [bytes(blob) for blob in example["text"].blobs()] == values["text"]


def test_fuzzed_messages_never_crash(tmp_path):
    """Past the checksums too: every byte of a small record changed, one at a time."""
    write_records(tmp_path / "x", [{"a": np.arange(3), "b": [b"xy"], "c": np.ones(2, np.float32)}])
    (offset, length), *_ = record_starts(tmp_path / "x")
    good = (tmp_path / "x").read_bytes()
    for place in range(offset, offset + length):
        for change in (1, 0x80, 0xFF):
            content = bytearray(good)
            content[place] ^= change
            (tmp_path / "x").write_bytes(bytes(content))
            # Whatever it raises is a DataError; any other exception fails the test.
            with (
                suppress(DataError),
                opened_example(tmp_path / "x", offset, length, checked=False) as example,
            ):
                for feature in example.values():
                    _ = feature.blobs() if feature.kind == "bytes" else feature.numbers()
