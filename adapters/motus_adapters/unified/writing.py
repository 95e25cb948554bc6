"""Writing the unified dataset: per-episode work in any number of processes, killable anywhere."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from motus_adapters.conversion.canvas import compose
from motus_adapters.files import disk_errors, read_json, write_json
from motus_adapters.labels import Labeler
from motus_adapters.unified.assemble import assemble
from motus_adapters.unified.manifest import ACTION, CANVAS, MOTION, STATE, Header, hash_json
from motus_adapters.unified.staging import (
    MANIFEST,
    PARTIAL,
    Staging,
    check_dataset_free,
    claimed,
    clear,
    is_finished,
    refuse_difference,
)
from motus_adapters.unified.statistics import Pixels, episode_stats
from motus_adapters.unified.video import VideoWriter
from motus_adapters.workers import check_engine, count, run
from motus_embodiments import DataError

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class EpisodeData:
    """One episode, canonical; frames are drawn one at a time.

    Attributes:
        frames: One mapping role -> uint8 RGB [h, w, 3] a frame.
        num_frames: T, the rows of every array.
        state: float [T, n] in the order of `card.state_channels`, or None.
        action: float [T, a] in the order of `card.action_channels`, or None.
        motion: float [T, 14], or None for zeros.
        task: What the robot is told.
        source_name: Where it came from, for error messages and the episode table.
        notes: Counts that the episode table keeps, the same names for every episode.
    """

    frames: Iterator[Mapping[str, np.ndarray]]
    num_frames: int
    state: np.ndarray | None
    action: np.ndarray | None
    motion: np.ndarray | None
    task: str
    source_name: str
    notes: Mapping[str, int] = field(default_factory=dict)


class EpisodeJob(Protocol):
    """Makes one episode; picklable, so that a worker process can do it."""

    @property
    def key(self) -> str:
        """Names the episode; the keys in order are part of the dataset's identity."""
        ...

    def load(self) -> EpisodeData:
        """The episode.

        Raises:
            DataError: It cannot be had; with `skip_bad` it is left out and listed.
        """
        ...


@dataclass(frozen=True)
class WriteReport:
    """What a run wrote.

    Attributes:
        out: The dataset.
        episodes: Episodes in it.
        frames: Frames in it.
        skipped: (key, reason) of each recording left out.
        resumed: Episodes that an earlier run had finished.
    """

    out: Path
    episodes: int
    frames: int
    skipped: tuple[tuple[str, str], ...]
    resumed: int


def write_dataset(
    out: Path,
    header: Header,
    jobs: Sequence[EpisodeJob],
    *,
    labeler: Labeler | None = None,
    workers: int = 1,
    engine: str = "local",
    resume: bool = False,
    force: bool = False,
    skip_bad: bool = False,
    skipped: Sequence[tuple[str, str]] = (),
    changed: Mapping[str, int] | None = None,
    on_progress: Progress | None = None,
) -> WriteReport:
    """Write a unified dataset: LeRobot v3.0 with `meta/motus.json`, which comes last.

    Killed at any moment and run again with `resume`, the files are byte for byte those of an
    undisturbed run, whatever the number of workers.

    Args:
        out: The folder.
        header: What the numbers mean; its codec is filled in from `labeler`.
        jobs: The episodes in order.
        labeler: Writes `latent_action`; None leaves the feature out.
        workers: Processes; 0 for one a core.
        engine: "local", or "ray" for tasks of a Ray cluster.
        resume: Continue a half-written dataset; a finished one is left as it is.
        force: Replace what is there.
        skip_bad: Leave out episodes whose data is bad, and list them.
        skipped: (key, reason) of recordings the caller left out already.
        changed: File -> time of its last change, of sources that the header's hash does not
            cover whole: `resume` refuses another one.
        on_progress: Called with (episodes done, episodes in all, key of the last).

    Raises:
        UsageError: `out` is taken and neither `resume` nor `force` is given, or there is no
            such engine.
        MissingError: Ray is not installed.
        MismatchError: `out` was begun with another header or other jobs.
        DataError: An episode is bad, or the disk is full.
    """
    check_engine(workers, engine)
    if not jobs:
        raise DataError(f"no episode to write to {out}", hint="is the source empty?")
    if labeler is not None:
        header = header.labelled(labeler.codec, labeler.flow)
    check_dataset_free(out, resume=resume, force=force)
    if force and (out / PARTIAL).is_dir():
        with Staging(out / PARTIAL).locked():  # nobody else is at work there
            clear(out)
    elif force:
        clear(out)
    if is_finished(out):
        return _finished(out, header)
    keys = [job.key for job in jobs]
    identity = {
        "header": header.to_dict(),
        "jobs": {"count": len(keys), "hash": hash_json(keys)},
        "changed": dict(changed or {}),
    }
    with disk_errors(out):
        staging = Staging(out / PARTIAL)
        try:
            with staging.locked():
                staging.claim(identity)
                staging.sweep()
                tasks = [
                    _Task(staging.root.resolve(), index, job, header, labeler, skip_bad)
                    for index, job in enumerate(jobs)
                ]
                resumed = _write_episodes(staging, tasks, workers, engine, on_progress)
                return _finish(out, header, staging, keys, skipped, resumed)
        except (DataError, OSError):
            if staging.num_done() == 0:
                staging.forget()
            raise


@dataclass(frozen=True)
class _Task:
    """One episode to write, as sent to a worker."""

    root: Path
    index: int
    job: EpisodeJob
    header: Header
    labeler: Labeler | None
    skip_bad: bool


