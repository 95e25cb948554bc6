"""Layouts of several files an episode, held to the contract, and the traps of each."""

import json

import av
import h5py
import numpy as np
import pytest
from layouts.agibot import WIDE, write_agibot
from layouts.motus import save, write_motus
from layouts.truth import make_truth
from layouts.video import write_video
from reader_contract import ReaderContract

from motus_adapters import open_source
from motus_embodiments import DataError

VIDEO = 4.0  # mean error of a pixel in these small videos


class TestAgibot(ReaderContract):
    format, channels, tolerance = "agibot", (16, 16), VIDEO
    cameras, task, rate = ("head", "hand_left", "hand_right"), "pack the bag", 30.0
    close = 1e-5

    def write(self, folder, episodes):
        return write_agibot(folder, episodes)

    def state(self, truth):
        return truth.state * np.where(np.isin(np.arange(16), [7, 15]), WIDE, 1)

    def breakable(self, path):
        return path / "proprio_stats/7/1001/proprio_stats.h5"


class TestMotusComposed(ReaderContract):
    format, channels, tolerance = "motus", (14, 14), VIDEO
    cameras, task, rate = ("head", "left_wrist", "right_wrist"), "pick up the cup", 30.0
    kind, state_name = "robotwin", "qpos"

    def truth(self, index):
        return make_truth(index, ("video",), (14, 14), self.task, self.rate, (72, 64))

    def write(self, folder, episodes):
        return write_motus(folder, episodes, self.kind)

    def frames(self, truth, camera):
        whole = truth.frames["video"]
        boxes = {
            "head": (slice(0, 48), slice(0, 64)),
            "left_wrist": (slice(48, 72), slice(0, 32)),
            "right_wrist": (slice(48, 72), slice(32, 64)),
        }
        rows, columns = boxes[camera]
        return whole[:, rows, columns]

    def action(self, truth):
        return None

    def breakable(self, path):
        return path / "clean/pick_cup/qpos/1.pt"


class TestMotusReal(TestMotusComposed):
    kind = "real"

    def breakable(self, path):
        return path / "kitchen/default/qpos/1.pt"


class TestMotusToolkit(TestMotusComposed):
    kind, cameras = "toolkit", ("video",)

    def truth(self, index):
        return make_truth(index, ("video",), (14, 14), self.task, self.rate)

    def frames(self, truth, camera):
        return truth.frames[camera]

    def breakable(self, path):
        return path / "pick/episode_1/qpos.pt"


class TestAnyPos(TestMotusComposed):
    kind, task = "anypos", None

    def breakable(self, path):
        return path / "wing/episode_1_qpos.pt"


class TestMotusStageTwo(TestMotusComposed):
    kind, task, state_name = "stage2", None, ""

    def state(self, truth):
        return None

    def breakable(self, path):
        return path / "videos/episode_1.mp4"


class TestVideos(ReaderContract):
    format, cameras, tolerance, rate = "video", ("video",), VIDEO, 24.0
    task = "cut an apple"

    def write(self, folder, episodes):
        for i, truth in enumerate(episodes):
            path = folder / f"kitchen/clip_{i}.mp4"
            write_video(path, truth.frames["video"], truth.rate)
            path.with_suffix(".json").write_text(json.dumps({"caption": truth.task}))
        return folder

    def state(self, truth):
        return None

    def action(self, truth):
        return None

    def breakable(self, path):
        return path / "kitchen/clip_1.mp4"


class TestVideosOfUnknownLength(TestVideos):
    """Matroska does not say how many frames there are."""

    def write(self, folder, episodes):
        folder.mkdir(parents=True)
        for i, truth in enumerate(episodes):
            with av.open(str(folder / f"clip_{i}.mkv"), "w") as container:
                stream = container.add_stream("libx264", rate=24, options={"crf": "12"})
                stream.height, stream.width = truth.frames["video"].shape[1:3]
                stream.pix_fmt = "yuv420p"
                for frame in truth.frames["video"]:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
                container.mux(stream.encode(None))
            (folder / f"clip_{i}.txt").write_text(truth.task)
        return folder

    def breakable(self, path):
        return path / "clip_1.mkv"


def warnings_of(path):
    return "\n".join(w for r in open_source(path)[1] for w in r.episode.warnings)


def agibot(tmp_path, change=None, **options):
    truth = make_truth(2, ("head",), (16, 16), "pack")
    path = write_agibot(tmp_path / "a", [truth], **options)
    if change:
        with h5py.File(next(path.rglob("proprio_stats.h5")), "a") as h5:
            change(h5)
    return path, truth


def test_agibot_commands_on_some_frames_are_laid_over_the_state(tmp_path):
    path, truth = agibot(tmp_path, sparse=True)
    _, [recording] = open_source(path)
    action = recording.action
    arms = [*range(7), *range(8, 15)]
    np.testing.assert_allclose(action[::2, arms], truth.action[::2, arms], atol=1e-6)
    np.testing.assert_allclose(action[1::2, arms], truth.state[1::2, arms], atol=1e-6)
    # A gripper's command stays in force; its state is in other units.
    np.testing.assert_allclose(action[1::2, 7], truth.action[:-1:2, 7], atol=1e-6)
    told = warnings_of(path)
    assert "'action/joint/position' has commands on some frames only" in told
    assert "'action/head/position' is empty" in told


def test_agibot_lost_end_index_is_the_joints(tmp_path):
    path, _ = agibot(tmp_path, sparse=True)
    _, [recording] = open_source(path)
    assert recording.episode.column("action/end/position").shape == (10, 6)


def test_agibot_longer_actions_are_corrupt(tmp_path):
    def change(h5):
        del h5["action/joint/position"]
        h5["action/joint/position"] = np.zeros((99, 14))

    path, _ = agibot(tmp_path, change)
    with pytest.raises(DataError, match="has 99 rows of 10: the recording is corrupt"):
        open_source(path)


