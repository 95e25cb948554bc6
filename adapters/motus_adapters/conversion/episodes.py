"""`motus convert`: recordings of any known format to a unified dataset."""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motus_adapters.conversion.cameras import check_cameras, match_all
from motus_adapters.conversion.canonical import (
    check_allow,
    motion_mask,
    motion_of,
    numbers_of,
    unsaid,
)
from motus_adapters.conversion.canvas import Layout, layout_for
from motus_adapters.files import plain
from motus_adapters.labels import labeler_for
from motus_adapters.readers import (
    ColumnMap,
    Recording,
    changed_at,
    content_hash,
    open_source,
)
from motus_adapters.unified.manifest import Header, Source
from motus_adapters.unified.staging import check_dataset_free
from motus_adapters.unified.writing import EpisodeData, Progress, WriteReport, write_dataset
from motus_adapters.workers import check_engine
from motus_embodiments import ActionAdapter, Card, DataError, UsageError, load_card


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion did, or with `dry_run` would do.

    Attributes:
        out: The dataset.
        format: Format of the source.
        embodiment: Name of the card.
        episodes: Episodes written.
        frames: Frames written.
        rate: Frames a second.
        cameras: Role -> camera of the recordings.
        canvas: (width, height) in pixels.
        latent_actions: Whether latent actions were written.
        skipped: (recording, reason) of what was left out.
        warnings: What the source says that its files contradict, and what had to be assumed.
        resumed: Episodes that an earlier run had finished.
        dry_run: Nothing was written.
    """

    out: Path
    format: str
    embodiment: str
    episodes: int
    frames: int
    rate: float
    cameras: Mapping[str, str]
    canvas: tuple[int, int]
    latent_actions: bool
    skipped: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    resumed: int
    dry_run: bool


def convert(
    src: Path | str,
    out: Path | str,
    *,
    card: Card | str,
    format: str = "auto",  # noqa: A002
    mapping: ColumnMap | Mapping[str, Any] | Path | str | None = None,
    canvas_width: int = 320,
    codec: str | Path | None = "shipped",
    flow: str | None = None,
    device: str = "cpu",
    level: int = 6,
    task: str | None = None,
    rate: float | None = None,
    workers: int = 1,
    engine: str = "local",
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    skip_bad: bool = False,
    allow: Collection[str] = (),
    on_progress: Progress | None = None,
) -> ConvertReport:
    """Convert recordings to a unified dataset.

    All numbers are checked against the card before the first frame is decoded; each frame is
    then decoded once for canvas, video, statistics and flow. The result is a function of the
    source and the options: not of `workers`, nor of how often a run was killed and resumed.

    Args:
        src: File or folder of recordings.
        out: Folder of the dataset.
        card: The robot, or its card's name or file.
        format: One of `FORMATS`, or "auto".
        mapping: Which columns and cameras to read, a dict or a YAML file; see `ColumnMap`.
        canvas_width: Widest head view, in pixels.
        codec: "shipped", a codec folder, or None for no latent actions.
        flow: How flow is estimated for them, see `open_flow`; left out, as the codec learnt it.
        device: Where networks run: auto, cpu, cuda or cuda:N.
        level: Rung of the data pyramid, 1 to 6.
        task: What the robot is told, where the source does not say or says it wrong.
        rate: Frames a second, where the source does not say or says it wrong.
        workers: Processes; 0 for one a core.
        engine: "local", or "ray" for tasks of a Ray cluster whose machines share the folders.
        resume: Continue a conversion that was cut short.
        force: Replace a dataset that is there.
        dry_run: Check everything, write nothing.
        skip_bad: Leave out bad recordings and list them, instead of stopping.
        allow: What to let through: limits, pairs, motion. Noted in the dataset.
        on_progress: Called with (episodes done, episodes in all, name of the last).

    Raises:
        UsageError: An option is wrong, or `out` is taken.
        DataError: The source is damaged, or is not of this robot.
        MissingError: The codec or the robot's model is not installed.
        MismatchError: `resume` with other settings than the run that was cut short, or the codec
            learnt from other flow.
    """
    allowed, out = frozenset(allow), plain(out)
    _check_options(allowed, level, canvas_width, rate)
    check_engine(workers, engine)
    check_dataset_free(out, resume=resume, force=force)
    robot = load_card(card) if isinstance(card, str) else card
    labeler = labeler_for(codec, flow, device)
    stated = ColumnMap(task=task, rate=rate).over(ColumnMap.read(mapping))
    skipped: list[tuple[str, str]] = []
    on_bad = (lambda name, error: skipped.append((name, error.message))) if skip_bad else None
    src = Path(src).absolute() if engine == "ray" else Path(src)  # machines differ in their folder
    reader, recordings = open_source(src, format, mapping=stated, on_bad=on_bad)
    jobs, plan = _plan(recordings, robot, allowed, canvas_width, skipped, skip_bad)
    source = Source(reader.name, Path(src).resolve().name, content_hash(recordings))
    header = _header(robot, level, source, plan, stated, allowed)
    report = WriteReport(
        out, len(jobs), sum(j.recording.num_frames for j in jobs), tuple(skipped), 0
    )
    if not dry_run:
        report = write_dataset(
            out,
            header,
            jobs,
            labeler=labeler,
            workers=workers,
            engine=engine,
            resume=resume,
            force=force,
            skip_bad=skip_bad,
            skipped=skipped,
            changed=changed_at(recordings),
            on_progress=on_progress,
        )
    return ConvertReport(
        out=out,
        format=reader.name,
        embodiment=robot.name,
        episodes=report.episodes,
        frames=report.frames,
        rate=plan.rate,
        cameras=plan.cameras,
        canvas=(plan.layout.width, plan.layout.height),
        latent_actions=labeler is not None,
        skipped=report.skipped,
        warnings=plan.warnings,
        resumed=report.resumed,
        dry_run=dry_run,
    )


@dataclass(frozen=True)
class ConvertJob:
    """Converts one recording; sent to a worker."""

    recording: Recording
    card: Card
    cameras: Mapping[str, str]
    allow: frozenset[str]

    @property
    def key(self) -> str:
        """The recording's name."""
        return self.recording.name

    def load(self) -> EpisodeData:
        """Canonical numbers now, frames as they are drawn."""
        numbers = numbers_of(self.recording, self.card, self.allow)
        motion = None
        if numbers.state is not None:
            motion, _ = motion_of(self.card, numbers.state, self.allow)
        return EpisodeData(
            frames=self._views(),
            num_frames=self.recording.num_frames,
            state=numbers.state,
            action=numbers.action,
            motion=motion,
            task=self.recording.task or "",
            source_name=self.recording.name,
        )

    def _views(self) -> Iterator[Mapping[str, np.ndarray]]:
        streams = {role: self.recording.frames(name) for role, name in self.cameras.items()}
        while True:
            views = {role: next(stream, None) for role, stream in streams.items()}
            present = {role: view for role, view in views.items() if view is not None}
            if len(present) < len(streams):
                return
            yield present


