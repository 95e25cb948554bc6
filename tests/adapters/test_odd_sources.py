"""Sources as they lie on real disks: with other things among the recordings, and odd names."""

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from motus_adapters import UnifiedDataset, convert, inspect_source, open_source
from motus_adapters.readers.base import natural_key
from motus_embodiments import DataError, UsageError

OPTIONS = {"card": "aloha", "codec": None, "allow": {"motion", "limits", "pairs"}}


def truths(layouts, count=2, cameras=("cam_high",)):
    return [layouts.truth(i, cameras, (14, 14), "go", 10.0) for i in range(count)]


@pytest.mark.parametrize("write", ["act", "lerobot_v3", "zarr"])
def test_hidden_files_are_no_recordings(layouts, tmp_path, write):
    """What macOS leaves beside each file, and what lies in a waste basket."""
    source = tmp_path / "source"
    for part in (source / "day", source / ".Trash-1000/day"):
        getattr(layouts, write)(part, truths(layouts))
    for file in [p for p in source.rglob("*") if p.is_file()]:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7 resource fork")
    assert convert(source, tmp_path / "set", **OPTIONS).episodes == 2


def test_a_dataset_below_its_own_source_is_no_recording(layouts, tmp_path):
    """Made anew, it would otherwise be read while it is deleted."""
    set_ = layouts.lerobot_v2(tmp_path / "set", truths(layouts, 1))
    source = tmp_path / "films"
    source.mkdir()
    shutil.copy(next(set_.rglob("*.mp4")), source / "one.mp4")
    for force in (False, True):
        report = convert(source, source / "out", **OPTIONS, force=force)
        assert (report.format, report.episodes) == ("video", 1)
    assert len(open_source(source)[1]) == 1


@pytest.mark.parametrize("lacking", ["cam_right_wrist", "cam_high"])
def test_a_view_that_the_first_recording_lacks_is_not_dropped_from_all(layouts, tmp_path, lacking):
    cameras = ("cam_high", "cam_left_wrist", "cam_right_wrist")
    written = truths(layouts, 3, cameras)
    del written[0].frames[lacking]
    source = layouts.act(tmp_path / "act", written)
    with pytest.raises(DataError, match=f"episode_0 has no camera '{lacking}'"):
        convert(source, tmp_path / "set", **OPTIONS)
    report = convert(source, tmp_path / "set", **OPTIONS, skip_bad=True)
    assert tuple(report.cameras.values()) == cameras
    assert [name for name, _ in report.skipped] == ["episode_0"]


def test_a_first_recording_without_pictures_can_be_left_out(layouts, tmp_path):
    written = truths(layouts)
    written[0].frames.clear()
    source = layouts.act(tmp_path / "act", written)
    for mapping in (None, {"cameras": {"head": "cam_high"}}):
        options = {**OPTIONS, "mapping": mapping, "skip_bad": True, "force": mapping is not None}
        report = convert(source, tmp_path / "set", **options)
        assert [name for name, _ in report.skipped] == ["episode_0"]


@pytest.mark.parametrize("lacking", ["a", "b"])
@pytest.mark.parametrize(("what", "column"), [("state", "observation.state"), ("action", "action")])
def test_what_one_recording_lacks_is_neither_dropped_nor_made_up(
    layouts, tmp_path, lacking, what, column
):
    source = tmp_path / "sets"
    for name in ("a", "b"):
        layouts.lerobot_v2(source / name, truths(layouts, 1))
    file = next((source / lacking).rglob("*.parquet"))
    pq.write_table(pq.read_table(file).drop_columns([column]), file)
    with pytest.raises(DataError, match=f"{lacking}/episode_0 has no {what}, which others have"):
        convert(source, tmp_path / "set", **OPTIONS)
    report = convert(source, tmp_path / "set", **OPTIONS, skip_bad=True)
    assert [name for name, _ in report.skipped] == [f"{lacking}/episode_0"]
    assert what in UnifiedDataset(tmp_path / "set").arrays(0)


def test_a_state_or_action_that_nobody_named_is_told(layouts, tmp_path):
    source = layouts.lerobot_v2(tmp_path / "a", truths(layouts, 1))
    file = next(source.rglob("*.parquet"))
    table = pq.read_table(file)
    names = {"observation.state": "joints", "action": "sent"}
    pq.write_table(table.rename_columns([names.get(n, n) for n in table.column_names]), file)
    told = "\n".join(convert(source, tmp_path / "set", **OPTIONS).warnings)
    assert "no column is known as the state, and none is written; there are" in told
    assert "joints" in told
    mapping = {"state": "joints"}
    report = convert(source, tmp_path / "set", **OPTIONS, mapping=mapping, force=True)
    told = "\n".join(report.warnings)
    assert "known as the state" not in told
    assert "no action is stored; the following state becomes it" in told
    mapping["action"] = []
    report = convert(source, tmp_path / "set", **OPTIONS, mapping=mapping, force=True)
    assert "no action" not in "\n".join(report.warnings)


