"""The traps of the HDF5 layouts: put right, or told."""

import json

import h5py
import numpy as np
import pytest
from layouts.act import write_act
from layouts.egodex import HAND, write_egodex
from layouts.jpeg import encode, varying
from layouts.libero import write_libero, write_robosuite
from layouts.rdt import write_rdt
from layouts.robomimic import write_robomimic
from layouts.robomind import write_robomind
from layouts.robotwin import OLD_CAMERAS, write_robotwin_old
from layouts.truth import make_truth

from motus_adapters import open_source
from motus_embodiments import DataError

JPEG = 3.0  # mean error of a pixel; with red and blue exchanged it would be about 30


def warnings_of(path):
    return "\n".join(w for r in open_source(path)[1] for w in r.episode.warnings)


def act_with(tmp_path, change, cameras=("top",)):
    path = write_act(tmp_path / "act", [make_truth(0, cameras, (14, 14))])
    with h5py.File(path / "episode_0.hdf5", "a") as h5:
        change(h5)
    return path


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_pictures_stored_as_floats(tmp_path, scale):
    truth = make_truth(0, ("top",), (14, 14))

    def change(h5):
        del h5["observations/images/top"]
        h5["observations/images/top"] = (truth.frames["top"] * scale).astype(np.float32)

    _, [recording] = open_source(act_with(tmp_path, change))
    np.testing.assert_array_equal(np.stack(list(recording.frames("top"))), truth.frames["top"])


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda pictures: pictures / 127.5 - 1, "-"),
        (lambda pictures: np.where(pictures > 200, np.nan, pictures), "nan"),
    ],
)
def test_float_pictures_out_of_range_are_refused(tmp_path, spoil, found):
    def change(h5):
        pictures = h5["observations/images/top"][()].astype(np.float32)
        del h5["observations/images/top"]
        h5["observations/images/top"] = spoil(pictures)

    _, [recording] = open_source(act_with(tmp_path, change))
    with pytest.raises(DataError, match=rf"episode_0\.hdf5: frames of 'top' lie in {found}"):
        list(recording.frames("top"))