def _check_options(
    allow: frozenset[str], level: int, canvas_width: int, rate: float | None
) -> None:
    check_allow(allow)
    if not 1 <= level <= 6:
        raise UsageError(f"level is {level}; levels are 1 to 6", hint="6 is your own robot")
    if canvas_width < 16:
        raise UsageError(f"canvas_width is {canvas_width}; it must be at least 16")
    if rate is not None and not 0 < rate < math.inf:
        raise UsageError(f"rate is {rate:g}; it must be a number of frames a second above 0")


@dataclass(frozen=True)
class _Plan:
    """What the whole source has in common."""

    rate: float
    layout: Layout
    cameras: Mapping[str, str]
    has_state: bool
    has_action: bool
    warnings: tuple[str, ...]
    let_through: Mapping[str, int]  # allowance -> recordings


def _header(
    card: Card,
    level: int,
    source: Source,
    plan: _Plan,
    stated: ColumnMap,
    allow: frozenset[str],
) -> Header:
    return Header(
        card=card,
        rate=plan.rate,
        level=level,
        source=source,
        layout=plan.layout,
        has_state=plan.has_state,
        has_action=plan.has_action,
        motion_mask=motion_mask(card, allow) if plan.has_state else (False,) * 14,
        options={
            "mapping": stated.to_dict(),
            "cameras": dict(plan.cameras),
            "allow": sorted(allow),
            "let_through": dict(plan.let_through),
        },
    )


