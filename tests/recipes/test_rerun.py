"""Recordings for the rerun viewer: what was written is read back from them."""

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motus_embodiments import DataError, MissingError, UsageError
from motus_recipes import report


def read(path: Path) -> dict[str, Any]:
    """Entity to table, one for what moves with time and for what does not."""
    experimental = pytest.importorskip("rerun.experimental", reason="rerun-sdk is not installed")
    store = experimental.RrdReader(path).store()
    found: dict[str, Any] = {}
    for chunk in store.stream().to_chunks():
        found.setdefault(chunk.entity_path, []).append(chunk.to_record_batch())
    return found


def column(batches: list[Any], name: str) -> list[Any]:
    return [row for b in batches if name in b.schema.names for row in b[name].to_pylist()]


@pytest.fixture(scope="module")
def written(shown_run: Path, tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    folder = tmp_path_factory.mktemp("rerun")
    made = report([shown_run, tiny_run], folder / "r.html", rerun=folder / "r.rrd")
    assert made.rerun == folder / "r.rrd"
    assert [path.name for path in sorted(folder.iterdir())] == ["r.html", "r.rrd"]
    return read(folder / "r.rrd")


def test_losses_of_all_runs_are_there(written: Any, tiny_run: Path) -> None:
    from rerun import new_entity_path

    for stage in ("codec", "stage1", "stage2", "stage3"):
        rows = next(tiny_run.glob(f"*-{stage}/metrics.jsonl")).read_text().splitlines()
        wanted = [json.loads(row)["loss"] for row in rows]
        for name in ("moved", tiny_run.name):
            batches = written[new_entity_path(["losses", stage, name])]
            assert column(batches, "step") == list(range(3))
            assert np.ravel(column(batches, "Scalars:scalars")) == pytest.approx(wanted)


def test_films_and_actions_run_on_one_clock(written: Any, shown_run: Path) -> None:
    for mode in ("vgm", "wm", "joint"):
        batches = written[f"/films/{mode}/moved"]
        (blob,) = column(batches, "AssetVideo:blob")
        assert (
            bytes(np.ravel(blob).astype(np.uint8))
            == (shown_run / "samples" / f"{mode}.mp4").read_bytes()
        )
        frames = column(batches, "VideoFrameReference:timestamp")
        shown = [time.total_seconds() for time in column(batches, "time")]
        assert shown == pytest.approx(np.ravel(frames).astype(float) / 1e9)
    for mode in ("idm", "vla", "joint"):
        with np.load(shown_run / "samples" / f"{mode}.npz") as kept:
            rate = float(kept["rate"])
            for index, channel in enumerate(kept["channels"]):
                for kind in ("recorded", "predicted"):
                    batches = written[f"/actions/{mode}/{channel}/moved/{kind}"]
                    values = np.ravel(column(batches, "Scalars:scalars"))
                    assert values == pytest.approx(kept[kind][:, index])
                    times = [time.total_seconds() for time in column(batches, "time")]
                    assert times == pytest.approx(np.arange(len(values)) / rate, abs=1e-6)


def test_success_is_told(written: Any) -> None:
    (text,) = np.ravel(column(written["/success/moved"], "TextDocument:text"))
    assert "| expert | toy:Slide | 66.7% |" in text


def test_what_cannot_be_written_leaves_nothing(
    shown_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, taken = tmp_path / "r.html", tmp_path / "r.rrd"
    with pytest.raises(UsageError, match="does not end in"):
        report([shown_run], page, rerun=tmp_path / "r.txt")
    taken.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        report([shown_run], page, rerun=taken)
    assert taken.read_text() == "mine"
    taken.unlink()
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "rerun":
            raise ImportError(name)
        return real(name, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(MissingError) as caught:
            report([shown_run], page, rerun=taken)
    assert "viz" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "kept"), [("joint.mp4", 100), ("idm.npz", 40)])
def test_a_damaged_sample_is_named(shown_run: Path, tmp_path: Path, name: str, kept: int) -> None:
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    run = tmp_path / "run"
    shutil.copytree(shown_run, run)
    file = run / "samples" / name
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError, match=name):
        report([run], tmp_path / "r.html", rerun=tmp_path / "r.rrd")
    assert not (tmp_path / "r.rrd").exists()
