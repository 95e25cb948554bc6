"""A run: the stages of a recipe one after the other, in a folder that explains itself.

RUN/recipe.json                the resolved recipe with the origin of every value
RUN/data.json                  the datasets, by the recipe's names, with their contracts
RUN/NN-STAGE/                  checkpoints, metrics.jsonl, tensorboard/
RUN/NN-STAGE/result/           the stage's weights and state.json, written when it is done
RUN/run.json                   the tables of `motus train`, written last
"""

import json
import platform
import shlex
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from motus_adapters import check_free, replacing, write_json
from motus_adapters.files import clear
from motus_embodiments import MismatchError, UsageError
from motus_recipes.data.sources import find_datasets, identity, target_card
from motus_recipes.library import Recipe
from motus_recipes.provenance import code_version, git_state
from motus_recipes.training.checkpoints import copy_folder, step_folder
from motus_recipes.training.engine import Engine
from motus_recipes.training.stages import Results, StageReport, StageRunner
from motus_recipes.training.starting import check_starts
from motus_recipes.training.step_note import Progress, StepNote

RECIPE, ENVIRONMENT = "recipe.json", "environment.json"  # written before the data are noted


@dataclass(frozen=True)
class TrainReport:
    """What a run did.

    Attributes:
        run: Its folder.
        data: Each of the recipe's datasets that was found.
        stages: A row per stage.
        skipped: Optional datasets that were not there.
        next: The next sensible command.
    """

    run: Path
    recipe: str
    size: str
    data: Mapping[str, Path]
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
    on_progress: Progress | None = None,
) -> TrainReport:
    """Run a recipe's stages.

    Args:
        recipe: From `load_recipe`.
        run: The run's folder; with `resume` also a checkpoint in it to go on from (newer ones are
            deleted), or any file of the run.
        data: Paths of the recipe's datasets; others are looked for under ./data by level.
        resume: Go on with a run that was cut short.
        force: Start anew over an old run.
        dry_run: Only find the datasets and say what would be done.
        device: auto, cpu, cuda or cuda:N.
        on_progress: Called with steps done, steps in all, and a note.

    Raises:
        UsageError: When the run exists, or a dataset is unknown, or for `resume` with `force`.
        DataError: When a dataset is missing, unfinished, or can't serve its stage, or nothing can
            start from what a stage's `start` names.
        MismatchError: When a resumed run has another recipe or other data.
    """
    if resume and force:
        raise UsageError("--resume and --force contradict each other", hint="give one of them")
    named = run
    if resume:
        run = find_run(named)
    paths, skipped = find_datasets(recipe, data or {})
    check_starts(recipe)
    settings: dict[str, Any] = {
        # Of the engine, all but the precision may change on resume.
        "recipe": recipe.spec.model_dump(mode="json", exclude={"engine"}),
        "precision": recipe.spec.engine.precision,
        "data": {name: identity(path) for name, path in sorted(paths.items())},
    }
    engine = Engine(recipe.spec.engine, device)
    for stage in recipe.spec.stages:
        engine.check_batch(stage.batch)
    chosen = _checkpoint(named.resolve().relative_to(run.resolve()), run) if resume else None
    if engine.main:
        _check_run(run, settings, resume=resume, force=force)
    if dry_run:
        rows = tuple(
            StageReport(stage.name, stage.steps, None, None, None, 0.0)
            for stage in recipe.spec.stages
        )
        return TrainReport(run, recipe.spec.name, recipe.spec.size, paths, rows, skipped, None)
    if engine.main:
        _open_run(run, settings, recipe, engine, resume=resume)
        if chosen is not None:
            _rewind(chosen)
    engine.wait()
    steps = sum(stage.steps for stage in recipe.spec.stages)
    finished = Results()
    reports = []
    before = 0
    for number, stage in enumerate(recipe.spec.stages, 1):
        folder = run / f"{number:02d}-{stage.name}"
        runner = StageRunner(
            recipe, stage, folder, paths, recipe.spec.seed * 100 + number, engine, finished
        )
        reports.append(runner.run(_part(on_progress, before, steps)))
        finished = runner.results()
        before += stage.steps
    following = {
        "motus": f"motus export --target {target_card(paths)} --run {shlex.quote(str(run))}",
        "idm": "motus sample POLICY --dataset DATASET --mode idm --episode heldout "
        f"--baselines {shlex.quote(str(run))}",
    }
    report = TrainReport(
        run,
        recipe.spec.name,
        recipe.spec.size,
        paths,
        tuple(reports),
        skipped,
        following.get(recipe.spec.stages[-1].objective),
    )
    if engine.main:
        (run / "run.json").write_text(json.dumps(asdict(report), default=str, indent=2) + "\n")
    return report


