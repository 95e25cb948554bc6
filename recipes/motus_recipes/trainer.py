"""The one training loop: every objective, every stage.

All randomness of a step comes from a generator seeded by (seed, stage, step), so a run that was
killed and resumed goes on exactly as one that was not.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from motus_embodiments import DataError, MotusError
from motus_recipes.checkpoints import (
    load_optimizer,
    load_strictly,
    optimizer_tensors,
    read_weights,
    write_folder,
)
from motus_recipes.mixture import Mixture
from motus_recipes.schema import Optimizer

CHECKPOINT_EVERY = 100  # steps
HELDOUT_BATCHES = 4
Progress = Callable[[int, int, str], None]
Rows = Sequence[tuple[str, int]]


class Objective(Protocol):
    """What a stage trains."""

    @property
    def module(self) -> nn.Module:
        """The network; what trains in it has `requires_grad`."""
        ...

    def loss(self, rows: Rows, generator: Generator) -> dict[str, Tensor]:
        """Losses of the (source, window) rows; `loss` is the one to go down."""


@dataclass(frozen=True)
class Fit:
    """How a stage went.

    Attributes:
        first_loss: Mean of the first tenth of the steps.
        loss: Mean of the last tenth.
        heldout: Held-out losses with the final weights, by source.
        seconds: Time in the loop, over all runs of it.
        shares: Windows actually drawn from each source, as a share.
    """

    steps: int
    first_loss: dict[str, float]
    loss: dict[str, float]
    heldout: dict[str, dict[str, float]]
    seconds: float
    shares: dict[str, float]


class NotFiniteError(MotusError):
    """A loss that is not a number; training can't go on."""

    code = "not_finite"


@dataclass(frozen=True)
class Loop:
    """One stage's settings.

    Attributes:
        folder: Where checkpoints and metrics go.
        steps: Optimizer steps in all.
        seed: Of everything that is drawn.
        mixture: Windows by step.
        heldout: Windows never trained on, by source.
        optimizer: AdamW and its schedule.
    """

    folder: Path
    steps: int
    seed: int
    mixture: Mixture
    heldout: dict[str, list[int]]
    optimizer: Optimizer


