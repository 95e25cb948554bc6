"""The bounded store: whole entries, many writers, never much past its limit."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from motus_recipes.data.store import TensorStore

ENTRY = 4 * 1000  # bytes of numbers in an entry


def entry(value: float) -> dict[str, torch.Tensor]:
    return {"x": torch.full((1000,), value)}


def never() -> dict[str, torch.Tensor]:
    raise AssertionError("was made again")


def used(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_made_once_and_kept(tmp_path):
    store = TensorStore(tmp_path, 10**6)
    assert torch.equal(store.get("a/b", lambda: entry(3))["x"], entry(3)["x"])
    assert torch.equal(TensorStore(tmp_path, 10**6).get("a/b", never)["x"], entry(3)["x"])


def test_without_a_limit_nothing_is_kept(tmp_path):
    store = TensorStore(tmp_path / "none", 0)
    store.get("a", lambda: entry(1))
    assert float(store.get("a", lambda: entry(2))["x"][0]) == 2
    assert not (tmp_path / "none").exists()


def test_what_is_kept_comes_back_in_its_precision(tmp_path):
    store = TensorStore(tmp_path, 10**6)
    value = {"x": torch.randn(3, 4).bfloat16(), "mask": torch.tensor([True, False])}
    store.get("a", lambda: value)
    again = store.get("a", never)
    assert all(torch.equal(again[k], v) and again[k].dtype == v.dtype for k, v in value.items())


def test_a_damaged_entry_is_made_anew(tmp_path):
    store = TensorStore(tmp_path, 10**6)
    store.get("a", lambda: entry(1))
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:100])
    assert float(store.get("a", lambda: entry(2))["x"][0]) == 2
    assert float(store.get("a", never)["x"][0]) == 2


def test_an_entry_that_goes_while_it_is_read_is_made_anew(tmp_path, monkeypatch):
    """safetensors reads the header and torch opens the file again: another process makes room."""
    store = TensorStore(tmp_path, 10**6)
    store.get("a", lambda: entry(1))
    opens = torch.UntypedStorage.from_file
    gone = []

    def late(path, *args, **kwargs):
        gone.append(Path(path).unlink())
        return opens(path, *args, **kwargs)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", late)
    assert float(store.get("a", lambda: entry(2))["x"][0]) == 2
    assert len(gone) == 1


def test_a_maker_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(AssertionError):
        TensorStore(tmp_path, 10**6).get("a", never)
    assert used(tmp_path) == 0


def test_the_folder_never_grows_past_its_limit(tmp_path):
    limit = 20 * ENTRY
    store = TensorStore(tmp_path, limit)
    for number in range(60):
        store.get(str(number), lambda number=number: entry(number))
        assert used(tmp_path) <= limit
    assert used(tmp_path) > limit / 2


def test_what_is_used_stays(tmp_path):
    store = TensorStore(tmp_path, 20 * ENTRY)
    for number in range(60):
        store.get(str(number), lambda number=number: entry(number))
        store.get("0", lambda: entry(0))
    assert float(store.get("0", never)["x"][0]) == 0
    with pytest.raises(AssertionError):
        store.get("1", never)


def test_an_entry_that_another_process_takes_while_it_is_written_is_given_all_the_same(
    tmp_path, monkeypatch
):
    def slowly(tensors, path):
        save_file(tensors, path)
        path.unlink()

    monkeypatch.setattr("motus_recipes.data.store.save_file", slowly)
    found = TensorStore(tmp_path, 20 * ENTRY).get("1", lambda: entry(1))
    assert float(found["x"][0]) == 1
    assert not list(tmp_path.iterdir())


WRITER = """
import sys, torch
from pathlib import Path
from motus_recipes.data.store import TensorStore
store = TensorStore(Path(sys.argv[1]), int(sys.argv[2]))
for turn in range(3):
    for number in range(40):
        found = store.get(str(number), lambda: {"x": torch.full((1000,), float(number))})["x"]
        assert (found == number).all(), (number, found)
"""


def test_many_writers_at_once(tmp_path):
    """Each reads what it asked for, though all write, read and make room in one folder."""
    limit = 24 * ENTRY
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(limit)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for writer in writers:
        _, errors = writer.communicate(timeout=120)
        assert writer.returncode == 0, errors[-2000:]
    assert used(tmp_path) <= limit
    assert not list(tmp_path.rglob(".*"))
