"""Folders made once: whole entries, many processes, never past the limit."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from motus_embodiments import UsageError
from motus_model import SIZES
from motus_recipes import load_recipe, train
from motus_recipes.data.cache import open_cached
from motus_recipes.data.folder_cache import FolderCache

pytestmark = pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
ENTRY = 1000  # bytes


def entry(folder: Path) -> None:
    (folder / "a.bin").write_bytes(bytes(ENTRY))


def never(folder: Path) -> None:
    raise AssertionError("was made again")


def names(cache: FolderCache) -> set[str]:
    return {path.name for path in cache.root.iterdir() if path.is_dir()}


def test_what_was_used_least_recently_makes_room(tmp_path: Path):
    cache = FolderCache(tmp_path, 3 * ENTRY)
    for number in range(3):
        cache.get(str(number), ENTRY, entry)
        time.sleep(0.01)
    cache.get("0", ENTRY, never)
    time.sleep(0.01)
    cache.get("3", ENTRY, entry)
    assert names(cache) == {"0", "2", "3"}
    cache.get("4", 2 * ENTRY, entry, in_use=["2"])
    assert names(cache) == {"2", "4"}


def test_an_entry_beyond_the_limit_is_refused_before_it_is_made(tmp_path: Path):
    cache = FolderCache(tmp_path / "arrays", 10**9)
    with pytest.raises(UsageError, match=r"would have to hold 5 GB, and engine\.cache allows 1"):
        cache.get("a", 5 * 10**9, never)
    assert not (tmp_path / "arrays").exists()


def test_a_maker_that_fails_leaves_nothing(tmp_path: Path):
    cache = FolderCache(tmp_path, ENTRY)
    with pytest.raises(AssertionError):
        cache.get("a", ENTRY, never)
    assert names(cache) == set()


def slow(folder: Path) -> None:
    with (folder.parent / "made").open("a") as made:
        made.write(f"{os.getpid()}\n")
    time.sleep(0.3)
    entry(folder)


def test_only_one_of_many_processes_makes_it(tmp_path: Path):
    cache = FolderCache(tmp_path, ENTRY)
    others = [
        get_context("fork").Process(target=cache.get, args=("a", ENTRY, slow)) for _ in range(4)
    ]
    for process in others:
        process.start()
    for process in others:
        process.join(30)
    assert [process.exitcode for process in others] == [0] * 4
    assert len((tmp_path / "made").read_text().splitlines()) == 1


def hang(folder: Path) -> None:
    entry(folder)
    time.sleep(600)


def test_a_maker_that_was_killed_blocks_nobody_and_leaves_nothing(tmp_path: Path):
    cache = FolderCache(tmp_path, ENTRY)
    killed = get_context("fork").Process(target=cache.get, args=("a", ENTRY, hang))
    killed.start()
    while not list(tmp_path.glob("*/a.bin")):
        time.sleep(0.01)
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    killed.join()
    assert not (tmp_path / "a").exists()
    cache.get("b", ENTRY, entry)
    assert names(cache) == {"b"}


def test_a_dataset_is_cached_within_the_limit(tmp_path: Path, write: Callable[..., Path]):
    data = write(tmp_path / "data", episodes=2)
    model = replace(SIZES["tiny"], canvas=(64, 64))
    before = open_cached("data", data, model)
    assert before.locate(12) == {"episode": 1, "frame": 2, "task": "push the block"}
    arrays = before.folders.root
    used = sum(file.stat().st_size for file in arrays.rglob("*.npy"))
    picture = np.array(before.canvas[0])
    other = replace(model, canvas=(32, 64))
    after = open_cached("data", data, other, limit=used)
    assert {path.name for path in arrays.iterdir() if path.is_dir()} == {after.key}
    np.testing.assert_array_equal(before.canvas[0], picture)  # still open here
    with pytest.raises(UsageError, match="allows"):
        open_cached("data", data, model, limit=used // 2)
    recipe = load_recipe("full", overrides=["engine.cache=0.00001"])
    with pytest.raises(UsageError, match="allows"):
        train(recipe, run=tmp_path / "run", data={"target": data})


def test_a_dataset_that_may_only_be_read_is_cached_elsewhere(tmp_path: Path, write, monkeypatch):
    data = write(tmp_path / "data", episodes=2)
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("os.access", lambda path, mode: data not in (path, *Path(path).parents))
    cached = open_cached("data", data, replace(SIZES["tiny"], canvas=(64, 64)))
    assert cached.folders.root.is_relative_to(tmp_path / "home" / "motus" / "datasets")
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