def fit(objective: Objective, loop: Loop, on_progress: Progress | None = None) -> Fit:
    """Train from the newest checkpoint in the loop's folder, or from the start.

    Returns with the averaged weights in `objective.module`, when the recipe averages.
    """
    module, settings = objective.module, loop.optimizer
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
    )
    average = _Average(module, settings.ema)
    start, seconds = _restore(loop.folder, module, optimizer, average)
    metrics = _Metrics(loop.folder, start)
    module.train()
    drawn = dict.fromkeys(loop.mixture.shares(), 0)
    for done in range(start):
        for name, _ in loop.mixture.draw(done):
            drawn[name] += 1
    started = time.perf_counter()
    with metrics:
        for step in range(start, loop.steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * rate(settings, step, loop.steps)
            rows = loop.mixture.draw(step)
            values = _step(objective, loop, rows, step, parameters, optimizer)
            average.update(module, step)
            for name, _ in rows:
                drawn[name] += 1
            metrics.write(step, values)
            done = step + 1
            if done % CHECKPOINT_EVERY == 0 and done < loop.steps:
                spent = seconds + time.perf_counter() - started
                _save(loop.folder, done, spent, module, optimizer, average)
            if on_progress:
                on_progress(done, loop.steps, f"{loop.folder.name}  loss {values['loss']:.4f}")
    average.copy_to(module)
    module.eval()
    heldout = {
        name: evaluate(objective, name, windows, loop.mixture.batch)
        for name, windows in loop.heldout.items()
        if windows
    }
    total = max(1, sum(drawn.values()))
    first, last = metrics.ends()
    return Fit(
        steps=loop.steps,
        first_loss=first,
        loss=last,
        heldout=heldout,
        seconds=seconds + time.perf_counter() - started,
        shares={name: count / total for name, count in drawn.items()},
    )


def _step(
    objective: Objective,
    loop: Loop,
    rows: Rows,
    step: int,
    parameters: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> dict[str, float]:
    """One step of the optimizer; its losses and the gradient's norm before clipping."""
    losses = objective.loss(rows, Generator().manual_seed(_seed(loop.seed, step)))
    values = {key: float(value.detach()) for key, value in losses.items()}
    if not math.isfinite(values["loss"]):
        (loop.folder / "bad-batch.json").write_text(json.dumps(rows))
        raise NotFiniteError(
            f"the loss is {values['loss']} at step {step} of {loop.folder.name}",
            hint="bad-batch.json there names its windows; lower the learning rate",
            where=str(loop.folder),
        )
    optimizer.zero_grad(set_to_none=True)
    losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_(parameters, loop.optimizer.clip)
    optimizer.step()
    return {**values, "gradient_norm": float(norm)}


def rate(settings: Optimizer, step: int, steps: int) -> float:
    """Learning rate at a step, as a share of its peak."""
    rise = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "constant":
        return rise
    return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def evaluate(
    objective: Objective, name: str, windows: Sequence[int], batch: int
) -> dict[str, float]:
    """Mean losses over evenly spread held-out windows, always with the same noise."""
    count = min(len(windows), HELDOUT_BATCHES * batch)
    chosen = [windows[i * len(windows) // count] for i in range(count)]
    sums: dict[str, float] = {}
    for at in range(0, count, batch):
        rows = [(name, window) for window in chosen[at : at + batch]]
        losses = objective.loss(rows, Generator().manual_seed(at))
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + float(value) * len(rows)
    return {key: value / count for key, value in sums.items()}


class _Average:
    """Exponential moving average of all floating-point weights (EMA)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {
            key: value.detach().clone()
            for key, value in module.state_dict().items()
            if decay and value.is_floating_point()
        }

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        # Early steps weigh more, so that the initial weights are soon forgotten.
        decay = min(self.decay, (step + 1) / (step + 10))
        own = module.state_dict()
        for key, value in self.weights.items():
            value.lerp_(own[key], 1 - decay)

    def copy_to(self, module: nn.Module) -> None:
        module.load_state_dict({**module.state_dict(), **self.weights})


class _Metrics:
    """`metrics.jsonl` and TensorBoard; what lies beyond the resumed step is cut off."""

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        lines = self.path.read_text().splitlines()[:step] if step else []
        self.path.write_text("".join(f"{line}\n" for line in lines))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def __enter__(self) -> "_Metrics":
        self._file = self.path.open("a")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._board.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        for key, value in values.items():
            self._board.add_scalar(key, value, step)
        if (step + 1) % CHECKPOINT_EVERY == 0:
            self._file.flush()

    def ends(self) -> tuple[dict[str, float], dict[str, float]]:
        """Mean losses over the first and the last tenth of the steps."""
        rows = [json.loads(line) for line in self.path.read_text().splitlines()]
        tenth = max(1, len(rows) // 10)
        return _mean(rows[:tenth]), _mean(rows[-tenth:])


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    keys = [key for key in rows[0] if key not in ("step", "gradient_norm")] if rows else []
    return {key: sum(row[key] for row in rows) / len(rows) for key in keys}


def _seed(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step) % 2**63


def _save(
    folder: Path,
    step: int,
    seconds: float,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: _Average,
) -> None:
    # The lines up to this step must be on disk before the checkpoint that relies on them.
    target = folder / "checkpoints" / f"step-{step:08d}"
    if target.exists():
        shutil.rmtree(target)
    write_folder(
        target,
        {
            "model": module.state_dict(),
            "optimizer": optimizer_tensors(optimizer),
            "average": average.weights,
        },
        {"step": step, "seconds": seconds},
    )
    for old in sorted(target.parent.glob("step-*"))[:-1]:
        shutil.rmtree(old)


def _restore(
    folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: _Average
) -> tuple[int, float]:
    """Load the newest checkpoint; its step, and the seconds spent until then."""
    found = sorted((folder / "checkpoints").glob("step-*"))
    if not found:
        return 0, 0.0
    newest = found[-1]
    try:
        state = json.loads((newest / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read checkpoint {newest}: {error}", where=str(newest)) from error
    load_strictly(module, read_weights(newest / "model.safetensors"), newest)
    load_optimizer(optimizer, read_weights(newest / "optimizer.safetensors"))
    average.weights = read_weights(newest / "average.safetensors") if average.decay else {}
    return int(state["step"]), float(state["seconds"])
