"""Replay buffers in every container: the contract, and the traps of the layout."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import zarr
from layouts.replay_buffer import write_umi, write_zarr
from layouts.truth import make_truth
from reader_contract import ReaderContract, read_everything

from motus_adapters import open_source
from motus_embodiments import DataError


class TestZarrV3(ReaderContract):
    format, channels, state_name, separate = "zarr", (5, 2), "agent_pos", False

    def write(self, folder, episodes):
        return write_zarr(folder / "replay.zarr", episodes, floats=False, version=3)

    def breakable(self, path):
        return path / "data/agent_pos/c/1/0"


class TestZip(TestZarrV3):
    """The folder of diffusion policy, zipped."""

    def write(self, folder, episodes):
        source = write_zarr(folder / "replay.zarr", episodes, floats=False)
        path = folder / "replay.zarr.zip"
        with zipfile.ZipFile(path, "w") as file:
            for member in sorted(p for p in source.rglob("*") if p.is_file()):
                file.write(member, member.relative_to(source))
                member.unlink()
        return path

    def breakable(self, path):
        return path


class TestUmi(ReaderContract):
    format, channels, separate = "zarr", (7, 7), False
    cameras = ("camera0_rgb",)
    rate = 60_000 / 1001
    tolerance = 2.0  # lossy JPEG XL

    @pytest.fixture(autouse=True)
    def imagecodecs(self):
        pytest.importorskip("imagecodecs")

    def write(self, folder, episodes):
        return write_umi(folder / "dataset.zarr.zip", episodes)

    def action(self, truth):
        return None


def buffer(folder, **options):
    truths = [make_truth(i, ("img",), (2, 2)) for i in range(2)]
    return write_zarr(folder / "replay.zarr", truths, **options)


def test_the_codec_is_registered_by_whoever_reads(tmp_path):
    """In a process that has not seen JPEG XL before, as a worker has not."""
    pytest.importorskip("imagecodecs")
    path = write_umi(tmp_path / "d.zarr.zip", [make_truth(0, ("camera0_rgb",), (7, 7))])
    code = (
        "import sys, numcodecs\n"
        "assert 'imagecodecs_jpegxl' not in numcodecs.registry.codec_registry\n"
        "from motus_adapters import open_source\n"
        "print(sum(1 for _ in open_source(sys.argv[1])[1][0].frames('camera0_rgb')))\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "8\n"


def test_what_umi_paints_over_is_told(tmp_path):
    pytest.importorskip("imagecodecs")
    path = write_umi(tmp_path / "d.zarr.zip", [make_truth(0, ("camera0_rgb",), (7, 7))])
    _, recordings = open_source(path)
    assert any("paints its gripper black" in warning for warning in recordings[0].episode.warnings)


def test_without_imagecodecs_the_extra_is_named(tmp_path):
    pytest.importorskip("imagecodecs")
    path = write_umi(tmp_path / "d.zarr.zip", [make_truth(0, ("camera0_rgb",), (7, 7))])
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from motus_cli.app import main; sys.exit(main(['inspect', sys.argv[1]]))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert ran.returncode == 3
    assert "needs the codec 'imagecodecs_jpegxl'" in ran.stderr
    assert "pip install 'motus-cli[formats]'" in ran.stderr


def test_sharded_arrays_can_be_read(tmp_path):
    path = tmp_path / "sharded.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    values = np.arange(60, dtype=np.float32).reshape(20, 3)
    group.create_array("data/state", data=values, chunks=(2, 3), shards=(10, 3))
    group.create_array("data/action", data=values + 1)
    group.create_array("meta/episode_ends", data=np.array([5, 20]))
    recordings = open_source(path)[1]
    np.testing.assert_array_equal(recordings[1].state, values[5:])
    assert recordings[1].episode.warnings == ()
    shard = path / "data/state/c/0/0"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(DataError, match="'state'"):
        _ = open_source(path)[1][0].state


@pytest.mark.parametrize(("top", "stored"), [(1.0, 0.5), (255.0, 127.5)])
def test_float_frames_after_a_black_beginning(tmp_path, top, stored):
    path = buffer(tmp_path)
    images = zarr.open_group(str(path), mode="a")["data/img"]
    images[:] = 0
    images[12:] = stored
    images[16:] = top
    recordings = open_source(path)[1]
    assert [int(f.max()) for f in recordings[1].frames("img")] == [0] * 4 + [128] * 4 + [255]


def test_float_frames_out_of_range_are_refused(tmp_path):
    path = buffer(tmp_path)
    zarr.open_group(str(path), mode="a")["data/img"][3, 0, 0, 0] = -80
    with pytest.raises(DataError, match=r"frames of 'img' lie in -80\.\..*, not in 0\.\.255"):
        read_everything(path)


def test_missing_chunks_are_told(tmp_path):
    path = buffer(tmp_path, floats=False)
    (path / "data/img/1.0.0.0").unlink()
    assert "data/img lacks 1 of 4 chunks" in open_source(path)[1][0].episode.warnings[0]


def test_timestamps_give_the_rate(tmp_path):
    path = buffer(tmp_path)
    stamps = 1.6e9 + np.arange(17) / 10
    zarr.open_group(str(path), mode="a").create_array("data/timestamp", data=stamps)
    recording = open_source(path)[1][0]
    assert recording.rate == pytest.approx(10)
    assert recording.episode.warnings == ()
    stamps[4:] += 2
    zarr.open_group(str(path), mode="a")["data/timestamp"][:] = stamps
    assert "uneven" in open_source(path)[1][0].episode.warnings[0]


def test_an_episode_of_another_rate_is_told_from_the_others(tmp_path):
    path = buffer(tmp_path)
    ends = zarr.open_group(str(path))["meta/episode_ends"][:]
    stamps = np.arange(17) / 30 + np.random.default_rng(0).normal(0, 1e-4, 17)
    stamps[ends[0] :] = np.arange(17 - ends[0]) / 10
    zarr.open_group(str(path), mode="a").create_array("data/timestamp", data=stamps)
    rates = [recording.rate for recording in open_source(path)[1]]
    assert len(set(rates)) == 2
    assert sorted(set(rates)) == pytest.approx([10, 30], rel=0.02)


@pytest.mark.parametrize("told", [0, -1, "fast"])
def test_a_rate_that_is_none_is_passed_over(tmp_path, told):
    path = buffer(tmp_path)
    zarr.open_group(str(path), mode="a").attrs["rate_hz"] = told
    assert open_source(path)[1][0].rate is None


@pytest.mark.parametrize("unit", [1e3, 1e6, 1e9])
def test_timestamps_that_are_no_seconds_give_no_rate(tmp_path, unit):
    path = buffer(tmp_path)
    stamps = (np.arange(17) / 30 * unit).astype(np.int64)
    zarr.open_group(str(path), mode="a").create_array("data/timestamp", data=stamps)
    recording = open_source(path)[1][0]
    assert recording.rate is None
    assert "apart, which are no seconds" in recording.episode.warnings[0]


def test_depth_is_no_column(tmp_path):
    path = buffer(tmp_path)
    depth = np.ones((17, 80, 80), np.float32)
    zarr.open_group(str(path), mode="a").create_array("data/depth", data=depth)
    episode = open_source(path)[1][0].episode
    assert "depth" not in (*episode.columns, *episode.cameras)
    assert "data/depth [17, 80, 80] is no view and no column" in episode.warnings[0]


def test_a_zip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("motus_adapters.readers.zarr_store.LARGEST", 10_000)
    with zipfile.ZipFile(tmp_path / "b.zarr.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(".zgroup", '{"zarr_format": 2}')
        file.writestr("data/.zgroup", '{"zarr_format": 2}')
        file.writestr("data/img/0.0", bytes(20_000))
    with pytest.raises(DataError, match=r"b\.zarr\.zip unpacks 'data/img/0\.0' to 20000 bytes"):
        open_source(tmp_path / "b.zarr.zip")


def test_absurd_shapes_are_refused(tmp_path):
    path = buffer(tmp_path, floats=False)
    file = path / "data/img/.zarray"
    meta = json.loads(file.read_text())
    meta["shape"][1:3] = meta["chunks"][1:3] = [10**6, 10**6]
    file.write_text(json.dumps(meta))
    with pytest.raises(DataError, match="more than a gigabyte"):
        read_everything(path)


@pytest.mark.parametrize("content", ["", "{", '{"zarr_format": 2}', '{"shape": [3], "chunks": 7}'])
def test_broken_metadata_is_named(tmp_path, content):
    path = buffer(tmp_path)
    (path / "data/img/.zarray").write_text(content)
    with pytest.raises(DataError, match=r"replay\.zarr"):
        read_everything(path)