def test_float_pictures_that_begin_and_end_black(tmp_path):
    def change(h5):
        pictures = h5["observations/images/top"][()].astype(np.float32)
        pictures[[0, len(pictures) // 2, -1]] = 0
        del h5["observations/images/top"]
        h5["observations/images/top"] = pictures

    _, [recording] = open_source(act_with(tmp_path, change))
    truth = make_truth(0, ("top",), (14, 14)).frames["top"]
    np.testing.assert_array_equal(list(recording.frames("top"))[1], truth[1])


def test_pictures_with_the_channels_first(tmp_path):
    truth = make_truth(0, ("top",), (14, 14))

    def change(h5):
        del h5["observations/images/top"]
        h5["observations/images/top"] = truth.frames["top"].transpose(0, 3, 1, 2)

    _, [recording] = open_source(act_with(tmp_path, change))
    np.testing.assert_array_equal(np.stack(list(recording.frames("top"))), truth.frames["top"])


def test_jpegs_of_varying_length_in_act(tmp_path):
    truth = make_truth(0, ("top",), (14, 14))

    def change(h5):
        del h5["observations/images/top"]
        varying(h5, "observations/images/top", encode(truth.frames["top"]))

    _, [recording] = open_source(act_with(tmp_path, change))
    error = np.stack(list(recording.frames("top"))).astype(int) - truth.frames["top"]
    assert np.abs(error).mean() < JPEG


def test_depth_and_empty_cameras_are_told(tmp_path):
    def change(h5):
        h5["observations/images/top_depth"] = np.zeros((8, 48, 64), np.uint16)
        h5["observations/images/spare"] = np.zeros((0, 48, 64, 3), np.uint8)
        h5["observations/effort"] = np.zeros((0, 14))

    path = act_with(tmp_path, change)
    told = warnings_of(path)
    for part in ("'top_depth' is no colour view", "'spare' is empty", "'observations/effort' is"):
        assert part in told
    _, [recording] = open_source(path)
    assert recording.cameras == ("top",)
    assert "observations/effort" not in recording.episode.columns


@pytest.mark.parametrize("rows", [0, 5, 11])
def test_actions_of_another_length_are_refused(tmp_path, rows):
    def change(h5):
        del h5["action"]
        h5["action"] = np.zeros((rows, 14))

    with pytest.raises(DataError, match=r"episode_0\.hdf5.*action") as caught:
        open_source(act_with(tmp_path, change))
    assert caught.value.where.endswith("episode_0.hdf5")


def test_a_frame_that_is_no_picture_is_named(tmp_path):
    path = write_act(tmp_path / "act", [make_truth(0, ("top",), (14, 14))], compress=True)
    with h5py.File(path / "episode_0.hdf5", "a") as h5:
        h5["observations/images/top"][3] = 7
    _, [recording] = open_source(path)
    with pytest.raises(DataError, match=r"frame 3 of camera 'top' is no picture"):
        list(recording.frames("top"))


def test_a_jpeg_that_was_cut_short_is_no_half_grey_frame(tmp_path):
    path = write_act(tmp_path / "act", [make_truth(0, ("top",), (14, 14))], compress=True)
    with h5py.File(path / "episode_0.hdf5", "a") as h5:
        rows = h5["observations/images/top"]
        rows[3] = np.where(np.arange(rows.shape[1]) < rows.shape[1] // 2, rows[3], 0)
    _, [recording] = open_source(path)
    with pytest.raises(DataError, match=r"frame 3 of camera 'top' is no picture, or one cut"):
        list(recording.frames("top"))


@pytest.mark.parametrize("damage", ["endless heap", "row beyond its heap", "no heap"])
def test_what_the_hdf5_library_does_not_survive(tmp_path, damage):
    """It walks the first for ever, and reads beyond its memory on the second."""
    path = write_rdt(tmp_path / "r", [make_truth(0, ("cam_high",), (14, 14), "go")])
    file = path / "episode_0.hdf5"
    with h5py.File(file) as h5:
        row = h5["observations/images/cam_high"].id.get_offset()
    content = bytearray(file.read_bytes())
    heap = int.from_bytes(content[row + 4 : row + 12], "little")
    if damage == "endless heap":
        size = int.from_bytes(content[heap + 8 : heap + 16], "little")
        content[heap + 16 : heap + size] = bytes(size - 16)
    elif damage == "row beyond its heap":
        content[row : row + 4] = (2**31).to_bytes(4, "little")
    else:
        content[row + 4 : row + 12] = (len(content) - 8).to_bytes(8, "little")
    file.write_bytes(content)
    _, [recording] = open_source(path)
    with pytest.raises(DataError, match=r"episode_0\.hdf5: a row of .*cam_high lies outside"):
        list(recording.frames("cam_high"))


def test_rows_of_varying_length_behind_filters(tmp_path):
    path = write_rdt(tmp_path / "r", [make_truth(0, ("cam_high",), (14, 14), "go")])
    with h5py.File(path / "episode_0.hdf5", "a") as h5:
        name = "observations/images/cam_high"
        rows = h5[name][()]
        del h5[name]
        options = {"chunks": (3,), "compression": "gzip", "shuffle": True}
        packed = h5.create_dataset(name, (len(rows),), h5py.vlen_dtype(np.uint8), **options)
        for i, row in enumerate(rows):
            packed[i] = row
    _, [recording] = open_source(path)
    assert sum(1 for _ in recording.frames("cam_high")) == 8


def test_a_long_recording_is_never_read_whole(tmp_path):
    """Two gigabytes of frames, of which the file holds nothing, since nothing was written."""
    import tracemalloc

    path = tmp_path / "episode_0.hdf5"
    with h5py.File(path, "w") as h5:
        h5["action"] = h5["observations/qpos"] = np.zeros((9000, 14), np.float32)
        h5.create_dataset("observations/images/top", (9000, 240, 320, 3), np.uint8)
    _, [recording] = open_source(path)
    tracemalloc.start()
    stream = recording.frames("top")
    for _ in range(200):
        next(stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20


def test_rdt_tells_what_its_own_loader_would_drop(tmp_path):
    told = warnings_of(write_rdt(tmp_path / "r", [make_truth(0, ("cam_high",), (14, 14), "go")]))
    assert "fewer than 128 frames" in told


def test_grippers_that_are_scaled_already_are_not_scaled_again(tmp_path):
    """ACT's files with an instruction look like RDT's."""
    truth = make_truth(0, ("cam_high",), (14, 14))
    truth.state[:, [6, 13]] = np.linspace(0, 1.03, len(truth.state))[:, None]
    path = write_act(tmp_path / "a", [truth])
    with h5py.File(path / "episode_0.hdf5", "a") as h5:
        h5["instruction"] = "fold"
    with pytest.raises(DataError, match=r"no gripper state exceeds 1\.03, where RDT") as caught:
        open_source(path)
    assert "--format act" in caught.value.hint
    values, canonical = open_source(path, "act")[1][0].numbers("state")
    assert values[-1, 6] == pytest.approx(1.03)
    assert not canonical.any()


def test_a_list_of_one_text_is_that_text(tmp_path):
    path = write_robomimic(tmp_path / "x.hdf5", [make_truth(0, ("img",), (4, 4))])
    with h5py.File(path, "a") as h5:
        h5["data/demo_0"].attrs["task"] = np.array([b"pick the cube"])
    assert open_source(path)[1][0].task == "pick the cube"


def test_demos_with_groups_in_them_and_encoded_pictures(tmp_path):
    truth = make_truth(0, ("img",), (4, 4))
    path = write_robomimic(tmp_path / "x.hdf5", [truth])
    with h5py.File(path, "a") as h5:
        demo = h5["data/demo_0"]
        demo["obs/images/top"] = truth.frames["img"]
        demo["beside"] = truth.frames["img"]
        varying(h5, "data/demo_0/obs/jpeg", encode(truth.frames["img"][..., ::-1]))
        demo["obs/pose"] = np.zeros((len(truth.state), 4, 4))
        demo["obs/said"] = ["go"] * len(truth.state)
    (recording,) = open_source(path)[1]
    assert set(recording.cameras) == {"img", "images/top", "beside", "jpeg"}
    for camera in recording.cameras:
        frames = np.stack(list(recording.frames(camera))).astype(int)
        assert np.abs(frames - truth.frames["img"]).mean() < 4
    told = "\n".join(recording.episode.warnings)
    assert "'obs/pose' [8, 4, 4] is no view and no column" in told
    assert "'obs/said' [8] is no view and no column" in told


def test_rdt_scales_each_gripper_by_its_own_constant(tmp_path):
    truth = make_truth(0, ("cam_high",), (14, 14), "go")
    truth.state[:, [6, 13]], truth.action[:, [6, 13]] = 1.0, 0.5
    path = write_rdt(tmp_path / "r", [truth])
    with h5py.File(path / "episode_0.hdf5") as h5:
        assert h5["observations/qpos"][0, 6] == pytest.approx(4.7908)
        assert h5["action"][0, 13] == pytest.approx(13.9231 / 2)
    _, [recording] = open_source(path)
    values, canonical = recording.numbers("state")
    assert values[0, 6] == pytest.approx(1)
    assert canonical.nonzero()[0].tolist() == [6, 13]
    assert recording.action[0, 13] == pytest.approx(0.5)


def test_robotwin_knows_its_cameras_and_no_rate(tmp_path):
    path = write_robotwin_old(tmp_path / "r", [make_truth(0, OLD_CAMERAS, (14, 14), "go")])
    _, [recording] = open_source(path)
    assert recording.rate is None
    assert dict(recording.mapping.cameras)["left_wrist"] == "left_camera"


def test_robomind_bare_bytes_among_jpegs(tmp_path):
    truth = make_truth(0, ("camera_top",), (8, 8), "go", size=(480, 640))
    path = write_robomind(tmp_path / "r", [truth], "franka_1rgb")
    file = next(path.rglob("trajectory.hdf5"))
    with h5py.File(file, "a") as h5:
        # Of a Franka, OpenCV's order: blue first.
        bare = truth.frames["camera_top"][2][..., ::-1].tobytes()
        h5["observations/rgb_images/camera_top"][2] = np.frombuffer(bare, np.uint8)
    _, [recording] = open_source(path)
    frames = list(recording.frames("camera_top"))
    np.testing.assert_array_equal(frames[2], truth.frames["camera_top"][2])
    assert np.abs(frames[1].astype(int) - truth.frames["camera_top"][1]).mean() < JPEG


def test_robomind_without_its_folders_tells_what_is_assumed(tmp_path):
    written = write_robomind(tmp_path / "r", [make_truth(0, ("camera_top",), (8, 8), "go")], "ur")
    alone = tmp_path / "alone/trajectory.hdf5"
    alone.parent.mkdir()
    next(written.rglob("trajectory.hdf5")).rename(alone)
    told = warnings_of(alone.parent)
    assert "taken as those of a Franka" in told
    assert "fewer than 50 frames" in told
    _, [recording] = open_source(alone)
    assert recording.task is None


def test_robomind_frozen_poses_are_told(tmp_path):
    path = write_robomind(
        tmp_path / "r", [make_truth(0, ("camera_top",), (8, 8), "go")], "simulation"
    )
    told = warnings_of(path)
    assert "h5_simulation stand still" in told
    assert "no /master" in told


def test_libero_without_a_convention_or_task(tmp_path):
    path = tmp_path / "KITCHEN_SCENE10_close_the_drawer_demo.hdf5"
    truth = make_truth(0, ("agentview_rgb",), (8, 7))
    write_libero(path, [truth], convention=None)
    _, [recording] = open_source(path)
    assert recording.task == "close the drawer"
    assert recording.action_kind == "ee_delta"
    assert "no image convention" in warnings_of(path)
    np.testing.assert_array_equal(
        next(recording.frames("agentview_rgb")), truth.frames["agentview_rgb"][0]
    )


def test_robosuite_of_another_robot_leaves_the_state_to_the_mapping(tmp_path):
    path = write_robosuite(tmp_path / "x.hdf5", [make_truth(0, (), (8, 7))], robots="Sawyer")
    _, [recording] = open_source(path)
    assert recording.state is None
    assert "states" in recording.episode.columns
    assert "no pictures are stored" in warnings_of(path)


def test_time_stamps_that_jump_are_told(tmp_path):
    path = write_robosuite(tmp_path / "x.hdf5", [make_truth(3, (), (8, 7))])
    with h5py.File(path, "a") as h5:
        states = h5["data/demo_1/states"][()]
        states[5:, 0] += 1.0
        h5["data/demo_1/states"][()] = states
    assert "1 of 10 time steps are off" in warnings_of(path)


def test_egodex_poses_are_told_from_the_camera(tmp_path):
    path = write_egodex(tmp_path / "e", [make_truth(0, ("ego",), (2, 2), "pours")])
    _, [recording] = open_source(path)
    pose = recording.episode.column("leftHand")
    np.testing.assert_allclose(pose[:, :3], np.tile(HAND, (8, 1)), atol=1e-5)
    np.testing.assert_allclose(pose[:, 3:], 0, atol=1e-4)
    for name in ("leftThumbTip", "rightLittleFingerTip", "confidences/leftThumbTip"):
        assert name in recording.episode.columns


def test_egodex_tells_what_is_missing(tmp_path):
    truth = make_truth(0, ("ego",), (2, 2), None, 24.0)
    path = write_egodex(tmp_path / "e", [truth], confidences=False)
    file = path / "test/pour/0.hdf5"
    with h5py.File(file, "a") as h5:
        h5.attrs["llm_type"] = "reversible"
    told = warnings_of(path)
    for part in ("no confidences", "24 Hz", "reversible"):
        assert part in told
    assert open_source(path)[1][0].task == "pours"
    file.with_suffix(".mp4").unlink()
    with pytest.raises(DataError, match=r"0\.hdf5 has no video 0\.mp4"):
        open_source(path)


def test_a_folder_of_two_formats_is_ambiguous(tmp_path):
    write_act(tmp_path / "x/act", [make_truth(0, ("top",), (14, 14))])
    (tmp_path / "x/meta").mkdir()
    (tmp_path / "x/meta/info.json").write_text(json.dumps({"codebase_version": "v2.1", "fps": 10}))
    with pytest.raises(DataError, match="several formats: lerobot, act") as caught:
        open_source(tmp_path / "x")
    assert "--format" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "frames", "width"),
    [("lift", 412, 8), ("door", 261, 8), ("wipe", 174, 7), ("pick-place", 1482, 8)],
)
def test_real_robosuite(shared, name, frames, width):
    _, [recording] = open_source(shared / "robosuite_panda_human" / f"{name}_panda.hdf5")
    assert recording.num_frames == frames
    assert recording.rate == pytest.approx(20)
    state = recording.state
    assert state.shape == (frames, width)
    # Within the limits of a Franka's joints, and of its fingers.
    assert (np.abs(state[:, :7]) < [2.9, 1.8, 2.9, 3.1, 2.9, 3.8, 2.9]).all()
    if width == 8:
        assert 0 < state[:, 7].min() < state[:, 7].max() < 1.02
