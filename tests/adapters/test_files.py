"""What is replaced is never lost: not when a process dies between two renames, nor half-way."""

import os
from pathlib import Path

import pytest

from motus_adapters.files import appearing
from motus_embodiments import UsageError


def folder(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_text(text)
    return path


def test_what_a_killed_process_had_moved_away_comes_back(tmp_path):
    """It died after the old result had left and before the new one had come."""
    folder(tmp_path / ".out.partial" / "old", "before")
    with pytest.raises(KeyboardInterrupt), appearing(tmp_path / "out"):
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "file").read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_process_had_replaced_is_in_nobodys_way(tmp_path):
    """It died after both renames."""
    folder(tmp_path / ".out.partial" / "old", "long ago")
    folder(tmp_path / "out", "before")
    with appearing(tmp_path / "out") as place:
        folder(place, "now")
    assert (tmp_path / "out" / "file").read_text() == "now"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_the_folder_one_is_in_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(folder(tmp_path / "here", "mine"))
    for name in (".", "../here"):
        with pytest.raises(UsageError, match="the command runs in"), appearing(Path(name)):
            pytest.fail("the work was begun")
    assert [entry.name for entry in (tmp_path / "here").iterdir()] == ["file"]


def test_a_rename_that_fails_takes_nothing_away(tmp_path, monkeypatch):
    out, rename = folder(tmp_path / "out", "before"), os.replace

    def failing(source, target):
        if Path(source).name == "result":
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="no"), appearing(out) as place:
        folder(place, "now")
    assert (out / "file").read_text() == "before"
