"""What a report reads of a run's folder; a run that is not finished has less to tell."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from motus_embodiments import DataError
from motus_recipes.evaluation.closed_loop import EvalReport, read_evaluation_file
from motus_recipes.evaluation.comparing import EVALUATIONS
from motus_recipes.evaluation.samples import SAMPLES, SampleReport, SamplesReport

SAMPLED = "samples"  # folder in a run


@dataclass(frozen=True)
class StageFiles:
    """One stage of a run.

    Attributes:
        losses: Pairs of step and loss.
        report: The row of `motus train`; None while the stage is not done.
    """

    losses: tuple[tuple[int, float], ...]
    report: Mapping[str, Any] | None


@dataclass(frozen=True)
class RunFiles:
    """A run, as far as it has got.

    Attributes:
        settings: Recipe, seed and data.
        environment: Where it ran.
        stages: By name, in order.
        results: By the names of the files in its `evaluations/`.
        samples: From its `samples/`.
    """

    name: str
    settings: Mapping[str, Any]
    environment: Mapping[str, Any]
    stages: Mapping[str, StageFiles]
    results: Mapping[str, EvalReport]
    samples: tuple[SampleReport, ...]


def read_run(folder: Path, name: str) -> RunFiles:
    """Read a run's folder.

    Raises:
        DataError: It is no run, or a file in it is damaged.
    """
    if not (folder / "data.json").is_file():
        raise DataError(
            f"{folder} is no run: there is no data.json",
            hint="motus train --run FOLDER makes one",
            where=str(folder),
        )
    stages = {
        path.name.partition("-")[2]: _stage(path)
        for path in sorted(folder.glob("[0-9][0-9]-*"))
        if path.is_dir()
    }
    about = folder / "environment.json"
    return RunFiles(
        name=name,
        settings=_json(folder / "data.json"),
        environment=_json(about) if about.is_file() else {},
        stages=stages,
        results={
            file.stem: read_evaluation_file(file)
            for file in sorted((folder / EVALUATIONS).glob("*.json"))
        },
        samples=_samples(folder / SAMPLED),
    )


def _stage(folder: Path) -> StageFiles:
    metrics, state = folder / "metrics.jsonl", folder / "result" / "state.json"
    rows = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
    losses = []
    for number, line in enumerate(rows, 1):
        try:
            row = json.loads(line)
            losses.append((int(row["step"]), float(row["loss"])))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(rows):  # of a run that is being written
                break
            raise DataError(
                f"{metrics}, line {number} is damaged: {error!r}", where=str(metrics)
            ) from error
    report = _json(state)["report"] if state.is_file() else None
    return StageFiles(tuple(losses), report)


def _samples(folder: Path) -> tuple[SampleReport, ...]:
    file = folder / SAMPLES
    if not file.is_file():
        return ()
    try:
        report = TypeAdapter(SamplesReport).validate_json(file.read_bytes())
    except ValidationError as error:
        raise DataError(
            f"{file} was not written by this release",
            hint=f"motus sample POLICY --all-modes --force --out {folder}",
            where=str(file),
        ) from error
    # Films and plots lie beside the file, wherever the folder was when they were written.
    return tuple(
        replace(
            sample,
            film=sample.film and folder / sample.film.name,
            plot=sample.plot and folder / sample.plot.name,
        )
        for sample in report.samples
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", where=str(path)) from error
