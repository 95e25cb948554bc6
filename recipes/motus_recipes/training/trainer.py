"""The one training loop: every objective, every stage, every number of processes.

All randomness of a step comes from its rows' seeds, which are a function of (seed, step), so a run
that was killed and resumed goes on exactly as one that was not.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from motus_embodiments import MotusError
from motus_recipes.data.mixture import Mixture, Row
from motus_recipes.schema import Optimizer
from motus_recipes.training.averaging import Average
from motus_recipes.training.checkpoints import (
    Training,
    copy_folder,
    load_checkpoint,
    save_checkpoint,
    step_folder,
)
from motus_recipes.training.engine import Engine, Inputs, Objective
from motus_recipes.training.heldout import evaluate
from motus_recipes.training.interruption import Interruption
from motus_recipes.training.metrics import Explosion, Metrics
from motus_recipes.training.step_note import Progress, StepNote


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


class DivergedError(MotusError):
    """A loss that is not a number or has exploded; training can't go on."""

    code = "diverged"


@dataclass(frozen=True)
class Loop:
    """One stage's settings.

    Attributes:
        folder: Where checkpoints and metrics go.
        steps: Optimizer steps in all.
        mixture: Windows by step.
        heldout: Windows never trained on, by source.
        optimizer: AdamW and its schedule.
        locate: Where a row comes from, in words of its dataset, for the report of a bad batch.
    """

    folder: Path
    steps: int
    mixture: Mixture
    heldout: Mapping[str, Sequence[int]]
    optimizer: Optimizer
    locate: Callable[[Row], Mapping[str, Any]] = lambda row: {}


def fit(
    objective: Objective, loop: Loop, engine: Engine, on_progress: Progress | None = None
) -> Fit:
    """Train from the newest checkpoint in the loop's folder, or from the start.

    Returns with the final weights in `objective.module`: the averaged ones when the recipe
    averages, the best measured ones when it keeps the best.

    Raises:
        UsageError: When the batch does not split over the processes.
        DivergedError: With the batch saved beside the metrics.
        ProcessLostError: When another process died.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, with a checkpoint of the step that was done.
    """
    return _Fitting(objective, loop, engine).run(on_progress)


