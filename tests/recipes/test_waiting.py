"""One process works while the others wait: for as long as it lives, and no longer."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from accelerate import PartialState

from motus_recipes.schema import EngineSpec
from motus_recipes.training.engine import Engine, ProcessLostError

pytestmark = pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
TIMEOUT = 3.0  # s


def take_part(
    rank: int, port: int, folder: Path, seconds: float, *, fails: bool, steps: bool
) -> None:
    """One of two processes, as a launcher in the background of a script starts it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    known = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ.update({**known, "RANK": str(rank), "LOCAL_RANK": str(rank)})
    PartialState._reset_state()
    engine = Engine(EngineSpec(timeout=TIMEOUT), "cpu")
    try:
        with engine.first():
            (folder / f"entered-{rank}").write_text(str(time.time()))
            if engine.main and fails:
                raise ValueError("no room")
            if engine.main:
                time.sleep(seconds)
            (folder / f"left-{rank}").write_text(str(time.time()))
        while steps:
            engine.sum(torch.ones(1))
        engine.wait()
    except (ProcessLostError, ValueError) as error:
        (folder / f"error-{rank}").write_text(str(error))
        os._exit(3)


class Job:
    """Two processes without a launcher that would end the one when the other dies."""

    def __init__(
        self, folder: Path, seconds: float, *, fails: bool = False, steps: bool = False
    ) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.processes = [
            get_context("fork").Process(
                target=take_part,
                args=(rank, port, folder, seconds),
                kwargs={"fails": fails, "steps": steps},
            )
            for rank in range(2)
        ]
        for process in self.processes:
            process.start()

    def signal_once_entered(self, rank: int, number: signal.Signals) -> None:
        """Send a signal when the main process is at work."""
        while not (self.folder / "entered-0").exists():
            assert self.processes[0].is_alive()
            time.sleep(0.02)
        pid = self.processes[rank].pid
        assert pid is not None
        os.kill(pid, number)

    def error(self, rank: int, within: float) -> str:
        """What a process says when it ends, within so many seconds; nothing if all was well."""
        self.processes[rank].join(within)
        code = self.processes[rank].exitcode
        assert code is not None, "still waits"
        told = self.folder / f"error-{rank}"
        assert (code == 3) == told.exists(), code
        return told.read_text() if told.exists() else ""


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def start(seconds: float, **what: bool) -> Job:
        jobs.append(Job(tmp_path, seconds, **what))
        return jobs[-1]

    yield start
    for process in (p for made in jobs for p in made.processes):
        process.kill()
        process.join()


def test_long_work_is_waited_for_beyond_the_time_out(job, tmp_path: Path):
    started = job(1.5 * TIMEOUT)
    assert [started.error(rank, 30) for rank in range(2)] == ["", ""]
    left, entered = ((tmp_path / name).read_text() for name in ("left-0", "entered-1"))
    assert float(left) <= float(entered)


@pytest.mark.parametrize(("dies", "named_by"), [(0, 1), (1, 0)])
def test_who_dies_meanwhile_is_named_at_once(job, dies: int, named_by: int):
    started = job(600)
    started.signal_once_entered(dies, signal.SIGKILL)
    assert "lost another one" in started.error(named_by, 15)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_who_dies_or_hangs_in_a_step_is_named(job, tmp_path: Path, number: signal.Signals):
    """Without a launcher, whose own table of dead processes would name it too."""
    started = job(0, steps=True)
    while not (tmp_path / "left-1").exists():
        time.sleep(0.02)
    started.signal_once_entered(1, number)
    assert "lost another one" in started.error(0, 30)


def test_who_hangs_is_named_after_the_time_out(job):
    started = job(600)
    started.signal_once_entered(0, signal.SIGSTOP)
    assert "lost another one" in started.error(1, 30)


def test_who_fails_meanwhile_stops_the_others(job):
    started = job(0, fails=True)
    assert "failed while it prepared the data" in started.error(1, 30)
    assert started.error(0, 30) == "no room"