def find_run(path: Path) -> Path:
    """The run that a path belongs to: its folder, one of its checkpoints, or a file inside.

    A path where nothing is yet stands for itself.

    Raises:
        UsageError: When no run is there.
    """
    for folder in (path, *path.resolve().parents):
        if (folder / "data.json").is_file() and (folder / RECIPE).is_file():
            return folder
    if not path.exists() or _is_barely_begun(path):
        return path
    raise UsageError(
        f"{path} is no run and in none",
        hint="name the run's folder, a checkpoint in it, or a file of that",
        where=str(path),
    )


def _is_barely_begun(run: Path) -> bool:
    """Whether a folder is empty, or of a run that ended before its data were noted."""
    return run.is_dir() and {entry.name for entry in run.iterdir()} <= {RECIPE, ENVIRONMENT}


def _checkpoint(inside: Path, run: Path) -> Path | None:
    """The checkpoint that a path in a run names, if it does."""
    if len(inside.parts) < 3 or inside.parts[1] != "checkpoints":
        return None
    stage, name = run / inside.parts[0], inside.parts[2]
    if (stage / "result").is_dir():
        raise UsageError(
            f"stage {stage.name} of {run} is finished; it cannot go on from {name}",
            hint="--resume with the run's folder goes on with the next stage",
            where=str(run),
        )
    chosen = stage / "checkpoints" / name
    if not (chosen / "state.json").is_file():
        known = sorted(path.parent.name for path in chosen.parent.glob("*/state.json"))
        raise UsageError(
            f"there is no checkpoint {chosen}",
            hint=f"there are {', '.join(known)}" if known else f"--run {run} goes on with the run",
            where=str(chosen),
        )
    return chosen


def _rewind(chosen: Path) -> None:
    """Make a checkpoint that was named the newest of its stage; the rest is computed again."""
    place = chosen.with_name(step_folder(json.loads((chosen / "state.json").read_text())["step"]))
    if not place.exists():  # newer ones have pushed out the place of the best one
        copy_folder(chosen, place)
    for checkpoint in chosen.parent.glob("step-*"):
        if checkpoint.name > place.name:
            shutil.rmtree(checkpoint)


def _check_run(run: Path, settings: dict[str, Any], *, resume: bool, force: bool) -> None:
    """Refuse a folder that this run may not go on with, or not replace."""
    file = run / "data.json"
    if file.exists() and resume:
        before = _apart_from_places(json.loads(file.read_text()))
        for key, value in _apart_from_places(settings).items():
            if before.get(key) != value:
                raise MismatchError(
                    f"{run} was started with another {key}: {_difference(before.get(key), value)}",
                    hint="resume with the same recipe and data, or start anew with --force",
                    where=str(run),
                )
        return
    if not (resume and _is_barely_begun(run)):
        check_free(run, RECIPE, force=force, resumable=True)


def _open_run(
    run: Path, settings: dict[str, Any], recipe: Recipe, engine: Engine, *, resume: bool
) -> None:
    file = run / "data.json"
    if file.exists() and resume:
        _write_recipe(run, recipe)  # the engine may have other settings now
        return
    run.mkdir(parents=True, exist_ok=True)
    clear(run)
    _write_recipe(run, recipe)
    about = {
        "motus": code_version(),
        "git": git_state(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": str(engine.device),
        "processes": engine.world,
        "threads": torch.get_num_threads(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    (run / ENVIRONMENT).write_text(json.dumps(about, indent=2) + "\n")
    write_json(file, settings)


def _write_recipe(run: Path, recipe: Recipe) -> None:
    with replacing(run / RECIPE) as temporary:
        temporary.write_text(json.dumps(recipe.resolved(), indent=2) + "\n")


def _apart_from_places(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the paths of the datasets: what a dataset is does not depend on them."""
    data = {
        name: {key: value for key, value in entry.items() if key != "path"}
        for name, entry in settings["data"].items()
    }
    return {**settings, "data": data}


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


def _part(on_progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of one stage as progress of the whole run."""
    if on_progress is None:
        return None
    report: Progress = on_progress

    def forward(done: int, count: int, note: object) -> None:
        if isinstance(note, StepNote):
            report(before + done, total, note)
        else:  # the cache is built before the first step
            report(before, total, f"{note} {done}/{count}")

    return forward