def _write_episodes(
    staging: Staging,
    tasks: list[_Task],
    workers: int,
    engine: str,
    on_progress: Progress | None,
) -> int:
    missing = [task for task in tasks if not staging.episode(task.index).is_dir()]
    done = resumed = len(tasks) - len(missing)
    if on_progress is not None:
        on_progress(done, len(tasks), "")
    for key in run(_write_one, missing, count(workers, len(missing)), engine):
        done += 1
        if on_progress is not None:
            on_progress(done, len(tasks), key)
    return resumed


def _write_one(task: _Task) -> str:
    staging = Staging(task.root)
    with disk_errors(task.root.parent):
        try:
            with staging.writing(task.index) as folder:
                summary = _write_files(folder, task.job.load(), task.header, task.labeler)
                write_json(folder / "summary.json", summary)
        except DataError as error:
            if not task.skip_bad:
                raise
            with staging.writing(task.index) as folder:
                write_json(folder / "summary.json", {"skipped": error.message})
    return task.job.key


def _write_files(
    folder: Path, data: EpisodeData, header: Header, labeler: Labeler | None
) -> dict[str, Any]:
    """Canvas, encoding, colour statistics and flow in one pass over the frames."""
    columns = _checked_columns(data, header)
    track = None
    if labeler is not None:
        track = labeler.track(header.layout, header.rate, header.latent_steps)
    pixels = Pixels()
    size = (header.layout.width, header.layout.height)
    video = VideoWriter(folder / "video.mp4", header.rate, size)
    try:
        for views in data.frames:
            canvas = compose(views, header.layout)
            video.add(canvas)
            pixels.add(canvas)
            if track is not None:
                track.push(canvas)
        video.close()
    except BaseException:
        video.abandon()
        raise
    if pixels.frames != data.num_frames:
        raise DataError(
            f"{data.source_name} has {pixels.frames} frames and {data.num_frames} rows of numbers",
            hint="leave the recording out with --skip-bad",
            where=data.source_name,
        )
    if track is not None:
        columns |= track.result()
    np.savez(folder / "columns.npz", allow_pickle=False, **columns)
    stats = {feature: episode_stats(values) for feature, values in columns.items()}
    return {
        "length": data.num_frames,
        "task": data.task,
        "source": data.source_name,
        "notes": dict(data.notes),
        "stats": {**stats, CANVAS: pixels.result()},
        "pixels": pixels.counts.tolist(),
    }


def _checked_columns(data: EpisodeData, header: Header) -> dict[str, np.ndarray]:
    """The episode's arrays as float32, each of the shape the header promises."""
    motion = np.zeros((data.num_frames, 14)) if data.motion is None else data.motion
    given = {STATE: data.state, ACTION: data.action, MOTION: motion}
    columns: dict[str, np.ndarray] = {}
    for feature, names in header.channels.items():
        if feature in header.latent_steps:
            continue
        values = given[feature]
        if values is None or values.shape != (data.num_frames, len(names)):
            shape = None if values is None else values.shape
            raise DataError(
                f"{data.source_name}: {feature} has shape {shape}, "
                f"expected ({data.num_frames}, {len(names)})",
                where=data.source_name,
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
            columns[feature] = values.astype(np.float32)
        bad = np.argwhere(~np.isfinite(columns[feature]))
        if len(bad):
            frame, channel = bad[0]
            raise DataError(
                f"{data.source_name}: {feature} '{names[channel]}' is "
                f"{values[frame, channel]} at frame {frame}",
                hint="leave the recording out with --skip-bad",
                where=data.source_name,
            )
    return columns


@dataclass(frozen=True)
class _StagedPiece:
    """A staged episode, as `assemble` wants it."""

    staging: Staging
    index: int

    def summary(self) -> dict[str, Any]:
        return self.staging.record(self.index)

    def pixels(self) -> Pixels:
        record = self.summary()
        return Pixels(np.asarray(record["pixels"], np.int64), int(record["length"]))

    def columns(self) -> dict[str, np.ndarray]:
        with np.load(self.staging.episode(self.index) / "columns.npz") as file:
            return dict(file)

    def place_video(self, target: Path) -> None:
        staged = self.staging.episode(self.index) / "video.mp4"
        if staged.exists():
            os.replace(staged, target)


def _finish(
    out: Path,
    header: Header,
    staging: Staging,
    keys: list[str],
    skipped: Sequence[tuple[str, str]],
    resumed: int,
) -> WriteReport:
    dropped, pieces = list(skipped), list[_StagedPiece]()
    for index, key in enumerate(keys):
        reason = staging.record(index).get("skipped")
        if reason is None:
            pieces.append(_StagedPiece(staging, index))
        else:
            dropped.append((key, reason))
    if not pieces:
        staging.forget()
        raise DataError(
            f"no episode is left for {out}: all {len(dropped)} are bad; first: {dropped[0][1]}",
            where=str(out),
        )
    listed = [{"key": key, "reason": reason} for key, reason in dropped]
    frames = assemble(out, header, pieces, skipped=listed)
    staging.forget()
    return WriteReport(out, len(pieces), frames, tuple(dropped), resumed)


def _finished(out: Path, header: Header) -> WriteReport:
    """Nothing is left to do, but only if it is the same dataset."""
    manifest = read_json(out / MANIFEST)
    counts = {key: manifest.pop(key) for key in ("episodes", "frames", "skipped")}
    refuse_difference(manifest, header.to_dict(), out)
    staging = Staging(out / PARTIAL)
    with staging.locked():
        if "label" not in claimed(staging.root):  # labels may wait there to be put in
            staging.forget()
    skipped = tuple((entry["key"], entry["reason"]) for entry in counts["skipped"])
    return WriteReport(out, counts["episodes"], counts["frames"], skipped, counts["episodes"])
