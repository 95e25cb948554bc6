"""Two processes are one: the same losses, the same order of data, and a lost one is named.

So is a compiled network.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("worker.py")
SMALL = (
    "engine.trackers=[]",
    *(
        f"stages.{stage}.{key}={value}"
        for stage, steps in (("codec", 4), ("stage1", 4), ("stage2", 4), ("stage3", 8))
        for key, value in (("steps", steps), ("batch", 4))
    ),
)


def start(processes: int, run: Path, data: Path, *overrides: str) -> subprocess.Popen[str]:
    """A run in so many processes, as `torchrun` starts it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", str(WORKER), str(run), str(data)]
    return subprocess.Popen(
        [*command, *SMALL, *overrides],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def losses(run: Path) -> dict[str, list[list[float]]]:
    """Every step's numbers, by stage."""
    found = {}
    for file in sorted(run.glob("*/metrics.jsonl")):
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        found[file.parent.name] = [list(row.values()) for row in rows]
    return found


def finish(process: subprocess.Popen[str]) -> None:
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors[-3000:]


@pytest.fixture(scope="module")
def alone(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in this process, without `torchrun`."""
    run = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(WORKER.parent)
        from worker import go_on

        go_on(run, squares, *SMALL)
    return run


@pytest.mark.parametrize("sharding", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_two_processes_equal_one(alone: Path, squares: Path, tmp_path: Path, sharding: str):
    run = tmp_path / "run"
    settings = (f"engine.sharding={sharding}", "engine.microbatch=1")
    finish(start(2, run, squares, *settings))
    one, two = losses(alone), losses(run)
    assert list(one) == list(two)
    assert len(one["04-stage3"]) == 8
    for stage, rows in one.items():
        for a, b in zip(rows, two[stage], strict=True):
            assert a == pytest.approx(b, abs=1e-5), stage


@pytest.mark.slow
def test_a_compiled_network_has_the_same_losses(squares: Path, tmp_path: Path):
    script = Path(__file__).with_name("compiled.py")
    told = [sys.executable, script, str(squares), str(tmp_path)]
    ran = subprocess.run(told, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    none, some = (int((tmp_path / name / "graphs").read_text()) for name in ("False", "True"))
    assert none == 0 < some
    (eager,), (compiled,) = (losses(tmp_path / name).values() for name in ("False", "True"))
    assert len(eager) == 2
    for a, b in zip(eager, compiled, strict=True):
        assert a == pytest.approx(b, rel=1e-5)


EVERYTHING = (
    "stages.stage3.steps=20",  # time to be killed in
    "engine.checkpoint_every=4",
    "stages.stage3.optimizer.ema=0.9",
    "stages.stage3.lora.experts=[video, understanding]",
    "stages.stage3.lora.rank=2",
)


@pytest.fixture(scope="module")
def undisturbed(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(start(2, run, squares, *EVERYTHING))
    return run


@pytest.mark.slow
def test_a_lost_process_is_named_and_the_job_goes_on_exactly(
    undisturbed: Path, squares: Path, tmp_path: Path
):
    run = tmp_path / "run"
    process = start(2, run, squares, *EVERYTHING)
    stage = run / "04-stage3"
    while process.poll() is None and not list(stage.glob("checkpoints/step-*/state.json")):
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[1]), signal.SIGKILL)
    started = time.monotonic()
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert time.monotonic() - started < 60
    assert "lost another one" in errors or "SIGKILL" in errors
    assert not (run / "run.json").exists()
    finish(start(2, run, squares, *EVERYTHING))
    assert losses(run) == losses(undisturbed)
    weights = "04-stage3/result/weights.safetensors"
    assert (run / weights).read_bytes() == (undisturbed / weights).read_bytes()


@pytest.mark.slow
def test_another_number_of_processes_goes_on_with_the_same_data(
    undisturbed: Path, squares: Path, tmp_path: Path
):
    run = tmp_path / "run"
    process = start(1, run, squares, *EVERYTHING)
    while process.poll() is None and not list(
        (run / "04-stage3").glob("checkpoints/step-*/*.json")
    ):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    finish(start(2, run, squares, *EVERYTHING))
    for stage, rows in losses(undisturbed).items():
        for a, b in zip(rows, losses(run)[stage], strict=True):
            assert a == pytest.approx(b, abs=1e-5), stage