def _plan(
    recordings: list[Recording],
    card: Card,
    allow: frozenset[str],
    canvas_width: int,
    skipped: list[tuple[str, str]],
    skip_bad: bool,
) -> tuple[list[ConvertJob], _Plan]:
    """Check the numbers of every recording, without decoding frames; drop bad ones if asked."""
    warnings = list(dict.fromkeys(w for r in recordings for w in r.episode.warnings))
    cameras, notes = match_all(recordings, card)
    has_state = any(recording.mapping.state for recording in recordings)
    has_action = any(recording.mapping.action for recording in recordings)
    jobs: list[ConvertJob] = []
    layout, first = None, None
    let_through, examples = Counter[str](), dict[str, str]()
    lowest: list[np.ndarray] = []
    highest: list[np.ndarray] = []
    for recording in recordings:
        try:
            check_cameras(recording, cameras)
            numbers = numbers_of(recording, card, allow)
            if has_state and numbers.state is None:
                raise _lacking(recording, "state")
            if has_action and numbers.action is not None and not recording.mapping.action:
                raise _lacking(recording, "action")
            if layout is None:
                layout = layout_for(_sizes(recording, cameras), canvas_width)
                first = numbers
        except DataError as error:
            if not skip_bad:
                raise
            skipped.append((recording.name, error.message))
            continue
        let_through.update(numbers.let_through.keys())
        examples = {**numbers.let_through, **examples}
        shrunk = recording.at_least(_largest(layout, cameras))
        jobs.append(ConvertJob(shrunk, card, cameras, allow))
        if numbers.state is not None and len(numbers.state):
            lowest.append(numbers.state.min(axis=0))
            highest.append(numbers.state.max(axis=0))
    if layout is None or first is None:
        raise DataError(f"no recording is left, all {len(skipped)} are bad: {skipped[0][1]}")
    if (rate := _common_rate(jobs)) is None:
        warnings.append(f"no rate is stored; the card's {card.rate:g} Hz is taken (--rate)")
    if any(job.recording.task is None for job in jobs):
        warnings.append("no task is stored; it stays empty (--task TEXT)")
    warnings += unsaid(jobs[0].recording, has_action=first.action is not None)
    if lowest:
        warnings += ActionAdapter(card).remarks(np.min(lowest, axis=0), np.max(highest, axis=0))
    for name, told in examples.items():
        warnings.append(f"let through in {let_through[name]} recordings (--allow {name}): {told}")
    plan = _Plan(
        rate=card.rate if rate is None else rate,
        layout=layout,
        cameras=cameras,
        has_state=first.state is not None,
        has_action=first.action is not None,
        warnings=(*warnings, *notes),
        let_through=dict(let_through),
    )
    return jobs, plan


def _common_rate(jobs: Sequence[ConvertJob]) -> float | None:
    rates = {job.recording.rate for job in jobs}
    if len(rates) > 1:
        found = ", ".join(sorted(f"{rate} Hz" for rate in rates))
        raise DataError(
            f"the recordings differ in rate: {found}",
            hint="convert each rate by itself, or give the true one with --rate",
        )
    return rates.pop()


def _largest(layout: Layout, cameras: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Camera -> (height, width) of the largest box that it fills."""
    sizes: dict[str, tuple[int, int]] = {}
    for role, name in cameras.items():
        _, _, width, height = layout.boxes[role]
        known = sizes.get(name, (0, 0))
        sizes[name] = (max(height, known[0]), max(width, known[1]))
    return sizes


def _lacking(recording: Recording, what: str) -> DataError:
    return DataError(
        f"{recording.name} has no {what}, which others have",
        hint="leave it out with --skip-bad, or convert it by itself",
        where=recording.name,
    )


def _sizes(recording: Recording, cameras: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Role -> (height, width) of the first frame."""
    sizes = {}
    for role, name in cameras.items():
        view = next(recording.frames(name), None)
        if view is None:
            raise DataError(f"{recording.name}: camera '{name}' has no frame", where=recording.name)
        sizes[role] = (view.shape[0], view.shape[1])
    return sizes
