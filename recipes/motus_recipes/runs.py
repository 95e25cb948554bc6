"""A run: the stages of a recipe one after the other, in a folder that explains itself.

RUN/recipe.json                the resolved recipe with the origin of every value
RUN/data.json                  the datasets, by the recipe's names, with their contracts
RUN/NN-STAGE/                  checkpoints, metrics.jsonl, tensorboard/
RUN/NN-STAGE/result/           the stage's weights and state.json, written when it is done
RUN/run.json                   the tables of `motus train`, written last
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motus_adapters import UnifiedDataset
from motus_embodiments import DataError, MismatchError, MissingError, UsageError, nearest
from motus_model import CodecConfig, LatentActionCodec
from motus_recipes.cache import Cached, open_cached
from motus_recipes.checkpoints import Transfer, Weights, read_weights, transfer, write_folder
from motus_recipes.health import codec_health
from motus_recipes.library import Recipe
from motus_recipes.mixture import Mixture, Source
from motus_recipes.objectives import (
    CodecObjective,
    FramesObjective,
    PolicyObjective,
    shipped_frames,
    windows_of,
)
from motus_recipes.schema import DatasetSpec, Stage
from motus_recipes.trainer import Fit, Loop, Progress, fit

DATA = Path("data")  # where datasets are looked for when none is named


@dataclass(frozen=True)
class StageReport:
    """One row of `motus train`."""

    name: str
    steps: int
    first_loss: float
    loss: float
    heldout_loss: float | None
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainReport:
    """What a run did.

    Attributes:
        run: Its folder.
        stages: A row per stage.
        skipped: Optional datasets that were not there.
        next: The next sensible command.
    """

    run: Path
    recipe: str
    size: str
    stages: tuple[StageReport, ...]
    skipped: tuple[str, ...]
    next: str | None


def train(
    recipe: Recipe,
    *,
    run: Path,
    data: Mapping[str, Path] | None = None,
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    device: str = "auto",
    seed: int | None = None,
    on_progress: Progress | None = None,
) -> TrainReport:
    """Run a recipe's stages.

    Args:
        recipe: From `load_recipe`.
        run: The run's folder.
        data: Paths of the recipe's datasets; others are looked for under ./data by level.
        resume: Go on with a run that was cut short.
        force: Start anew over an old run.
        dry_run: Only find the datasets and say what would be done.
        device: `auto`, `cpu` or `cuda`.
        seed: In place of the recipe's own.
        on_progress: Called with steps done, steps in all, and a note.

    Raises:
        UsageError: When the run exists, or a dataset is unknown.
        DataError: When a dataset is missing, unfinished, or can't serve its stage.
        MismatchError: When a resumed run has another recipe or other data.
    """
    paths, skipped = find_datasets(recipe, data or {})
    settings = {
        "recipe": recipe.spec.model_dump(mode="json"),
        "seed": recipe.spec.seed if seed is None else seed,
        "data": {name: _identity(path) for name, path in sorted(paths.items())},
    }
    if dry_run:
        rows = tuple(
            StageReport(stage.name, stage.steps, 0.0, 0.0, None, 0.0)
            for stage in recipe.spec.stages
        )
        return TrainReport(run, recipe.spec.name, recipe.spec.size, rows, skipped, None)
    _open_run(run, settings, recipe, resume=resume, force=force)
    where = choose_device(device)
    steps = sum(stage.steps for stage in recipe.spec.stages)
    finished = Results()
    reports = []
    before = 0
    for number, stage in enumerate(recipe.spec.stages, 1):
        folder = run / f"{number:02d}-{stage.name}"
        runner = _StageRunner(
            recipe, stage, folder, paths, int(settings["seed"]) * 100 + number, where, finished
        )
        report = runner.run(_part(on_progress, before, steps))
        finished = runner.results()
        reports.append(report)
        before += stage.steps
    codec_only = recipe.spec.stages[-1].objective != "motus"
    card = _target_card(paths)
    report = TrainReport(
        run,
        recipe.spec.name,
        recipe.spec.size,
        tuple(reports),
        skipped,
        None if codec_only else f"motus export --target {card} --run {run}",
    )
    (run / "run.json").write_text(json.dumps(asdict(report), default=str, indent=2) + "\n")
    return report


@dataclass(frozen=True)
class Results:
    """What later stages take over from earlier ones."""

    frames: Weights | None = None
    codec: LatentActionCodec | None = None
    policy: Weights | None = None


class _StageRunner:
    """One stage: its data, its objective, the loop, its result folder."""

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage,
        folder: Path,
        paths: Mapping[str, Path],
        seed: int,
        device: torch.device,
        earlier: Results,
    ) -> None:
        self.recipe, self.stage, self.folder = recipe, stage, folder
        self.seed, self.device, self.earlier = seed, device, earlier
        self.paths = {name: paths[name] for name in stage.sources if name in paths}
        if not self.paths:
            raise DataError(
                f"stage '{stage.name}' has none of its datasets ({', '.join(stage.sources)})",
                hint="name one with --data NAME=PATH, or put datasets under ./data",
            )
        self.weights: Weights | None = None

    def run(self, on_progress: Progress | None) -> StageReport:
        """Train the stage, or read its result when it was finished before."""
        result = self.folder / "result"
        if result.is_dir():
            self.weights = read_weights(result / "weights.safetensors")
            return StageReport(**json.loads((result / "state.json").read_text())["report"])
        data = {
            name: open_cached(name, path, self.recipe.model, on_progress)
            for name, path in self.paths.items()
        }
        torch.manual_seed(self.seed)
        objective, moved = self._objective(data)
        done = fit(objective, self._loop(data), on_progress)
        details = self._details(objective, data, done, moved)
        self.weights = {k: v.detach().cpu() for k, v in objective.module.state_dict().items()}
        held = [losses["loss"] for losses in done.heldout.values()]
        report = StageReport(
            name=self.stage.name,
            steps=done.steps,
            first_loss=done.first_loss["loss"],
            loss=done.loss["loss"],
            heldout_loss=sum(held) / len(held) if held else None,
            seconds=done.seconds,
            details=details,
        )
        state: dict[str, Any] = {"report": asdict(report)}
        if isinstance(objective, PolicyObjective):
            state["statistics"] = {k: n.to_dict() for k, n in objective.normalizers.items()}
        write_folder(result, {"weights": self.weights}, state)
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        return report

    def results(self) -> Results:
        """What this stage and the ones before it leave to the next."""
        assert self.weights is not None
        earlier = self.earlier
        match self.stage.objective:
            case "frames":
                return Results(self.weights, earlier.codec, earlier.policy)
            case "codec":
                codec = LatentActionCodec(CodecConfig())
                codec.load_state_dict(self.weights)
                return Results(earlier.frames, codec.eval(), earlier.policy)
            case "motus":
                return Results(earlier.frames, earlier.codec, self.weights)

    def _objective(
        self, data: Mapping[str, Cached]
    ) -> tuple[FramesObjective | CodecObjective | PolicyObjective, Transfer | None]:
        model = self.recipe.model
        if self.stage.objective == "frames":
            return FramesObjective(data, model, self.device), None
        if self.stage.objective == "codec":
            return CodecObjective(data, self.stage, self.device), None
        frames = self.earlier.frames or _shipped_frames(model)
        objective = PolicyObjective(
            data, model, self.stage, frames, self.device, self.earlier.codec
        )
        moved = None
        if self.earlier.policy is not None:
            moved = transfer(self.earlier.policy, objective.module, FRESH)
        return objective, moved

    def _loop(self, data: Mapping[str, Cached]) -> Loop:
        train_windows, held = windows_of(data)
        sources = tuple(
            Source(name, len(train_windows[name]), self.stage.sources[name]) for name in data
        )
        return Loop(
            folder=self.folder,
            steps=self.stage.steps,
            seed=self.seed,
            mixture=_OverWindows(sources, self.stage.batch, self.seed, train_windows),
            heldout=held,
            optimizer=self.stage.optimizer,
        )

    def _details(
        self,
        objective: FramesObjective | CodecObjective | PolicyObjective,
        data: Mapping[str, Cached],
        done: Fit,
        moved: Transfer | None,
    ) -> dict[str, Any]:
        details: dict[str, Any] = {
            "losses": done.loss,
            "heldout": done.heldout,
            "shares": done.shares,
        }
        if isinstance(objective, FramesObjective):
            objective.finish()
        if isinstance(objective, CodecObjective):
            details["health"] = codec_health(objective.module, data)
            objective.module.save(
                self.folder / "codec", {"recipe": self.recipe.spec.name, "data": sorted(data)}
            )
        if moved is not None:
            details["transfer"] = {
                "loaded": len(moved.loaded),
                "fresh": list(moved.fresh),
                "unused": list(moved.unused),
            }
        return details


@dataclass(frozen=True)
class _OverWindows(Mixture):
    """A mixture whose windows are only those one may train on."""

    windows: Mapping[str, Any] = field(default_factory=dict)

    def draw(self, step: int) -> list[tuple[str, int]]:
        return [(name, self.windows[name][row]) for name, row in super().draw(step)]


# Between stages the meaning of the action numbers changes, so their way in and out starts anew
# (the official code does the same from stage 2 to 3: reference.md b).
FRESH = (
    "network.action.action_encoder",
    "network.action.state_encoder",
    "network.action.head",
)


def find_datasets(
    recipe: Recipe, given: Mapping[str, Path]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The path of each dataset of a recipe, and the optional ones that are not there.

    Raises:
        UsageError: For a name that the recipe doesn't have.
        DataError: When a required one is missing, or has another level than the recipe says.
    """
    specs = recipe.spec.datasets
    for name in given:
        if name not in specs:
            raise UsageError(
                f"recipe '{recipe.spec.name}' has no dataset '{name}'", hint=nearest(name, specs)
            )
    paths, skipped = {}, []
    for name, spec in specs.items():
        path = given.get(name) or (Path(spec.path) if spec.path else _by_level(spec))
        if path is not None:
            level = UnifiedDataset(path).meta.level
            if level != spec.level:
                raise DataError(
                    f"dataset '{name}' must be of level {spec.level}; {path} is of level {level}",
                    hint="motus convert --level sets it",
                    where=str(path),
                )
            paths[name] = path
        elif spec.required:
            raise DataError(
                f"recipe '{recipe.spec.name}' needs a dataset '{name}' of level {spec.level}, "
                f"and there is none under ./{DATA}",
                hint=f"motus convert SOURCE data/{name} makes one; --data {name}=PATH names one",
            )
        else:
            skipped.append(name)
    return paths, tuple(skipped)


