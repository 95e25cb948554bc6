"""`motus label`: the latent actions of a finished dataset, written anew with another codec.

New labels are collected in `.partial` while the dataset stays whole; only when all are there are
they put into the data files, and while that lasts the dataset counts as half written.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motus_adapters.files import disk_errors, write_json
from motus_adapters.labels import Labeler, labeler_for
from motus_adapters.unified.assemble import EPISODES_PATH, assemble
from motus_adapters.unified.manifest import CANVAS, Header
from motus_adapters.unified.reading import UnifiedDataset
from motus_adapters.unified.staging import (
    APPLYING,
    PARTIAL,
    Staging,
    claimed,
    half_written,
    is_finished,
)
from motus_adapters.unified.statistics import Pixels, Stats, episode_stats
from motus_adapters.unified.writing import Progress
from motus_adapters.workers import check_engine, count, run
from motus_embodiments import UsageError


@dataclass(frozen=True)
class LabelReport:
    """What a labelling run did.

    Attributes:
        path: The dataset.
        episodes: Episodes labelled.
        frames: Frames labelled.
        codec: Hash of the codec.
        flow: Name of the flow estimator.
        rates: Latent actions a second, of each feature there is now.
        previous: Hash of the codec before, None if there were no latent actions.
        resumed: Episodes that an earlier run had labelled.
        unchanged: Nothing was written: a dry run, or such labels are there already.
    """

    path: Path
    episodes: int
    frames: int
    codec: str
    flow: str
    rates: tuple[float, ...]
    previous: str | None
    resumed: int
    unchanged: bool


def label_dataset(
    path: Path | str,
    codec: str | Path = "shipped",
    *,
    flow: str | None = None,
    rates: Collection[float] = (),
    device: str = "cpu",
    workers: int = 1,
    engine: str = "local",
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> LabelReport:
    """Write the latent actions of a dataset with a codec; everything else stays as it is.

    Labels of the same codec and flow that are there already stay as they are beside new ones of
    other rates.

    Args:
        path: A unified dataset.
        codec: "shipped" or a codec folder.
        flow: How flow is estimated, see `open_flow`; left out, as the codec learnt it.
        rates: Latent actions a second, none for one a frame. A slower one than the frames is
            encoded from their flow composed, into a feature of its own.
        device: Where networks run: auto, cpu, cuda or cuda:N.
        workers: Processes; 0 for one a core.
        engine: "local", or "ray" for tasks of a Ray cluster whose machines share the folder.
        resume: Keep what an earlier run that was cut short had labelled with the same codec.
        force: Replace the latent actions that are there, of whatever codec.
        dry_run: Say what would be done, write nothing.
        on_progress: Called with (episodes done, episodes in all, name of the last).

    Raises:
        DataError: There is no dataset, or it is half written and neither `resume` nor `force` is
            given, or the disk is full.
        UsageError: The dataset has latent actions of another codec or flow, and no `force`;
            or a rate does not fit its frames; or there is no such estimator.
        MissingError: There is no such codec, or a library, weights or device is not here.
        MismatchError: `resume` with other settings than the run that was cut short, or the codec
            learnt from other flow.
    """
    check_engine(workers, engine)
    path = Path(path).absolute() if engine == "ray" else Path(path)
    labeler = labeler_for(codec, flow, device)
    if labeler is None:
        raise UsageError("labelling needs a codec", hint="name one with --codec")
    dataset = UnifiedDataset(path, unfinished=True)
    old, resumed = dataset.meta, 0
    goal, begun = _goal(old, labeler, rates, force), _begun(old, path) if resume else None
    if begun is not None and begun.covers(goal, old):
        goal = begun
    if not is_finished(path) and not (resume or force):
        raise half_written(path)
    if is_finished(path) and not (begun or force or goal.fits(old)):
        raise UsageError(
            f"{path} has latent actions of codec {old.codec} by {old.flow}, "
            f"not of codec {labeler.codec} by {labeler.flow}",
            hint="replace them with --force",
            where=str(path),
        )
    dry_run = dry_run or (is_finished(path) and not goal.anew)
    if not dry_run:
        with disk_errors(path), (staging := Staging(path / PARTIAL)).locked():
            if begun is None:
                staging.empty()
            staging.claim(goal.to_dict())
            staging.sweep()
            resumed = _collect(dataset, goal, staging, labeler, workers, engine, on_progress)
            _apply(dataset, goal, staging)
    return LabelReport(
        path=path,
        episodes=len(dataset.episodes),
        frames=dataset.num_frames,
        codec=labeler.codec,
        flow=labeler.flow,
        rates=goal.header.latent_rates,
        previous=old.codec,
        resumed=resumed,
        unchanged=dry_run,
    )


@dataclass(frozen=True)
class _Goal:
    """What the dataset is to be: its header then, and the features that are written anew."""

    header: Header
    anew: tuple[str, ...]

    def fits(self, old: Header) -> bool:
        """Whether nothing of another codec or flow is lost."""
        return old.codec is None or _maker(old) == _maker(self.header)

    def covers(self, other: "_Goal", old: Header) -> bool:
        """Whether reaching this also gives the other, of which some may be there."""
        rates = {*self.header.latent_rates, *old.latent_rates}
        same = _maker(self.header) == _maker(other.header)
        return same and {*other.header.latent_rates} <= rates

    @property
    def steps(self) -> dict[str, int]:
        """Feature -> frames each latent action spans, of those written anew."""
        return {name: self.header.latent_steps[name] for name in self.anew}

    def to_dict(self) -> dict[str, Any]:
        """As noted in the staging folder."""
        return {"label": self.header.to_dict()["latent_action"], "anew": list(self.anew)}


def _maker(header: Header) -> tuple[str | None, str | None]:
    return header.codec, header.flow


def _goal(old: Header, labeler: Labeler, rates: Collection[float], force: bool) -> _Goal:
    header = old.labelled(labeler.codec, labeler.flow, rates)
    anew = {*header.latent_steps}
    if not force and _maker(old) == _maker(header):
        every = {*old.latent_rates, *header.latent_rates}
        header = old.labelled(labeler.codec, labeler.flow, every)
        anew -= {*old.latent_steps}
    return _Goal(header, tuple(sorted(anew)))


def _begun(old: Header, path: Path) -> _Goal | None:
    """The goal of a run that was cut short."""
    noted = claimed(path / PARTIAL)
    if "label" not in noted:
        return None
    label = noted["label"]
    header = old.labelled(label["codec"], label["flow"], label["rates"])
    return _Goal(header, tuple(noted["anew"]))


def _collect(
    dataset: UnifiedDataset,
    goal: _Goal,
    staging: Staging,
    labeler: Labeler,
    workers: int,
    engine: str,
    on_progress: Progress | None,
) -> int:
    """Have all labels in the staging folder; returns how many episodes had theirs before."""
    episodes = dataset.episodes
    missing = [
        _Task(staging.root, dataset.path, e.index, labeler, goal.steps)
        for e in episodes
        if not staging.episode(e.index).is_dir()
    ]
    done = resumed = len(episodes) - len(missing)
    for index in run(_label_one, missing, count(workers, len(missing)), engine):
        done += 1
        if on_progress is not None:
            on_progress(done, len(episodes), f"episode {index}")
    return resumed


def _apply(dataset: UnifiedDataset, goal: _Goal, staging: Staging) -> None:
    """Put the labels into the data files; until the end the dataset counts as half written."""
    lost = dataset.meta.latent_steps.keys() - goal.header.latent_steps.keys()
    (staging.root / APPLYING).touch()
    images, without = _image_stats(dataset.path), {*lost, *goal.anew}
    assemble(
        dataset.path,
        goal.header,
        [_Relabelled(dataset, staging, images, without, e.index) for e in dataset.episodes],
        skipped=[{"key": key, "reason": reason} for key, reason in dataset.skipped],
        image_stats=dataset.stats[CANVAS],
    )
    staging.forget()


@dataclass(frozen=True)
class _Task:
    root: Path
    dataset: Path
    index: int
    labeler: Labeler
    steps: Mapping[str, int]


def _label_one(task: _Task) -> int:
    dataset = UnifiedDataset(task.dataset, unfinished=True)
    track = task.labeler.track(dataset.meta.layout, dataset.meta.rate, task.steps)
    for canvas in dataset.frames(task.index):
        track.push(canvas)
    with disk_errors(task.dataset), Staging(task.root).writing(task.index) as folder:
        np.savez(folder / "latents.npz", allow_pickle=False, **track.result())
        write_json(folder / "summary.json", {"length": dataset.episodes[task.index].length})
    return task.index


@dataclass(frozen=True)
class _Relabelled:
    """An episode of the dataset with new latents, as `assemble` wants it."""

    dataset: UnifiedDataset
    staging: Staging
    images: pa.Table
    without: Collection[str]
    index: int

    def summary(self) -> dict[str, Any]:
        episode = self.dataset.episodes[self.index]
        stats = {name: episode_stats(values) for name, values in self.columns().items()}
        row = self.images.slice(self.index, 1).to_pylist()[0]
        canvas: Stats = {name.rpartition("/")[2]: values for name, values in row.items()}
        return {
            "length": episode.length,
            "task": episode.task,
            "source": episode.source,
            "notes": dict(episode.notes),
            "stats": {**stats, CANVAS: canvas},
        }

    def pixels(self) -> Pixels | None:
        return None

    def columns(self) -> Mapping[str, np.ndarray]:
        with np.load(self.staging.episode(self.index) / "latents.npz") as latents:
            return {**self.dataset.columns(self.index, without=self.without), **latents}

    def place_video(self, target: Path) -> None:
        """It lies there already."""


def _image_stats(path: Path) -> pa.Table:
    file = path / EPISODES_PATH
    names = [n for n in pq.read_schema(file).names if n.startswith(f"stats/{CANVAS}/")]
    return pq.read_table(file, columns=names)
