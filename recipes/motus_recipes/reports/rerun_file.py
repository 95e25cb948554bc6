"""Runs and sampled episodes as a recording for the rerun viewer, which plays all on one time line.

Written with https://rerun.io, the package rerun-sdk; the extra `viz` installs it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from motus_adapters import check_free, replacing
from motus_embodiments import DataError, MissingError, UsageError
from motus_recipes.evaluation.samples import SampleReport
from motus_recipes.reports.run_files import RunFiles

SUFFIX = ".rrd"  # the viewer opens no other
STEP, TIME = "step", "time"  # time lines: of training, and of the robot, s


def check_rerun(path: Path, *, force: bool) -> Any:
    """The package, when a recording can be written to `path`.

    Raises:
        UsageError: `path` is there already, or has another suffix.
        MissingError: The package is not installed.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path} does not end in {SUFFIX}", hint="rerun opens no other files")
    check_free(path, force=force)
    try:
        import rerun
    except ImportError as error:
        hint = "pip install 'motus-cli[viz]'"
        raise MissingError(
            "a recording for rerun needs the package rerun-sdk", hint=hint
        ) from error
    return rerun


def write_rerun(
    path: Path,
    runs: Sequence[RunFiles],
    samples: Sequence[tuple[str, SampleReport]],
    *,
    force: bool = False,
) -> Path:
    """Write a recording: losses over steps, films and actions over time, success as words.

    Args:
        path: A file that ends in `.rrd`.
        runs: Their losses and results.
        samples: Pairs of a name and what was solved in one mode.
        force: Replace `path`.

    Raises:
        UsageError: `path` is there already, or has another suffix.
        MissingError: The package rerun-sdk is not installed.
        DataError: A file of the samples is damaged.
    """
    rerun = check_rerun(path, force=force)
    # A fixed name: two recordings of one path are one and the same to the viewer.
    stream = rerun.RecordingStream("motus", recording_id=path.name, send_properties=False)
    # Not straight to the file: on a full disk rerun waits for ever.
    memory = stream.binary_stream()
    stream.send_blueprint(_blueprint(runs, samples))
    for run in runs:
        _log_run(rerun, stream, run)
    for name, sample in samples:
        _log_film(rerun, stream, name, sample)
        _log_actions(rerun, stream, name, sample)
    data = memory.read()
    stream.disconnect()
    assert data is not None
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return path


def _log_run(rerun: Any, stream: Any, run: RunFiles) -> None:
    for name, stage in run.stages.items():
        if not stage.losses:
            continue
        steps, losses = zip(*stage.losses, strict=True)
        entity = rerun.new_entity_path(["losses", name, run.name])
        times = [rerun.TimeColumn(STEP, sequence=steps)]
        stream.send_columns(entity, times, rerun.Scalars.columns(scalars=losses))
    if run.results:
        rows = [
            f"| {name} | {r.env} | {r.rate:.1%} | {r.low:.1%} to {r.high:.1%} | {r.episodes} |"
            for name, r in run.results.items()
        ]
        head = ["| result | environment | success | 95 % interval | episodes |", "|---" * 5 + "|"]
        text = rerun.TextDocument("\n".join([*head, *rows]), media_type="text/markdown")
        stream.log(rerun.new_entity_path(["success", run.name]), text, static=True)


def _log_film(rerun: Any, stream: Any, name: str, sample: SampleReport) -> None:
    """Recorded frames on the left, predicted ones on the right."""
    if sample.film is None or not sample.film.is_file():
        return
    entity = rerun.new_entity_path(["films", sample.mode, name])
    asset = rerun.AssetVideo(path=sample.film)
    try:
        nanoseconds = asset.read_frame_timestamps_nanos()
    except RuntimeError as error:
        where = str(sample.film)
        raise DataError(f"cannot decode {where}: {error}", where=where) from error
    stream.log(entity, asset, static=True)
    times = [rerun.TimeColumn(TIME, duration=1e-9 * nanoseconds)]
    stream.send_columns(entity, times, rerun.VideoFrameReference.columns_nanos(nanoseconds))


def _log_actions(rerun: Any, stream: Any, name: str, sample: SampleReport) -> None:
    """A curve a channel, recorded and predicted."""
    if sample.plot is None or not sample.plot.with_suffix(".npz").is_file():
        return
    file = sample.plot.with_suffix(".npz")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            curves = {key: arrays[key] for key in ("recorded", "predicted")}
            channels, rate = arrays["channels"].tolist(), float(arrays["rate"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(f"{file} is damaged: {error}", where=str(file)) from error
    for kind, values in curves.items():
        times = [rerun.TimeColumn(TIME, duration=np.arange(len(values)) / rate)]
        for channel, column in zip(channels, values.T, strict=True):
            entity = rerun.new_entity_path(["actions", sample.mode, channel, name, kind])
            stream.send_columns(entity, times, rerun.Scalars.columns(scalars=column))


def _blueprint(runs: Sequence[RunFiles], samples: Sequence[tuple[str, SampleReport]]) -> Any:
    """A tab of losses, one of success, one a mode: films above the curves of each channel."""
    from rerun import blueprint

    stages = dict.fromkeys(name for run in runs for name in run.stages)
    tabs: list[Any] = [
        blueprint.Grid(
            *(blueprint.TimeSeriesView(origin=f"losses/{s}", name=s) for s in stages),
            name="losses",
        )
    ]
    if any(run.results for run in runs):
        tabs.append(blueprint.TextDocumentView(origin="success", name="success"))
    for mode in dict.fromkeys(sample.mode for _, sample in samples):
        tabs.append(blueprint.Grid(*_views(blueprint, mode, samples), name=mode))
    return blueprint.Blueprint(blueprint.Tabs(*tabs))


def _views(blueprint: Any, mode: str, samples: Sequence[tuple[str, SampleReport]]) -> Iterator[Any]:
    solved = [(name, sample) for name, sample in samples if sample.mode == mode]
    for name, sample in solved:
        if sample.film:
            yield blueprint.Spatial2DView(origin=_path("films", mode, name), name=f"{name} film")
    for score in solved[0][1].actions:
        yield blueprint.TimeSeriesView(
            origin=_path("actions", mode, score.channel), name=score.channel
        )


def _path(*parts: str) -> str:
    from rerun import new_entity_path

    path: str = new_entity_path(list(parts))
    return path