def choose_device(name: str) -> torch.device:
    """The device of a name; `auto` takes a GPU when there is one.

    Raises:
        MissingError: When CUDA is asked for and not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MissingError(
            f"device '{name}' is not here: torch sees no CUDA device", hint="--device cpu"
        )
    return torch.device(name)


def _by_level(spec: DatasetSpec) -> Path | None:
    for manifest in sorted(DATA.glob("*/meta/motus.json")):
        path = manifest.parent.parent
        if UnifiedDataset(path).meta.level == spec.level:
            return path
    return None


def _identity(path: Path) -> dict[str, Any]:
    meta = UnifiedDataset(path).meta
    return {
        "path": str(path),
        "contract": meta.contract,
        "source": meta.source.hash,
        "level": meta.level,
        "card": meta.card.name,
        "codec": meta.codec,
    }


def _open_run(
    run: Path, settings: dict[str, Any], recipe: Recipe, *, resume: bool, force: bool
) -> None:
    file = run / "data.json"
    if file.exists() and resume:
        before = json.loads(file.read_text())
        for key, value in settings.items():
            if before.get(key) != value:
                raise MismatchError(
                    f"{run} was started with another {key}: {_difference(before.get(key), value)}",
                    hint="resume with the same recipe and data, or start anew with --force",
                    where=str(run),
                )
        return
    if run.exists() and any(run.iterdir()):
        if not force:
            raise UsageError(
                f"{run} exists",
                hint="--resume goes on with it, --force starts anew",
                where=str(run),
            )
        shutil.rmtree(run)
    run.mkdir(parents=True, exist_ok=True)
    (run / "recipe.json").write_text(json.dumps(recipe.resolved(), indent=2) + "\n")
    about = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    (run / "environment.json").write_text(json.dumps(about, indent=2) + "\n")
    partial = run / "data.json.partial"
    partial.write_text(json.dumps(settings, indent=2) + "\n")
    partial.replace(file)


def _difference(before: Any, now: Any, key: str = "") -> str:
    """The first place where two nested values differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                place = f"{key}.{name}" if key else str(name)
                return _difference(before.get(name), now.get(name), place)
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (old, new) in enumerate(zip(before, now, strict=True)):
            if old != new:
                return _difference(old, new, f"{key}.{index}")
    return f"{key or 'value'} was {before}, is {now}"


def _shipped_frames(model: Any) -> dict[str, Tensor]:
    path = shipped_frames(model)
    if not path.exists():
        raise MissingError(
            f"no frame autoencoder is shipped for size '{model.size}'",
            hint="train one first: motus train --recipe frames",
            where=str(path),
        )
    return {key: value.float() for key, value in read_weights(path).items()}


def _part(on_progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of one stage as progress of the whole run."""
    if on_progress is None:
        return None
    report: Callable[[int, int, str], None] = on_progress

    def forward(done: int, count: int, note: str) -> None:
        if note == "frames read":  # the cache is built before the first step
            report(before, total, f"reading frames {done}/{count}")
        else:
            report(before + done, total, note)

    return forward


def _target_card(paths: Mapping[str, Path]) -> str:
    datasets = [UnifiedDataset(path).meta for path in paths.values()]
    return max(datasets, key=lambda meta: meta.level).card.name
