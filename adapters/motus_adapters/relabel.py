"""`motus label`: the latent actions of a finished dataset, written anew with another codec.

New labels are collected in `.partial` while the dataset stays whole; only when all are there are
they put into the data files, and while that lasts the dataset counts as half written.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motus_adapters.assemble import EPISODES_PATH, assemble
from motus_adapters.dataset import UnifiedDataset
from motus_adapters.files import disk_errors, read_json, write_json
from motus_adapters.labels import Labeler, labeler_for
from motus_adapters.manifest import CANVAS, LATENT
from motus_adapters.staging import APPLYING, PARTIAL, Staging, is_finished
from motus_adapters.statistics import Pixels, Stats, episode_stats
from motus_adapters.unified import Progress
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
        previous: Hash of the codec before, None if there were no latent actions.
        resumed: Episodes that an earlier run had labelled.
        unchanged: Nothing was written: a dry run, or the labels are of this codec already.
    """

    path: Path
    episodes: int
    frames: int
    codec: str
    previous: str | None
    resumed: int
    unchanged: bool


def label_dataset(
    path: Path | str,
    codec: str | Path = "shipped",
    *,
    workers: int = 1,
    engine: str = "local",
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    on_progress: Progress | None = None,
) -> LabelReport:
    """Write the latent actions of a dataset with a codec; everything else stays as it is.

    Args:
        path: A unified dataset.
        codec: "shipped" or a codec folder.
        workers: Processes; 0 for one a core.
        engine: "local", or "ray" for tasks of a Ray cluster whose machines share the folder.
        resume: Keep what an earlier run that was cut short had labelled with the same codec.
        force: Replace latent actions of another codec.
        dry_run: Say what would be done, write nothing.
        on_progress: Called with (episodes done, episodes in all, name of the last).

    Raises:
        DataError: There is no finished dataset, or the disk is full.
        UsageError: The dataset has latent actions of another codec, and no `force`.
        MissingError: There is no such codec.
        MismatchError: `resume` with another codec than the run that was cut short.
    """
    check_engine(workers, engine)
    path = Path(path).absolute() if engine == "ray" else Path(path)
    labeler = labeler_for(codec)
    if labeler is None:
        raise UsageError("labelling needs a codec", hint="name one with --codec")
    dataset = UnifiedDataset(path, unfinished=True)
    old, resumed, frames = dataset.meta.codec, 0, dataset.num_frames
    if is_finished(path):
        if old not in (None, labeler.codec) and not (resume or force):
            raise UsageError(
                f"{path} has latent actions of another codec, {old}",
                hint="replace them with --force",
                where=str(path),
            )
        dry_run = dry_run or (old == labeler.codec and not force)
    if not dry_run:
        with disk_errors(path), (staging := Staging(path / PARTIAL)).locked():
            resumed = _relabel(dataset, staging, labeler, workers, engine, resume, on_progress)
    return LabelReport(path, len(dataset.episodes), frames, labeler.codec, old, resumed, dry_run)


def _relabel(
    dataset: UnifiedDataset,
    staging: Staging,
    labeler: Labeler,
    workers: int,
    engine: str,
    resume: bool,
    on_progress: Progress | None,
) -> int:
    """Collect all labels, then put them in; returns how many were collected before."""
    begun = staging.root / "header.json"
    if not (resume and begun.is_file() and "label" in read_json(begun)):
        staging.empty()
    staging.claim({"label": {"codec": labeler.codec, "flow": labeler.flow}})
    staging.sweep()
    resumed = _collect(dataset, staging, labeler, workers, engine, on_progress)
    (staging.root / APPLYING).touch()
    images = _image_stats(dataset.path)
    assemble(
        dataset.path,
        dataset.meta.labelled(labeler.codec, labeler.flow),
        [_Relabelled(dataset, staging, images, e.index) for e in dataset.episodes],
        skipped=[{"key": key, "reason": reason} for key, reason in dataset.skipped],
        image_stats=dataset.stats[CANVAS],
    )
    staging.forget()
    return resumed


def _collect(
    dataset: UnifiedDataset,
    staging: Staging,
    labeler: Labeler,
    workers: int,
    engine: str,
    on_progress: Progress | None,
) -> int:
    episodes = dataset.episodes
    missing = [
        _Task(staging.root, dataset.path, e.index, labeler)
        for e in episodes
        if not staging.episode(e.index).is_dir()
    ]
    done = resumed = len(episodes) - len(missing)
    for index in run(_label_one, missing, count(workers, len(missing)), engine):
        done += 1
        if on_progress is not None:
            on_progress(done, len(episodes), f"episode {index}")
    return resumed


@dataclass(frozen=True)
class _Task:
    root: Path
    dataset: Path
    index: int
    labeler: Labeler


def _label_one(task: _Task) -> int:
    dataset = UnifiedDataset(task.dataset, unfinished=True)
    track = task.labeler.track(dataset.meta.layout)
    for canvas in dataset.frames(task.index):
        track.push(canvas)
    with disk_errors(task.dataset), Staging(task.root).writing(task.index) as folder:
        latents = track.result()
        np.save(folder / "latents.npy", latents)
        write_json(folder / "summary.json", {"length": len(latents)})
    return task.index


@dataclass(frozen=True)
class _Relabelled:
    """An episode of the dataset with new latents, as `assemble` wants it."""

    dataset: UnifiedDataset
    staging: Staging
    images: pa.Table
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
        latents = np.load(self.staging.episode(self.index) / "latents.npy")
        return {**self.dataset.columns(self.index), LATENT: latents}

    def place_video(self, target: Path) -> None:
        """It lies there already."""


def _image_stats(path: Path) -> pa.Table:
    file = path / EPISODES_PATH
    names = [n for n in pq.read_schema(file).names if n.startswith(f"stats/{CANVAS}/")]
    return pq.read_table(file, columns=names)
