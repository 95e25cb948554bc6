"""A run that is told to end saves its state and goes on as if nothing had been."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from motus_recipes import load_recipe, train
from motus_recipes.training.step_note import StepNote

RECIPE = (
    "stages.codec.steps=7",
    "stages.codec.batch=20",
    "engine.checkpoint_every=4",
    "engine.keep_best=true",
)


def run(folder: Path, data: Path, act: Callable[[int], None] = lambda done: None) -> None:
    """Train, or go on; `act` is called after each step."""

    def note(done: int, _total: int, note: object) -> None:
        if isinstance(note, StepNote):
            act(done)

    recipe = load_recipe("codec", overrides=RECIPE)
    train(recipe, run=folder, data={"target": data}, resume=True, on_progress=note)


def at(step: int, number: signal.Signals, times: int = 1) -> Callable[[int], None]:
    """Send this process a signal after a step."""

    def act(done: int) -> None:
        for _ in range(times if done == step else 0):
            os.kill(os.getpid(), number)

    return act


@pytest.fixture(scope="module")
def undisturbed(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run(folder, squares)
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [2, 4, 7])
def test_a_signal_saves_the_step_and_the_run_goes_on_exactly(
    undisturbed: Path, squares: Path, tmp_path: Path, step: int, number: signal.Signals
):
    folder = tmp_path / "run"
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        run(folder, squares, at(step, number))
    assert signal.getsignal(number) == before
    assert (folder / f"01-codec/checkpoints/step-{step:08d}/state.json").is_file()
    done: list[int] = []
    run(folder, squares, done.append)
    assert done == list(range(step + 1, 8))
    for file in ("metrics.jsonl", "result/weights.safetensors"):
        one, other = (place / "01-codec" / file for place in (folder, undisturbed))
        assert one.read_bytes() == other.read_bytes(), file


def test_a_second_signal_ends_at_once(squares: Path, tmp_path: Path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", squares, at(2, signal.SIGINT, times=2))
    assert not (tmp_path / "run/01-codec/checkpoints").exists()


def test_what_is_ignored_stays_so_and_other_threads_leave_signals_alone(
    squares: Path, tmp_path: Path
):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run(tmp_path / "ignored", squares, at(2, signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    thread = threading.Thread(target=run, args=(tmp_path / "thread", squares))
    thread.start()
    thread.join()
    for name in ("ignored", "thread"):
        assert (tmp_path / name / "run.json").is_file()
