"""Every reader gives back what was recorded: one contract, one subclass a layout."""

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from motus_adapters import ColumnMap, open_source
from motus_adapters.readers import content_hash
from motus_embodiments import DataError, UsageError


class ReaderContract:
    """The tests; a subclass says what is written and where."""

    format: str
    cameras: tuple[str, ...] = ("cam_high", "cam_wrist")
    channels: tuple[int, int] = (8, 7)
    task: str | None = None
    rate: float | None = None
    state_name = ""
    camera_name = "{}"
    tolerance = 0.0  # mean absolute error of a pixel

    def write(self, layouts, folder, episodes):
        raise NotImplementedError

    def breakable(self, path):
        """A file whose loss of its second half must be noticed on opening."""
        return next(p for p in sorted(path.rglob("*")) if p.is_file())

    @pytest.fixture
    def truths(self, layouts):
        return [
            layouts.truth(i, self.cameras, self.channels, self.task, self.rate) for i in range(11)
        ]

    @pytest.fixture
    def path(self, layouts, tmp_path, truths):
        return self.write(layouts, tmp_path / "recordings", truths)

    def test_is_recognised(self, path):
        assert open_source(path)[0].name == self.format

    def test_numbers_come_back_in_numeric_order(self, path, truths):
        _, recordings = open_source(path)
        assert len(recordings) == len(truths)
        assert len({r.name for r in recordings}) == len(truths)
        for recording, truth in zip(recordings, truths, strict=True):
            assert recording.num_frames == len(truth.state)
            np.testing.assert_array_equal(recording.state, truth.state)
            np.testing.assert_array_equal(recording.action, truth.action)
            assert recording.task == truth.task
            assert recording.rate == truth.rate

    def test_frames_come_back_in_colour(self, path, truths):
        _, recordings = open_source(path)
        for index in (0, 3):
            assert set(recordings[index].cameras) == {
                self.camera_name.format(c) for c in self.cameras
            }
            for camera in self.cameras:
                frames = np.stack(list(recordings[index].frames(self.camera_name.format(camera))))
                truth = truths[index].frames[camera]
                assert frames.dtype == np.uint8
                assert frames.shape == truth.shape
                error = np.abs(frames.astype(int) - truth.astype(int)).mean()
                assert error <= self.tolerance
                assert np.abs(np.diff(frames[:, :, :, 0].astype(int), axis=0)).mean() > 1

    def test_worker_processes_can_load_it(self, path):
        _, recordings = open_source(path)
        again = pickle.loads(pickle.dumps(recordings[2]))
        np.testing.assert_array_equal(again.state, recordings[2].state)
        assert len(pickle.dumps(recordings[2])) < 4000

    def test_hash_follows_the_content(self, path):
        _, recordings = open_source(path)
        before = content_hash(recordings)
        assert before == content_hash(open_source(path)[1])
        file = self.breakable(path) if path.is_dir() else path
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(bytes(content))
        assert content_hash(recordings) != before

    def test_truncated_file_is_named(self, path):
        file = self.breakable(path) if path.is_dir() else path
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        with pytest.raises(DataError) as caught:
            _ = [recording.state for recording in open_source(path)[1]]
        assert caught.value.where is not None
        assert path.name in caught.value.message

    def test_mapping_cuts_columns(self, path, truths):
        mapping = {"state": [f"{self.state_name}[1:3]", f"{self.state_name}[0]"], "action": []}
        _, recordings = open_source(path, mapping=mapping)
        np.testing.assert_array_equal(recordings[0].state, truths[0].state[:, [1, 2, 0]])
        assert recordings[0].action is None

    def test_unknown_column_gets_the_nearest(self, path):
        _, recordings = open_source(path, mapping={"state": [self.state_name + "x"]})
        with pytest.raises(UsageError) as caught:
            _ = recordings[0].state
        assert self.state_name in (caught.value.hint or "")


class TestActRaw(ReaderContract):
    format, channels, state_name = "act", (14, 14), "observations/qpos"

    def write(self, layouts, folder, episodes):
        return layouts.act(folder, episodes)

    def breakable(self, path):
        return path / "episode_3.hdf5"


