"""The unified dataset: what is written comes back, to us and to LeRobot."""

import errno
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from motus_adapters import (
    EpisodeData,
    Header,
    Source,
    UnifiedDataset,
    layout_for,
    write_dataset,
)
from motus_embodiments import DataError, MismatchError, UsageError, load_card

LENGTHS = (12, 7, 30, 1)


@dataclass(frozen=True)
class Job:
    """A drifting picture; state is a ramp."""

    index: int
    bad: str = ""

    @property
    def key(self):
        return f"episode {self.index}"

    def load(self):
        length = LENGTHS[self.index % len(LENGTHS)]
        state = np.stack([np.linspace(0.1, 0.2, length), np.full(length, 0.01 * self.index)], 1)
        if self.bad in ("nan", "huge"):
            state[length // 2, 1] = np.nan if self.bad == "nan" else 1e300
        frames = length - 1 if self.bad == "short" else length
        return EpisodeData(
            frames=({"head": self.picture(t)} for t in range(frames)),
            num_frames=length,
            state=state,
            action=state[:, :1] if self.bad == "narrow" else state + 0.001,
            motion=None,
            task=("push", "pull")[self.index % 2],
            source_name=self.key,
        )

    def picture(self, t):
        y, x = np.mgrid[0:48, 0:64]
        wave = 127 + 80 * np.sin((x + 3 * t) / 8 + self.index)
        return np.stack([wave, 2.0 * x, 4.0 * y], -1).astype(np.uint8)


def header(**changes):
    fields = {
        "card": load_card("pusht"),
        "rate": 10.0,
        "level": 6,
        "source": Source("test", "made", "0"),
        "layout": layout_for({"head": (48, 64)}),
    }
    return Header(**{**fields, **changes})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "set"
    report = write_dataset(out, header(), [Job(i) for i in range(4)])
    assert (report.episodes, report.frames, report.skipped) == (4, sum(LENGTHS), ())
    return out


def test_it_comes_back(written):
    dataset = UnifiedDataset(written)
    assert [e.length for e in dataset.episodes] == list(LENGTHS)
    assert [e.task for e in dataset.episodes] == ["push", "pull", "push", "pull"]
    assert dataset.meta == header()
    for episode in dataset.episodes:
        wanted = Job(episode.index).load()
        arrays = dataset.arrays(episode.index)
        assert set(arrays) == {"state", "action", "motion"}
        np.testing.assert_array_equal(arrays["state"], wanted.state.astype(np.float32))
        np.testing.assert_array_equal(arrays["action"], wanted.action.astype(np.float32))
        assert arrays["motion"].shape == (episode.length, 14)
        frames = list(dataset.frames(episode.index))
        assert len(frames) == episode.length
        for t, frame in enumerate(frames):
            error = frame.astype(float) - Job(episode.index).picture(t)
            psnr = 10 * np.log10(255**2 / np.mean(error**2))
            assert psnr > 32


def test_statistics_are_those_of_all_rows(written):
    dataset = UnifiedDataset(written)
    rows = np.concatenate([dataset.arrays(e.index)["state"] for e in dataset.episodes])
    stats = dataset.stats["observation.state"]
    np.testing.assert_allclose(stats["mean"], rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stats["std"], rows.std(0), rtol=1e-5)
    assert stats["count"] == [len(rows)]
    span = np.ptp(rows, axis=0)
    for key, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        exact = np.quantile(rows, share, axis=0, method="inverted_cdf")
        assert (np.abs(stats[key] - exact) <= span / 1000).all()
    image = dataset.stats["observation.images.canvas"]
    assert np.shape(image["q50"]) == (3, 1, 1)
    assert image["count"] == [len(rows)]


def test_workers_change_no_byte(written, tmp_path, layouts):
    """In a process of its own: spawned workers import the job's module by name."""
    code = (
        "import importlib.util, pathlib, sys\n"
        f"spec = importlib.util.spec_from_file_location('jobs', {__file__!r})\n"
        "jobs = importlib.util.module_from_spec(spec); sys.modules['jobs'] = jobs\n"
        "spec.loader.exec_module(jobs)\n"
        "if __name__ == '__main__':\n"
        "    jobs.write_dataset(pathlib.Path(sys.argv[1]), jobs.header(),"
        " [jobs.Job(i) for i in range(4)], workers=2)\n"
    )
    (tmp_path / "run.py").write_text(code)
    subprocess.run([sys.executable, str(tmp_path / "run.py"), str(tmp_path / "set")], check=True)
    assert layouts.tree(tmp_path / "set") == layouts.tree(written)


_ENCODE = """
import sys
from pathlib import Path
import cv2, numpy as np
from motus_adapters.unified.video import VideoWriter
small = np.random.default_rng(0).integers(0, 255, (26, 35, 3), dtype=np.uint8)
texture = cv2.resize(small, (320, 240))
writer = VideoWriter(Path(sys.argv[1]), 10.0, (320, 240))
for t in range(20):
    writer.add(np.roll(texture, t, 1))
writer.close()
"""


def test_encoder_reads_no_memory_it_has_not_written(tmp_path):
    """The C library fills fresh memory with other bytes; x264's macroblock tree fails this."""
    contents = set()
    for fill in ("0", "1", "200"):
        command = [sys.executable, "-c", _ENCODE, str(tmp_path / "v.mp4")]
        subprocess.run(command, check=True, env={**os.environ, "MALLOC_PERTURB_": fill})
        contents.add((tmp_path / "v.mp4").read_bytes())
    assert len(contents) == 1


def test_lerobot_opens_it(written):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    theirs = LeRobotDataset("motus/test", root=written, video_backend="pyav")
    ours = UnifiedDataset(written)
    assert len(theirs) == sum(LENGTHS)
    assert theirs.num_episodes == len(LENGTHS)
    assert theirs.fps == 10
    index = 0
    for episode in ours.episodes:
        arrays = ours.arrays(episode.index)
        for t, frame in enumerate(ours.frames(episode.index)):
            item = theirs[index]
            assert item["index"] == index
            assert item["frame_index"] == t
            assert item["timestamp"] == pytest.approx(t / 10)
            assert item["task"] == episode.task
            np.testing.assert_array_equal(item["observation.state"], arrays["state"][t])
            np.testing.assert_array_equal(item["action"], arrays["action"][t])
            image = item["observation.images.canvas"].numpy().transpose(1, 2, 0)
            np.testing.assert_allclose(image * 255, frame, atol=0.5)
            index += 1
    stats = theirs.meta.stats
    for key in ("min", "max", "mean", "std", "q01", "q10", "q50", "q90", "q99"):
        np.testing.assert_allclose(stats["action"][key], ours.stats["action"][key])
        assert stats["observation.images.canvas"][key].shape == (3, 1, 1)


def test_lerobot_reads_windows_of_it(written):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"observation.images.canvas": [0, 0.2, 0.4], "action": [0, 0.1, 0.2, 0.3]}
    theirs = LeRobotDataset("m/t", root=written, video_backend="pyav", delta_timestamps=deltas)
    item = theirs[5]
    assert item["observation.images.canvas"].shape == (3, 3, 48, 64)
    assert item["action"].shape == (4, 2)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("nan", "observation.state 'y' is nan at frame 3"),
        ("huge", r"'y' is 1e\+300 at frame 3"),
        ("short", "has 6 frames and 7 rows"),
        ("narrow", r"action has shape \(7, 1\), expected \(7, 2\)"),
    ],
)
def test_bad_episode(tmp_path, bad, message):
    jobs = [Job(1, bad)]
    with pytest.raises(DataError, match=message):
        write_dataset(tmp_path / "set", header(), jobs)
    assert not (tmp_path / "set").exists()


