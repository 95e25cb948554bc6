"""Out of the unified dataset into other tools' layouts, and back through our own readers."""

import json
import shutil

import h5py
import numpy as np
import pytest
import zarr
from layouts.unified import write_unified

from motus_adapters import LAYOUTS, UnifiedDataset, convert_out, open_source
from motus_adapters.conversion.canonical import numbers_of
from motus_embodiments import ActionAdapter, DataError, UsageError, load_card

LENGTHS = (9, 5, 12)
CHANGES = ["libero", "sawyer-metaworld", "widowx-bridge"]  # cards whose actions are changes
NAMES = {"lerobot-v2.1": "set", "robomimic": "demos.hdf5", "replay-buffer": "replay.zarr"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_unified(tmp_path_factory.mktemp("data") / "set", "aloha", LENGTHS)


def views(dataset, episode):
    """Camera -> frames, cut out of the canvas by hand."""
    frames = np.stack(list(dataset.frames(episode)))
    boxes = dataset.meta.layout.boxes
    names = {c.role: c.name for c in dataset.meta.card.cameras}
    return {names.get(r, r): frames[:, y : y + h, x : x + w] for r, (x, y, w, h) in boxes.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("card", ["aloha", "so101", "franka", "widowx", *CHANGES])
def test_out_and_in_again(tmp_path, layout, card):
    source = write_unified(tmp_path / "set", card, LENGTHS)
    report = convert_out(source, tmp_path / "out" / NAMES[layout], layout)
    assert (report.episodes, report.frames, report.rate) == (3, sum(LENGTHS), 10.0)
    ours, adapter = UnifiedDataset(source), ActionAdapter(load_card(card))
    reader, recordings = open_source(report.out)
    assert reader.name == {"lerobot-v2.1": "lerobot", "replay-buffer": "zarr"}.get(layout, layout)
    assert [w for r in recordings for w in r.episode.warnings] == []
    for episode, recording in zip(ours.episodes, recordings, strict=True):
        arrays = ours.arrays(episode.index)
        assert (recording.task, recording.rate) == (episode.task, 10.0)
        state = adapter.encode_state(recording.state)
        action = adapter.encode_action(recording.action, arrays["state"])
        np.testing.assert_allclose(state, arrays["state"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(action, arrays["action"], rtol=0, atol=1e-6)
        numbers = numbers_of(recording, load_card(card), frozenset({"limits", "pairs"}))
        np.testing.assert_allclose(numbers.action, arrays["action"], rtol=0, atol=1e-6)
        wanted = views(ours, episode.index)
        found = {c.removeprefix("observation.images."): c for c in recording.cameras}
        found = {name.removesuffix("_image"): camera for name, camera in found.items()}
        assert set(found) == set(wanted) == set(report.cameras)
        for name, camera in found.items():
            frames = np.stack(list(recording.frames(camera))).astype(int)
            error = np.abs(frames - wanted[name]).mean()
            assert error <= (2.5 if layout == "lerobot-v2.1" else 0)


def test_a_link_stays_one(dataset, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    convert_out(dataset, tmp_path / "link", "lerobot-v2.1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk/meta/info.json").is_file()


def test_what_is_written_is_native(dataset, tmp_path):
    """Against the card's law by hand: a closed gripper is what the card calls closed."""
    ours, card = UnifiedDataset(dataset), load_card("aloha")
    column = [c.name for c in card.state_channels].index("left_gripper")
    gripper = card.arms[0].gripper
    canonical = ours.arrays(0)["state"][:, column]
    convert_out(dataset, tmp_path / "r.hdf5", "robomimic")
    with h5py.File(tmp_path / "r.hdf5") as file:
        names = json.loads(file["data"].attrs["state_names"])
        native = file["data/demo_0/obs/state"][:, names.index("left_gripper")]
    wanted = gripper.closed + canonical * (gripper.open - gripper.closed)
    np.testing.assert_allclose(native, wanted, atol=1e-6)


def test_lerobot_brings_it_up_to_v3_and_opens_it(dataset, tmp_path):
    """LeRobot refuses v2.1 but ships the script that converts it: its own reading of the layout."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset
    from lerobot.scripts.convert_dataset_v21_to_v30 import convert_dataset

    out = tmp_path / "set"
    convert_out(dataset, out, "lerobot-v2.1")
    recordings = open_source(out)[1]
    wanted = [(r.state, r.action, r.task) for r in recordings]
    convert_dataset("t/t", root=str(out), push_to_hub=False)
    theirs = LeRobotDataset("t/t", root=out, video_backend="pyav")
    assert (len(theirs), theirs.num_episodes, theirs.fps) == (sum(LENGTHS), 3, 10)
    ours, row = UnifiedDataset(dataset), 0
    for episode, (state, action, task) in enumerate(wanted):
        frames = views(ours, episode)
        for t in range(len(state)):
            item = theirs[row]
            assert (item["task"], int(item["frame_index"])) == (task, t)
            np.testing.assert_allclose(item["observation.state"], state[t], atol=1e-6)
            np.testing.assert_allclose(item["action"], action[t], atol=1e-6)
            for name, stack in frames.items():
                image = item[f"observation.images.{name}"].numpy().transpose(1, 2, 0) * 255
                assert np.abs(image - stack[t]).mean() < 2.5
            row += 1
    states = np.concatenate([state for state, _, _ in wanted])
    np.testing.assert_allclose(
        theirs.meta.stats["observation.state"]["mean"], states.mean(0), atol=1e-5
    )
    np.testing.assert_allclose(
        theirs.meta.stats["observation.state"]["std"], states.std(0), atol=1e-5
    )


def test_layout_of_v21(dataset, tmp_path):
    out = tmp_path / "set"
    convert_out(dataset, out, "lerobot-v2.1")
    info = json.loads((out / "meta/info.json").read_text())
    assert (info["codebase_version"], info["total_videos"], info["total_tasks"]) == ("v2.1", 9, 2)
    assert info["features"]["observation.state"]["names"][0] == "vx300s_left/waist"
    lines = (out / "meta/episodes_stats.jsonl").read_text().splitlines()
    stats = json.loads(lines[1])["stats"]
    assert set(stats) == set(info["features"])
    assert set(stats["action"]) == {"min", "max", "mean", "std", "count"}
    camera = next(name for name in stats if name.startswith("observation.images."))
    assert np.shape(stats[camera]["mean"]) == (3, 1, 1)
    assert 0 <= np.min(stats[camera]["min"]) <= np.max(stats[camera]["max"]) <= 1
    assert stats["timestamp"]["max"] == [pytest.approx(0.4)]
    assert stats["index"]["min"] == [9]


def test_layout_of_robomimic(dataset, tmp_path):
    convert_out(dataset, tmp_path / "r.hdf5", "robomimic")
    with h5py.File(tmp_path / "r.hdf5") as file:
        assert sorted(file["data"]) == ["demo_0", "demo_1", "demo_2"]
        assert file["data"].attrs["total"] == sum(LENGTHS)
        assert set(json.loads(file["data"].attrs["env_args"])) == {"env_name", "type", "env_kwargs"}
        demo = file["data/demo_2"]
        assert demo.attrs["num_samples"] == LENGTHS[2]
        assert demo["dones"][:].tolist() == [0] * 11 + [1]
        assert {len(demo[name]) for name in ("actions", "rewards", "dones")} == {12}
        for name, images in demo["obs"].items():
            assert len(images) == 12
            assert name == "state" or (images.dtype == np.uint8 and images.shape[3] == 3)


def test_layout_of_a_replay_buffer(dataset, tmp_path):
    convert_out(dataset, tmp_path / "r.zarr", "replay-buffer")
    assert (tmp_path / "r.zarr/.zgroup").is_file(), "diffusion policy reads zarr v2"
    group = zarr.open_group(str(tmp_path / "r.zarr"), mode="r")
    assert group["meta/episode_ends"][:].tolist() == [9, 14, 26]
    assert group["meta/episode_ends"].dtype == np.int64
    for _, array in group["data"].arrays():
        assert array.shape[0] == 26
        assert array.chunks[1:] == array.shape[1:], "chunks run along time only"
    assert {array.dtype for _, array in group["data"].arrays()} == {np.dtype("f4"), np.dtype("u1")}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_there_is_safe(dataset, tmp_path, layout):
    out = tmp_path / NAMES[layout]
    convert_out(dataset, out, layout, dry_run=True)
    assert list(tmp_path.iterdir()) == []
    convert_out(dataset, out, layout)
    with pytest.raises(UsageError, match="exists") as caught:
        convert_out(dataset, out, layout)
    assert "--force" in caught.value.hint
    convert_out(dataset, out, layout, force=True)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "a.tex").write_text("ten years of work")
    for target in (thesis, dataset, dataset / "data"):
        with pytest.raises(UsageError):
            convert_out(dataset, target, layout, force=True)
    assert (thesis / "a.tex").exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_damaged_dataset_leaves_nothing(dataset, tmp_path, layout):
    broken = tmp_path / "broken"
    shutil.copytree(dataset, broken)
    video = sorted((broken / "videos").rglob("*.mp4"))[1]
    video.write_bytes(video.read_bytes()[:700])
    old = tmp_path / NAMES[layout]
    convert_out(dataset, old, layout)
    before = {p: p.stat().st_mtime_ns for p in [old, *old.rglob("*")]}
    with pytest.raises(DataError, match=video.name):
        convert_out(broken, old, layout, force=True)
    assert {p: p.stat().st_mtime_ns for p in [old, *old.rglob("*")]} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["broken", old.name])


def test_the_command(dataset, motus, tmp_path):
    ran = motus("convert", dataset, "out.zarr", "--to", "replay-buffer", "--json")
    assert (ran.code, ran.document["episodes"], ran.document["layout"]) == (0, 3, "replay-buffer")
    assert ran.document["next"] == "motus inspect out.zarr"
    assert motus("inspect", "out.zarr").code == 0
    ran = motus("convert", dataset, "x", "--to", "robomimik")
    assert (ran.code, "robomimic" in ran.err) == (2, True)
    for given in (["--embodiment", "aloha"], ["--canvas-width", 64], ["--level", 4], ["--resume"]):
        ran = motus("convert", dataset, "x", "--to", "robomimic", *given)
        assert ran.code == 2
        assert f"{given[0]} is about recordings" in ran.err
    ran = motus("convert", "out.zarr", "x", "--to", "robomimic")
    assert (ran.code, "is no unified dataset" in ran.err) == (4, True)
    ran = motus("convert", "nowhere", "x", "--to", "robomimic")
    assert (ran.code, "does not exist" in ran.err) == (4, True)
    assert not (tmp_path / "x").exists()
    ran = motus("convert", dataset, "x")
    assert ran.code == 2