class TestActCompressed(TestActRaw):
    tolerance = 3.0  # JPEG; swapped colours would be off by about 30

    def write(self, layouts, folder, episodes):
        return layouts.act(folder, episodes, compress=True)


class TestRobomimic(ReaderContract):
    format, state_name = "robomimic", "obs/joint_pos"
    task, rate = "lift the cube", 10.0

    def write(self, layouts, folder, episodes):
        return layouts.robomimic(folder / "demos.hdf5", episodes)


class TestLibero(TestRobomimic):
    """Pictures stored upside down."""

    def write(self, layouts, folder, episodes):
        return layouts.robomimic(folder / "demos.hdf5", episodes, opengl=True)


class TestReplayBufferFloats(ReaderContract):
    format, channels, state_name = "zarr", (5, 2), "agent_pos"

    def write(self, layouts, folder, episodes):
        return layouts.zarr(folder / "replay.zarr", episodes)

    def breakable(self, path):
        return path / "data/agent_pos/1.0"


class TestReplayBufferBytes(TestReplayBufferFloats):
    def write(self, layouts, folder, episodes):
        return layouts.zarr(folder / "replay.zarr", episodes, floats=False)


class TestLeRobotV20(ReaderContract):
    format, channels, state_name = "lerobot", (14, 14), "observation.state"
    task, rate = "stack the cups", 20.0
    camera_name = "observation.images.{}"
    tolerance = 3.0  # video
    version = "v2.0"

    def write(self, layouts, folder, episodes):
        return layouts.lerobot_v2(folder, episodes, self.version)

    def breakable(self, path):
        return path / "data/chunk-000/episode_000003.parquet"


class TestLeRobotV21(TestLeRobotV20):
    version = "v2.1"


class TestLeRobotV30(TestLeRobotV20):
    def write(self, layouts, folder, episodes):
        return layouts.lerobot_v3(folder, episodes)

    def breakable(self, path):
        return path / "data/chunk-000/file-000.parquet"


def test_missing_path():
    with pytest.raises(DataError, match="does not exist"):
        open_source("no/such/place")


