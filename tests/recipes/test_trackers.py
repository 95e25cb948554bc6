"""Where numbers go: TensorBoard always; Weights & Biases and trackio by option, one run a stage."""

import json
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from motus_embodiments import MissingError
from motus_recipes import load_recipe, train

STEPS = 6
SMALL = [f"stages.codec.steps={STEPS}", "stages.codec.batch=2", "engine.checkpoint_every=2"]


def run(squares: Path, folder: Path, tracker: str, stop_at: int | None = None) -> None:
    """The codec stage, perhaps cut short and gone on with."""

    def stop(done: int, steps: int, note: object) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    recipe = load_recipe("codec", overrides=[*SMALL, f"engine.trackers=[{tracker}]"])
    if stop_at is not None:
        with pytest.raises(KeyboardInterrupt):
            train(recipe, run=folder, data={"target": squares}, on_progress=stop)
    train(recipe, run=folder, data={"target": squares}, resume=stop_at is not None)


def logged(folder: Path) -> list[float]:
    rows = (folder / "01-codec/metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["loss"] for row in rows]


def test_tensorboard_holds_every_step_and_the_heldout_losses(squares: Path, tmp_path: Path):
    run(squares, tmp_path / "run", "")
    board = EventAccumulator(str(tmp_path / "run/01-codec/tensorboard"))
    board.Reload()
    losses = [event.value for event in board.Scalars("loss")]
    assert losses == pytest.approx(logged(tmp_path / "run"), rel=1e-6)
    assert [event.step for event in board.Scalars("heldout/target/loss")] == [STEPS - 1]


class StandIn:
    """A tracker's module, as far as accelerate calls it."""

    def __init__(self) -> None:
        self.inits: list[dict[str, Any]] = []
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(self, **options: Any) -> Any:
        sys.stdout.write("I am here\n")
        self.inits.append(options)
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        sys.stdout.write("I am done\n")
        self.finished += 1


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_resumed_stage_goes_on_in_the_same_run(
    name: str,
    squares: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    module = StandIn()
    monkeypatch.setitem(sys.modules, name, module)
    run(squares, tmp_path / "run", name, stop_at=5)
    first, second = module.inits
    assert first == second
    assert first["project"] == "motus"
    assert first["resume"] == "allow"
    assert first["name"].startswith("run/01-codec")
    assert first["config"]["stages.codec.steps"] == STEPS
    if name == "wandb":
        assert first["dir"] == str(tmp_path / "run/01-codec")
    assert module.finished == 2
    assert "I am" not in capsys.readouterr().out  # stdout is for the result
    own = {step: values["loss"] for step, values in module.rows if "loss" in values}
    assert [own[step] for step in range(STEPS)] == logged(tmp_path / "run")
    run(squares, tmp_path / "another", name)
    assert {module.inits[2][key] for key in ("name", "id") if key in first}.isdisjoint(
        {first.get(key) for key in ("name", "id")}
    )


def test_a_tracker_that_is_not_installed_is_named(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(MissingError, match="trackio"):
        run(squares, tmp_path / "run", "trackio")


def test_the_real_wandb_writes_offline(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(squares, tmp_path / "run", "wandb")
    (file,) = tmp_path.glob("run/01-codec/wandb/offline-run-*/*.wandb")
    assert file.stat().st_size > 1000


def test_the_real_trackio_keeps_every_step(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio")
    run(squares, tmp_path / "run", "trackio")
    (file,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(file) as database:
        rows = database.execute("select step, metrics from metrics order by step").fetchall()
    losses = [json.loads(row)["loss"] for _, row in rows if "loss" in json.loads(row)]
    assert losses == pytest.approx(logged(tmp_path / "run"))