def test_agibot_without_joint_actions(tmp_path):
    def change(h5):
        del h5["action/joint/position"]
        h5["action/joint/position"] = np.zeros((0, 14))

    path, _ = agibot(tmp_path, change)
    assert open_source(path)[1][0].action is None
    assert "the following state becomes the action" in warnings_of(path)


def test_agibot_of_2026(tmp_path):
    def change(h5):
        del h5["timestamp"], h5["state/joint/position"]
        h5["timestamp"] = [f"1700000000:{i * 33_333_333}".encode() for i in range(10)]
        h5["state/joint/position"] = np.zeros((10, 34))

    path, _ = agibot(tmp_path, change)
    told = warnings_of(path)
    assert "quaternions are wxyz" in told
    assert "34 channels" in told
    _, [recording] = open_source(path)
    assert recording.state is None
    assert recording.rate == 30


def test_agibot_without_time_stamps_or_with_gaps(tmp_path):
    path, _ = agibot(tmp_path, lambda h5: h5.pop("timestamp"))
    assert "no time stamps" in warnings_of(path)

    def gap(h5):
        h5["timestamp"] = 1_000_000 * np.array([0, 33, 66, 100, 133, 900, 933, 966, 1000, 1033])

    with h5py.File(next(path.rglob("proprio_stats.h5")), "a") as h5:
        gap(h5)
    assert "1 of 9 time steps are off" in warnings_of(path)


def test_agibot_short_video_is_named(tmp_path):
    path, truth = agibot(tmp_path)
    video = next(path.rglob("*.mp4"))
    write_video(video, truth.frames["head"][:5], 30)
    with pytest.raises(DataError, match=r"head_color\.mp4 has 5 frames, its data 10 rows"):
        open_source(path)
    write_video(video, np.concatenate([truth.frames["head"]] * 2), 30)
    assert "more frames than rows of data" in warnings_of(path)


def test_motus_latents_have_one_for_each_pair_of_frames(tmp_path):
    truth = make_truth(0, ("video",), (14, 14), None, 30, (72, 64))
    path = write_motus(tmp_path / "m", [truth], "stage2")
    _, [recording] = open_source(path)
    latent = recording.episode.column("latent_action")
    np.testing.assert_array_equal(latent[:-1], truth.action[:-1])
    np.testing.assert_array_equal(latent[-1], truth.action[-2])
    assert "motus label" in warnings_of(path)


def test_motus_names_must_match(tmp_path):
    truth = make_truth(0, ("video",), (14, 14), "go", 30)
    path = write_motus(tmp_path / "m", [truth, truth])
    (path / "clean/pick_cup/qpos/1.pt").rename(path / "clean/pick_cup/qpos/01.pt")
    with pytest.raises(DataError, match=r"videos/1\.mp4 has no .*qpos/1\.pt"):
        open_source(path)


def test_motus_qpos_of_another_length(tmp_path):
    path = write_motus(tmp_path / "m", [make_truth(0, ("video",), (14, 14), "go", 30)])
    save(path / "clean/pick_cup/qpos/0.pt", np.zeros((3, 14), np.float32))
    _, [recording] = open_source(path)
    with pytest.raises(DataError, match=r"0\.pt has 3 rows, its video 8 frames"):
        _ = recording.state


def test_motus_tensors_run_no_code(tmp_path):
    import pickle

    path = write_motus(tmp_path / "m", [make_truth(0, ("video",), (14, 14), "go", 30)])
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (exec, (f"open({str(marker)!r}, 'w')",))

    (path / "clean/pick_cup/qpos/0.pt").write_bytes(pickle.dumps(Evil()))
    _, [recording] = open_source(path)
    with pytest.raises(DataError, match=r"0\.pt as a tensor"):
        _ = recording.state
    assert not marker.exists()


def test_videos_beside_unknown_numbers_are_not_taken_alone(tmp_path):
    frames = make_truth(0, ("video",), (2, 2)).frames["video"]
    write_video(tmp_path / "x/0.mp4", frames, 30)
    (tmp_path / "x/0.npz").write_bytes(b"numbers")
    with pytest.raises(DataError, match="no format that is known here"):
        open_source(tmp_path / "x")
    reader, recordings = open_source(tmp_path / "x", "video")
    assert reader.name == "video"
    assert len(recordings) == 1


def test_a_single_video(tmp_path):
    frames = make_truth(0, ("video",), (2, 2)).frames["video"]
    write_video(tmp_path / "clip.mp4", frames, 29.97)
    _, [recording] = open_source(tmp_path / "clip.mp4")
    assert recording.name == "clip"
    assert recording.rate == pytest.approx(29.97)
    assert recording.task is None


@pytest.mark.parametrize(
    ("turns", "matrix"), [(-1, (0, 1, -1, 0)), (1, (0, -1, 1, 0)), (2, (-1, 0, 0, -1))]
)
def test_videos_of_a_phone_are_turned_upright(tmp_path, turns, matrix):
    frames = make_truth(0, ("video",), (2, 2)).frames["video"]
    path = tmp_path / "clip.mp4"
    write_video(path, frames, 30)
    content = bytearray(path.read_bytes())
    # ISO 14496-12, 8.3.2: the matrix of a track's header, 16.16 fixed point.
    at = content.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        content[at + place : at + place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(bytes(content))
    _, [recording] = open_source(path)
    shown = np.stack(list(recording.frames("video")))
    wanted = np.rot90(frames, turns, axes=(1, 2))
    assert shown.shape == wanted.shape
    assert np.abs(shown.astype(int) - wanted).mean() < VIDEO
