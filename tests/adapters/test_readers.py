"""Opening sources: what is not recognised, what lies, and the real recordings."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from motus_adapters import ColumnMap, open_source
from motus_embodiments import DataError, UsageError


def test_missing_path():
    with pytest.raises(DataError, match="does not exist"):
        open_source("no/such/place")


def test_unrecognised_source_says_what_was_looked_for(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(DataError, match=r"(?s)looked for.*LeRobot.*episode_ends.*demo_.*qpos"):
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


def test_real_robosuite_is_a_format_of_its_own(shared):
    reader, recordings = open_source(shared / "robosuite_panda_human")
    assert reader.name == "robosuite"
    assert len(recordings) == 6