class _Fitting:
    """The state of one call of `fit`."""

    def __init__(self, objective: Objective, loop: Loop, engine: Engine) -> None:
        engine.check_batch(loop.mixture.batch)
        self.objective, self.loop, self.engine = objective, loop, engine
        self.wrapped = engine.wrap(objective.module)
        settings = loop.optimizer
        self.training = Training(
            objective.module,
            torch.optim.AdamW(
                parameter_groups(objective.module, settings),
                betas=settings.betas,
                weight_decay=settings.weight_decay,
                fused=True,  # one pass over the weights, without temporaries of their size
            ),
            Average(objective.module, settings.ema),
        )
        self.drawn = loop.mixture.taken(0)
        self.explosion = Explosion()

    def run(self, on_progress: Progress | None) -> Fit:
        loop, engine = self.loop, self.engine
        start, seconds, best = self._restore()
        started = time.perf_counter()
        self.wrapped.train()
        metrics = Metrics(loop.folder, start, engine.spec.trackers, main=engine.main)
        with metrics:
            with Interruption() as interruption:
                for step, rows, parts in self._batches(start):
                    values = self._step(step, rows, parts)
                    self._count(rows)
                    metrics.write(step, values)
                    done = step + 1
                    is_due = done % engine.spec.checkpoint_every == 0 and done < loop.steps
                    if is_due:
                        spent = seconds + time.perf_counter() - started
                        best = self._save(done, spent, best, metrics)
                    if on_progress:
                        on_progress(done, loop.steps, self._note(done, values))
                    if engine.sum(torch.tensor(float(interruption.seen))):
                        if not is_due:
                            spent = seconds + time.perf_counter() - started
                            self._save(done, spent, best, metrics, is_out_of_turn=True)
                        raise KeyboardInterrupt
            metrics.flush()  # every process reads these lines at the end
            engine.wait()
            self.training.average.swap(self.objective.module)
            self.wrapped.eval()
            heldout = self._heldout()
            if best is not None and best < _mean_loss(heldout):
                heldout = self._take_best()
            metrics.heldout(loop.steps - 1, heldout)
        first, last = metrics.ends()
        return Fit(
            steps=loop.steps,
            first_loss=first,
            loss=last,
            heldout=heldout,
            seconds=seconds + time.perf_counter() - started,
            shares=self._shares(),
        )

    def _batches(self, start: int) -> Iterator[tuple[int, list[Row], list[Inputs]]]:
        """Rows and inputs of each step; the next ones are made while this one is computed."""

        def make(step: int) -> tuple[int, list[Row], list[Inputs]]:
            rows = self.loop.mixture.draw(step)
            parts = self.engine.share(rows)
            return step, rows, [self.objective.inputs(part, train=True) for part in parts]

        with ThreadPoolExecutor(1) as ahead:
            following = ahead.submit(make, start)
            for step in range(start, self.loop.steps):
                now = following.result()
                if step + 1 < self.loop.steps:
                    following = ahead.submit(make, step + 1)
                yield now

    def _step(self, step: int, rows: list[Row], parts: list[Inputs]) -> dict[str, float]:
        """One step of the optimizer; its losses and the gradient's norm before clipping."""
        engine, optimizer = self.engine, self.training.optimizer
        settings, own = self.loop.optimizer, len(rows) // engine.world
        pace = rate(settings, step, self.loop.steps)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * pace
        optimizer.zero_grad(set_to_none=True)
        samples: list[Any] = []
        for index, inputs in enumerate(parts):
            with engine.part(self.wrapped, last=index == len(parts) - 1):
                losses = self.wrapped(*inputs)
                (losses.total.sum() / own).backward()
            samples.append([part.detach() for part in losses])
        columns = [torch.cat(list(part)) for part in zip(*samples, strict=True)]
        sums = engine.sum(torch.stack([column.sum() for column in columns]))
        values = dict(zip(losses._fields, (sums / len(rows)).tolist(), strict=True))
        values["loss"] = values.pop("total")
        if not math.isfinite(values["loss"]) or self.explosion.seen(values["loss"]):
            self._diverged(step, rows, values["loss"], columns[0])
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = engine.clip(parameters, settings.clip)
        if not math.isfinite(norm):
            self._diverged(step, rows, norm, columns[0])
        optimizer.step()
        self.training.average.update(self.objective.module, step)
        return {**values, "gradient_norm": norm}

    def _diverged(self, step: int, rows: list[Row], value: float, losses: Tensor) -> None:
        engine, folder = self.engine, self.loop.folder
        own = [row for part in engine.share(rows) for row in part]
        saved = [
            {**row._asdict(), **self.loop.locate(row), "loss": loss}
            for row, loss in zip(own, losses.tolist(), strict=True)
        ]
        file = folder / f"bad-batch-{engine.rank}.json"
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"step": step, "rows": saved}, indent=1) + "\n")
        raise DivergedError(
            f"training left all bounds at step {step} of {folder.name}: the loss or the "
            f"gradient's norm is {value:g}",
            hint=f"{file.name} names the batch's windows with their losses; "
            "lower the learning rate, or mend the data",
            where=str(folder),
        )

    def _save(
        self,
        done: int,
        seconds: float,
        best: float | None,
        metrics: Metrics,
        *,
        is_out_of_turn: bool = False,
    ) -> float | None:
        """Write a checkpoint, and mark it when it is the best so far; the best held-out loss.

        One out of turn, which an undisturbed run hasn't, is never the best.
        """
        engine = self.engine
        metrics.flush()  # its lines must stand before the checkpoint relies on them
        folder = self.loop.folder / "checkpoints" / step_folder(done)
        state: dict[str, Any] = {"step": done, "seconds": seconds, "best": best, "is_best": False}
        state["recent_losses"] = self.explosion.recent
        if engine.spec.keep_best and not is_out_of_turn:
            average, module = self.training.average, self.objective.module
            average.swap(module)
            self.wrapped.eval()
            heldout = self._heldout()
            loss = _mean_loss(heldout)
            metrics.heldout(done - 1, heldout)
            average.swap(module)
            self.wrapped.train()
            if best is None or loss < best:
                state |= {"best": loss, "is_best": True}
        save_checkpoint(folder, self.training, state, engine)
        if engine.main:
            _mark_best(folder)
            for old in sorted(folder.parent.glob("step-*"))[: -engine.spec.keep]:
                shutil.rmtree(old)
        engine.wait()
        return state["best"]

    def _restore(self) -> tuple[int, float, float | None]:
        """Load the newest checkpoint; its step, the seconds until then, the best loss so far."""
        found = sorted((self.loop.folder / "checkpoints").glob("step-*"))
        if not found:
            return 0, 0.0, None
        state = load_checkpoint(found[-1], self.training, self.engine)
        if self.engine.main:
            _mark_best(found[-1])  # a kill may have come before it was marked
        self.engine.wait()
        self.explosion = Explosion(state.get("recent_losses", ()))
        self.drawn = self.loop.mixture.taken(int(state["step"]))
        return int(state["step"]), float(state["seconds"]), state["best"]

    def _take_best(self) -> dict[str, dict[str, float]]:
        """Go back to the best checkpoint; its held-out losses."""
        module = self.objective.module
        load_checkpoint(self.loop.folder / "checkpoints" / "best", self.training, self.engine)
        self.training.average.swap(module)
        return self._heldout()

    def _heldout(self) -> dict[str, dict[str, float]]:
        return {
            name: evaluate(self.objective, self.wrapped, self.engine, name, windows, self._batch)
            for name, windows in self.loop.heldout.items()
            if len(windows)
        }

    @property
    def _batch(self) -> int:
        return self.loop.mixture.batch

    def _count(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self.drawn[row.source] += 1

    def _shares(self) -> dict[str, float]:
        total = max(1, sum(self.drawn.values()))
        return {name: count / total for name, count in self.drawn.items()}

    def _note(self, done: int, values: Mapping[str, float]) -> StepNote:
        return StepNote(
            stage=self.loop.folder.name,
            done=done,
            steps=self.loop.steps,
            batch=self._batch,
            losses={key: value for key, value in values.items() if key != "gradient_norm"},
            gradient_norm=values["gradient_norm"],
            learning_rate=max(group["lr"] for group in self.training.optimizer.param_groups),
            drawn=self._shares(),
            asked=self.loop.mixture.shares(),
        )


def parameter_groups(module: nn.Module, settings: Optimizer) -> list[dict[str, Any]]:
    """Trainable parameters by their peak learning rate."""
    peaks: dict[float, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            expert = name.removeprefix("network.").split(".")[0]
            peak = dict(settings.experts).get(expert, settings.learning_rate)  # type: ignore[call-overload]
            peaks.setdefault(peak, []).append(parameter)
    return [{"params": group, "lr": peak, "peak": peak} for peak, group in peaks.items()]


def rate(settings: Optimizer, step: int, steps: int) -> float:
    """Learning rate at a step, as a share of its peak."""
    rise = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    match settings.schedule:
        case "constant":
            return rise
        case "linear":
            return rise * (1 - step / steps)
        case "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * step / steps))


def _mark_best(folder: Path) -> None:
    """Keep a checkpoint as `best`, whole or not at all, if its state says that it is."""
    if json.loads((folder / "state.json").read_text())["is_best"]:
        copy_folder(folder, folder.with_name("best"))


def _mean_loss(heldout: Mapping[str, Mapping[str, float]]) -> float:
    losses = [values["loss"] for values in heldout.values()]
    return sum(losses) / len(losses) if losses else math.inf