def test_bad_episode_left_out(tmp_path):
    jobs = [Job(0), Job(1, "nan"), Job(2)]
    report = write_dataset(tmp_path / "set", header(), jobs, skip_bad=True)
    assert report.episodes == 2
    assert report.skipped[0][0] == "episode 1"
    dataset = UnifiedDataset(tmp_path / "set")
    assert [e.source for e in dataset.episodes] == ["episode 0", "episode 2"]
    assert dataset.skipped == report.skipped


def test_all_bad_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="all 1 are bad"):
        write_dataset(tmp_path / "set", header(), [Job(1, "nan")], skip_bad=True)
    assert not (tmp_path / "set").exists()


def test_finished_dataset_is_safe(tmp_path, layouts):
    out = tmp_path / "set"
    write_dataset(out, header(), [Job(0)])
    before = layouts.tree(out)
    with pytest.raises(UsageError, match="finished dataset already"):
        write_dataset(out, header(), [Job(1)])
    with pytest.raises(MismatchError, match=r"level: 6 -> 3"):
        write_dataset(out, header(level=3), [Job(0)], resume=True)
    assert write_dataset(out, header(), [Job(0)], resume=True).resumed == 1
    assert layouts.tree(out) == before
    (out / "mine.txt").write_text("not the dataset's")
    write_dataset(out, header(), [Job(1)], force=True)
    assert UnifiedDataset(out).episodes[0].length == LENGTHS[1]
    assert (out / "mine.txt").exists()


