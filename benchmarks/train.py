"""What the training loop costs on top of the bare model step, in two processes, and in LeRobot's.

    python benchmarks/train.py [--steps 40] [--batch 16]

The same stage of size tiny on the same data, in CPU seconds a step: the bare step (forward,
backward, clip and AdamW on a batch already in memory), the loop of `motus train` (windows, noise,
metrics, TensorBoard), that loop in two processes under torchrun, all processes added up, and
`lerobot-train --policy.type=motus`, the same network on the same dataset with LeRobot's loop and
data path (pyav, no worker processes). Of the data path alone: windows a CPU second of ours, and of
LeRobotDataset behind torch's DataLoader as lerobot-train sets it up. Imports and start-up are
taken out: by a short run, or by beginning to count after the first batch.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from motus_adapters import EpisodeData, Header, Layout, Source, write_dataset
from motus_embodiments import load_card
from motus_model import shipped_frames
from motus_recipes import load_recipe
from motus_recipes.data.cache import open_cached
from motus_recipes.data.mixture import Mixture
from motus_recipes.data.mixture import Source as Drawn
from motus_recipes.training.checkpoints import read_weights
from motus_recipes.training.engine import Engine
from motus_recipes.training.objectives import PolicyObjective
from motus_recipes.training.trainer import Loop, fit, parameter_groups

SIDE = 96


@dataclass(frozen=True)
class Drift:
    """An episode of a picture that drifts."""

    key: str
    seed: int
    length: int = 60

    def load(self) -> EpisodeData:
        """Frames, states and actions."""
        generator = np.random.default_rng(self.seed)
        picture = generator.integers(0, 255, (SIDE, SIDE + self.length, 3), np.uint8)
        state = 0.1 + np.linspace(0, 0.2, self.length)[:, None] * generator.uniform(0.5, 1, 2)

        def frames() -> Iterator[Mapping[str, np.ndarray]]:
            for at in range(self.length):
                yield {"head": np.ascontiguousarray(picture[:, at : at + SIDE])}

        return EpisodeData(
            frames=frames(),
            num_frames=self.length,
            state=state.astype(np.float32),
            action=np.concatenate([state[1:], state[-1:]]).astype(np.float32),
            motion=np.zeros((self.length, 14), np.float32),
            task="push the block",
            source_name=self.key,
        )


def write(out: Path) -> None:
    """Ten episodes as a unified dataset."""
    header = Header(
        card=load_card("pusht"),
        rate=10.0,
        level=6,
        source=Source("benchmark", "drift", "drift"),
        layout=Layout(SIDE, SIDE, {"head": (0, 0, SIDE, SIDE)}),
        motion_mask=(True, True, *(False,) * 12),
    )
    jobs = [Drift(f"drift-{i}", i) for i in range(10)]
    write_dataset(out, header, jobs, workers=1, resume=False, force=True)


def prepare(data: Path, folder: Path, steps: int, batch: int):
    """Objective, loop and engine of one run."""
    recipe = load_recipe("full", overrides=[f"stages.stage3.batch={batch}"])
    stage, model = recipe.spec.stages[3], recipe.model
    cached = {"target": open_cached("target", data, model)}
    torch.manual_seed(0)
    objective = PolicyObjective(
        cached,
        model,
        stage,
        {k: v.float() for k, v in read_weights(shipped_frames(model.frames)).items()},
        torch.device("cpu"),
        keep=10**9,
    )
    windows = len(cached["target"].first)
    mixture = Mixture((Drawn("target", windows, 1.0),), batch, 0)
    optimizer = stage.optimizer.model_copy(update={"ema": 0.0})
    spec = recipe.spec.engine.model_copy(update={"checkpoint_every": 10**9})
    return objective, Loop(folder, steps, mixture, {}, optimizer), Engine(spec, "cpu")


def bare(objective: PolicyObjective, loop: Loop, steps: int) -> float:
    """CPU seconds a step of the model alone."""
    inputs = objective.inputs(loop.mixture.draw(0), train=True)
    groups = parameter_groups(objective.module, loop.optimizer)
    optimizer = torch.optim.AdamW(groups)
    parameters = [p for group in groups for p in group["params"]]
    objective.module.train()
    started = time.process_time()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        objective.module(*inputs).total.mean().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return (time.process_time() - started) / steps


def looped(data: Path, folder: Path, steps: int, batch: int) -> float:
    """CPU seconds a step of the loop."""
    objective, loop, engine = prepare(data, folder, steps, batch)
    started = time.process_time()
    fit(objective, loop, engine)
    return (time.process_time() - started) / steps


def two_processes(data: Path, folder: Path, steps: int, batch: int) -> float:
    """CPU seconds a step of the loop in two processes, start-up taken out by a second run."""

    def total(count: int) -> float:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node=2", __file__, "--worker", str(data)]
        command += ["--folder", str(folder / str(count)), f"--steps={count}", f"--batch={batch}"]
        return spent(command)

    return (total(2 + steps) - total(2)) / steps


def batches(objective: PolicyObjective, loop: Loop, steps: int) -> float:
    """CPU seconds a batch of our data path alone: windows, frame latents, noise."""
    objective.inputs(loop.mixture.draw(0), train=True)
    started = time.process_time()
    for step in range(steps):
        objective.inputs(loop.mixture.draw(step), train=True)
    return (time.process_time() - started) / steps


def lerobot_batches(data: Path, steps: int, batch: int) -> float:
    """CPU seconds a batch of LeRobot's: the same windows as float tensors."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    model = load_recipe("full").model
    rate, window = 10.0, model.window
    frames = [i / window.video_rate for i in range(window.video_frames + 1)]
    actions = [i / window.action_rate for i in range(window.action_steps)]
    dataset = LeRobotDataset(
        "bench/drift",
        root=data,
        video_backend="pyav",
        tolerance_s=0.5 / rate,
        delta_timestamps={"observation.images.canvas": frames, "action": actions},
    )
    loader = torch.utils.data.DataLoader(dataset, batch, shuffle=True, drop_last=True)

    def endless() -> Iterator[object]:
        while True:
            yield from loader

    found = endless()
    next(found)
    started = time.process_time()
    for _ in range(steps):
        next(found)
    return (time.process_time() - started) / steps