def test_unrecognised_source_says_what_was_looked_for(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(DataError, match=r"looked for.*LeRobot.*episode_ends.*demo_.*qpos"):
        open_source(tmp_path)


def test_unknown_format():
    with pytest.raises(UsageError) as caught:
        open_source(Path(__file__).parent, "zar")
    assert caught.value.hint == "did you mean 'zarr'?"


def test_zarr_without_episode_ends(layouts, tmp_path):
    path = layouts.zarr(tmp_path / "replay.zarr", [layouts.truth(0, ("img",), (2, 2))])
    del zarr.open_group(str(path), mode="a")["meta/episode_ends"]
    with pytest.raises(DataError, match="episode_ends"):
        open_source(path)


def test_zarr_of_the_wrong_length(layouts, tmp_path):
    path = layouts.zarr(tmp_path / "replay.zarr", [layouts.truth(0, ("img",), (2, 2))])
    zarr.open_group(str(path), mode="a")["data/action"].resize((3, 2))
    with pytest.raises(DataError, match="data/action has 3 rows, episode_ends says 8"):
        open_source(path)


def test_bad_files_can_be_left_out(layouts, tmp_path):
    path = layouts.act(tmp_path / "act", [layouts.truth(i, ("top",), (14, 14)) for i in range(3)])
    (path / "episode_0.hdf5").write_bytes(b"no HDF5 at all")
    bad = []
    _, recordings = open_source(path, on_bad=lambda name, error: bad.append((name, str(error))))
    assert [r.name for r in recordings] == ["episode_1", "episode_2"]
    assert bad[0][0] == "episode_0"
    assert "episode_0.hdf5" in bad[0][1]


def test_robomimic_reports_a_false_count(layouts, tmp_path):
    path = layouts.robomimic(tmp_path / "d.hdf5", [layouts.truth(0, ("front",), (8, 7))])
    with h5py.File(path, "a") as h5:
        h5["data/demo_0"].attrs["num_samples"] = 99
    _, recordings = open_source(path)
    assert recordings[0].episode.warnings == ("demo_0: num_samples says 99, there are 8",)


def test_robomimic_with_columns_of_unlike_length(layouts, tmp_path):
    path = layouts.robomimic(tmp_path / "d.hdf5", [layouts.truth(0, ("front",), (8, 7))])
    with h5py.File(path, "a") as h5:
        del h5["data/demo_0/actions"]
        h5["data/demo_0/actions"] = np.zeros((5, 7))
    with pytest.raises(DataError, match="'actions' has 5 rows of 8"):
        open_source(path)


def test_lying_metadata_becomes_warnings(layouts, tmp_path):
    episodes = [layouts.truth(i, ("ego",), (4, 4), "do", 20.0) for i in range(2)]
    path = layouts.lerobot_v2(tmp_path / "lie", episodes)
    info = json.loads((path / "meta/info.json").read_text())
    info["total_episodes"], info["splits"], info["fps"] = 7, {"train": "0:100"}, 30
    info["features"]["observation.images.ghost"] = {"dtype": "video", "shape": [800, 1280, 3]}
    info["features"]["observation.images.ego"]["shape"] = [800, 1280, 3]
    (path / "meta/info.json").write_text(json.dumps(info))
    _, recordings = open_source(path)
    assert len(recordings) == 2
    text = "\n".join(recordings[0].episode.warnings)
    for part in ("total_episodes is 7", "ghost", "0:100", "64x48", "run at 20 Hz", "plays at 20"):
        assert part in text


def test_paths_must_stay_inside(layouts, tmp_path):
    path = layouts.lerobot_v2(tmp_path / "x", [layouts.truth(0, ("ego",), (4, 4), "do", 20.0)])
    info = json.loads((path / "meta/info.json").read_text())
    info["video_path"] = "../../{video_key}"
    (path / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="outside the dataset"):
        open_source(path)


def test_mapping_file(tmp_path):
    file = tmp_path / "map.yaml"
    file.write_text("state: obs/q\ncameras: {head: front}\nrate: 15\n")
    read = ColumnMap.read(file)
    assert read == ColumnMap(state=("obs/q",), cameras={"head": "front"}, rate=15.0)
    file.write_text("stat: [a]\n")
    with pytest.raises(UsageError) as caught:
        ColumnMap.read(file)
    assert caught.value.hint == "did you mean 'state'?"


@pytest.mark.parametrize(
    ("name", "format_", "episodes", "frames", "state", "shape"),
    [
        ("act_hdf5_aloha_sim", "act", 2, 630, 14, (240, 320, 3)),
        ("pusht_zarr", "zarr", 206, 25650, 2, (96, 96, 3)),
        ("lerobot_v20_gr1_sim", "lerobot", 5, 2096, 44, (256, 256, 3)),
    ],
)
def test_real_recordings(shared, name, format_, episodes, frames, state, shape):
    reader, recordings = open_source(shared / name)
    assert reader.name == format_
    assert len(recordings) == episodes
    assert sum(r.num_frames for r in recordings) == frames
    first = recordings[0]
    assert first.state.shape == (first.num_frames, state)
    view = next(iter(first.frames(first.cameras[0])))
    assert view.shape == shape
    assert 20 < view.mean() < 254


def test_real_gr1_metadata_is_found_out(shared):
    _, recordings = open_source(shared / "lerobot_v20_gr1_sim")
    text = "\n".join(recordings[0].episode.warnings)
    for part in ("egoview", "0:100", "frame_index", "0.050 s", "total_videos is 2"):
        assert part in text
    assert recordings[1].task == "pick the sweet potato from the counter and place it in the plate"


def test_real_act_colours(shared):
    """Raw and compressed files show the same scene; with red and blue swapped they would not."""
    _, recordings = open_source(shared / "act_hdf5_aloha_sim")
    packed, raw = (next(iter(r.frames("top"))).astype(float) for r in recordings)
    assert np.abs(packed - raw).mean() < np.abs(packed[..., ::-1] - raw).mean()


def test_real_robosuite_without_pictures_is_not_taken_for_robomimic(shared):
    with pytest.raises(DataError, match="looked for"):
        open_source(shared / "robosuite_panda_human")