def test_where_all_are_bad_the_first_says_why(layouts, tmp_path):
    source = layouts.act(tmp_path / "act", truths(layouts))
    for file in source.glob("*.hdf5"):
        with h5py.File(file, "a") as h5:
            actions = h5["action"][:-3]
            del h5["action"]
            h5["action"] = actions
    for run in (
        lambda: inspect_source(source),
        lambda: convert(source, tmp_path / "set", **OPTIONS, skip_bad=True),
    ):
        with pytest.raises(DataError, match=r"all 2 are bad; 'episode_0': .*'action' has"):
            run()


@pytest.mark.parametrize("allow", [(), ("limits",)])
def test_numbers_that_are_none_are_never_let_through(layouts, tmp_path, allow):
    written = truths(layouts)
    written[0].state[3, 2] = np.nan
    source = layouts.act(tmp_path / "act", written)
    with pytest.raises(DataError, match="is nan at frame 3") as caught:
        convert(source, tmp_path / "set", **{**OPTIONS, "allow": {"motion", *allow}})
    assert "--allow" not in caught.value.hint
    assert not (tmp_path / "set").exists()


def test_names_that_are_no_utf8(layouts, tmp_path):
    """As an old archive or camera leaves them."""
    source = layouts.act(tmp_path / os.fsdecode(b"aufnahme-\xe4"), truths(layouts))
    os.rename(source / "episode_0.hdf5", source / os.fsdecode(b"\xe9pisode_0.hdf5"))
    convert(source, tmp_path / "set", **OPTIONS)
    episodes = UnifiedDataset(tmp_path / "set").episodes
    assert [episode.source for episode in episodes] == ["episode_1", "?pisode_0"]


def test_a_time_of_day_in_the_name_of_a_video(layouts, tmp_path, monkeypatch):
    """FFmpeg takes `rec-10` for a protocol."""
    set_ = layouts.lerobot_v2(tmp_path / "set", truths(layouts, 1))
    shutil.copy(next(set_.rglob("*.mp4")), tmp_path / "rec-10:30.mp4")
    monkeypatch.chdir(tmp_path)
    (recording,) = open_source(Path("rec-10:30.mp4"))[1]
    assert len(list(recording.frames("video"))) == recording.num_frames


def test_digits_that_are_no_numbers():
    assert sorted(["area_2²", "area_10", "area_2"], key=natural_key)[-1] == "area_10"


def test_a_task_that_an_editor_of_windows_wrote(layouts, tmp_path):
    set_ = layouts.lerobot_v2(tmp_path / "set", truths(layouts, 1))
    shutil.copy(next(set_.rglob("*.mp4")), tmp_path / "one.mp4")
    for suffix, content in ((".txt", "fold it\r\n"), (".json", '{"task": "fold it"}')):
        told = tmp_path / f"one{suffix}"
        told.write_text(content, encoding="utf-8-sig")
        assert open_source(tmp_path / "one.mp4")[1][0].task == "fold it"
        told.unlink()


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), 0.0])
def test_rates_that_are_none(layouts, tmp_path, rate):
    source = layouts.act(tmp_path / "act", truths(layouts))
    for given in ({"rate": rate}, {"mapping": {"rate": rate}}):
        with pytest.raises(UsageError, match="rate"):
            convert(source, tmp_path / "set", **OPTIONS, **given)


def test_mappings_with_endless_numbers(layouts, tmp_path):
    source = layouts.act(tmp_path / "act", truths(layouts))
    for part in ({"scale": float("inf")}, {"closed": float("nan"), "open": 1.0}):
        mapping = {"state": [{"column": "observations/qpos", **part}]}
        with pytest.raises(UsageError, match=r"state.*finite number"):
            convert(source, tmp_path / "set", **OPTIONS, mapping=mapping)


def test_names_with_a_colon_on_the_command_line(motus, layouts, tmp_path):
    """Arrow and FFmpeg take what stands before it for a protocol."""
    layouts.act(tmp_path / "act", truths(layouts))
    more = [
        "--embodiment",
        "aloha",
        "--codec",
        "none",
        *("--allow", "motion"),
        *("--allow", "pairs"),
    ]
    assert motus("convert", "act", "run-10:30", *more).code == 0
    assert motus("convert", "run-10:30", "out-10:30", "--to", "lerobot-v2.1").code == 0
    assert motus("inspect", "out-10:30").code == 0