def test_folder_of_others_is_safe(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    for force in (False, True):
        with pytest.raises(UsageError, match="no dataset of ours"):
            write_dataset(tmp_path, header(), [Job(0)], force=force)


def test_half_written_is_recognised(tmp_path):
    out = tmp_path / "set"
    with pytest.raises(DataError, match="nan"):
        write_dataset(out, header(), [Job(0), Job(1, "nan")])
    with pytest.raises(DataError, match="half written"):
        UnifiedDataset(out)
    with pytest.raises(UsageError) as caught:
        write_dataset(out, header(), [Job(0), Job(1)])
    assert "--resume" in caught.value.hint
    assert "--force" in caught.value.hint
    with pytest.raises(MismatchError, match=r"header\.rate: 10\.0 -> 12\.0"):
        write_dataset(out, header(rate=12.0), [Job(0), Job(1, "nan")], resume=True)
    report = write_dataset(out, header(), [Job(0), Job(1, "nan")], resume=True, skip_bad=True)
    assert (report.episodes, report.resumed) == (1, 1)


def test_no_dataset(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        UnifiedDataset(tmp_path / "none")
    with pytest.raises(DataError, match="is no unified dataset"):
        UnifiedDataset(tmp_path)


def test_damage_is_named(tmp_path):
    out = tmp_path / "set"
    write_dataset(out, header(), [Job(0)])
    manifest = out / "meta/motus.json"
    data = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**data, "schema_version": 9}))
    with pytest.raises(DataError, match="schema version 9"):
        UnifiedDataset(out)
    manifest.write_text(json.dumps(data))
    dataset = UnifiedDataset(out)
    video = next((out / "videos").rglob("*.mp4"))
    video.write_bytes(video.read_bytes()[:500])
    with pytest.raises(DataError, match=r"file-000\.mp4"):
        list(dataset.frames(0))
    numbers = next((out / "data").rglob("*.parquet"))
    numbers.write_bytes(numbers.read_bytes()[:500])
    with pytest.raises(DataError, match=r"file-000\.parquet"):
        dataset.arrays(0)


def test_two_runs_do_not_write_at_once(tmp_path):
    import fcntl

    out = tmp_path / "set"
    (out / ".partial").mkdir(parents=True)
    with open(out / ".partial/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another process"):
            write_dataset(out, header(), [Job(0)], resume=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize("kilobytes", [30, 60, 112, 140])
def test_full_disk(tmp_path, layouts, kilobytes):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        jobs = [Job(i) for i in range(4)]
        with pytest.raises(DataError, match="no space left while writing") as caught:
            write_dataset(disk / "set", header(), jobs)
        assert "--resume" in caught.value.hint
        with pytest.raises(DataError, match=r"half written|does not exist"):
            UnifiedDataset(disk / "set")
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        write_dataset(disk / "set", header(), jobs, resume=True)
        write_dataset(tmp_path / "calm", header(), jobs)
        assert layouts.tree(disk / "set") == layouts.tree(tmp_path / "calm")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.parametrize("step", range(8))
def test_full_disk_at_any_file(tmp_path, monkeypatch, step):
    """Without root: the n-th fsync finds the disk full."""
    calls = iter(range(1000))

    def fsync(handle):
        if next(calls) == step:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("motus_adapters.files.os.fsync", fsync)
    with pytest.raises(DataError, match="no space left"):
        write_dataset(tmp_path / "set", header(), [Job(0)])
    with pytest.raises(DataError, match=r"half written|does not exist"):
        UnifiedDataset(tmp_path / "set")
    write_dataset(tmp_path / "set", header(), [Job(0)], resume=True)
    assert not list((tmp_path / "set").rglob(".*"))