def lerobot_trained(data: Path, folder: Path, steps: int, batch: int) -> float:
    """CPU seconds a step of lerobot-train with our network."""

    def total(count: int) -> float:
        command = [str(Path(sys.executable).with_name("lerobot-train")), "--policy.type=motus"]
        command += ["--policy.device=cpu", "--policy.push_to_hub=false", "--num_workers=0"]
        command += ["--dataset.repo_id=bench/drift", f"--dataset.root={data}"]
        command += ["--dataset.video_backend=pyav", "--save_checkpoint=false"]
        command += [f"--steps={count}", f"--batch_size={batch}", "--log_freq=1000"]
        return spent([*command, f"--output_dir={folder / str(count)}"])

    return (total(2 + steps) - total(2)) / steps


def spent(command: list[str]) -> float:
    """CPU seconds of a program and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run(command, check=False, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{command[0]} failed:\n{ran.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the figures, or be one of two processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--worker", type=Path)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.worker:
        objective, loop, engine = prepare(given.worker, given.folder, given.steps, given.batch)
        fit(objective, replace(loop, folder=given.folder), engine)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        write(data)
        objective, loop, _ = prepare(data, Path(folder) / "bare", given.steps, given.batch)
        bare(objective, loop, 2)  # warm
        alone = bare(objective, loop, given.steps)
        ours = batches(objective, loop, given.steps)
        theirs = lerobot_batches(data, given.steps, given.batch)
        loop_cost = looped(data, Path(folder) / "loop", given.steps, given.batch)
        two = two_processes(data, Path(folder) / "two", given.steps, given.batch)
        lerobot = lerobot_trained(data, Path(folder) / "lerobot", given.steps, given.batch)
    print(f"size tiny, batch {given.batch}, {given.steps} steps, one thread a process, CPU time")
    for name, cost, against, told in (
        ("bare step", alone, alone, "the bare step"),
        ("loop", loop_cost, alone, "the bare step"),
        ("two processes", two, loop_cost, "the loop"),
        ("lerobot-train", lerobot, loop_cost, "the loop"),
        ("our batches alone", ours, alone, "the bare step"),
        ("LeRobot's batches", theirs, ours, "our batches"),
    ):
        pace = f"{cost * 1e3:8.1f} ms {given.batch / cost:8.1f} windows/s"
        print(f"{name:18}{pace}   {cost / against:6.2f} x {told}")


if __name__ == "__main__":
    main()
