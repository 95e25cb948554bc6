"""Sources as they lie on real disks: with other things among the recordings, and odd names."""

import shutil

import pytest

from motus_adapters import convert, open_source

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
