"""Reading a unified dataset."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motus_adapters.files import plain, read_json
from motus_adapters.unified.assemble import EPISODES_PATH, NOTES, data_path, video_path
from motus_adapters.unified.manifest import Header
from motus_adapters.unified.staging import MANIFEST, half_written, is_half_written
from motus_adapters.unified.statistics import Stats
from motus_adapters.unified.video import read_video
from motus_embodiments import DataError

_DAMAGED = "the dataset is damaged; convert it again with --force"


@dataclass(frozen=True)
class Episode:
    """One line of the episode table.

    Attributes:
        index: Number of the episode.
        length: Frames.
        task: What the robot is told.
        source: The recording it came from.
        notes: Counts that its maker left.
    """

    index: int
    length: int
    task: str
    source: str
    notes: Mapping[str, int]


class UnifiedDataset:
    """A finished unified dataset, opened read-only.

    Args:
        path: Its folder.
        unfinished: Open it though labelling it was cut short, in order to finish that.

    Raises:
        DataError: There is no dataset, or it is half written, or damaged.
    """

    def __init__(self, path: Path | str, *, unfinished: bool = False) -> None:
        self.path = plain(path)
        has_manifest = (self.path / MANIFEST).is_file()
        if is_half_written(self.path) and not (unfinished and has_manifest):
            raise half_written(self.path)
        if not has_manifest:
            what = "is no unified dataset" if self.path.exists() else "does not exist"
            raise DataError(
                f"{self.path} {what}: there is no {MANIFEST}",
                hint="make one with `motus convert SOURCE DATASET`",
                where=str(self.path),
            )
        manifest = read_json(self.path / MANIFEST)
        self.meta = Header.from_dict(manifest, self.path / MANIFEST)
        self.num_frames = int(manifest["frames"])
        self.skipped = tuple((entry["key"], entry["reason"]) for entry in manifest["skipped"])

    @cached_property
    def episodes(self) -> tuple[Episode, ...]:
        """All episodes in order."""
        path = self.path / EPISODES_PATH
        columns = ["episode_index", "length", "tasks", "source"]
        noted = [name for name in _read_names(path) if name.startswith(NOTES)]
        rows = _read_table(path, [*columns, *noted]).to_pylist()
        return tuple(
            Episode(
                index=row["episode_index"],
                length=row["length"],
                task=row["tasks"][0],
                source=row["source"],
                notes={name.removeprefix(NOTES): row[name] for name in noted},
            )
            for row in rows
        )

    @cached_property
    def stats(self) -> Mapping[str, Stats]:
        """Feature -> min, max, mean, std, count, q01, q10, q50, q90, q99."""
        stats: dict[str, Stats] = read_json(self.path / "meta/stats.json")
        return stats

    def arrays(self, episode: int) -> dict[str, np.ndarray]:
        """float32 [T, n] each: state, action, motion, latent actions as far as they exist.

        Raises:
            DataError: The episode's file is damaged.
        """
        columns = self.columns(episode)
        return {name.removeprefix("observation."): values for name, values in columns.items()}

    def columns(self, episode: int, *, without: Collection[str] = ()) -> dict[str, np.ndarray]:
        """The same as `arrays`, under the names of LeRobot's features."""
        names = [name for name in self.meta.channels if name not in without]
        table = _read_table(self.path / data_path(episode), names)
        return {name: _matrix(table[name]) for name in names}

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        """The canvases of an episode in order, uint8 RGB [height, width, 3].

        Raises:
            DataError: The video is damaged or too short.
        """
        path = self.path / video_path(episode)
        try:
            yield from read_video(path, count=self.episodes[episode].length)
        except DataError as error:
            raise DataError(error.message, hint=_DAMAGED, where=error.where) from error


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    values = array.flatten() if isinstance(array, pa.FixedSizeListArray) else array
    flat: np.ndarray = values.to_numpy(zero_copy_only=False).astype(np.float32)
    return flat.reshape(len(array), -1)


def _read_names(path: Path) -> list[str]:
    with _damage(path):
        names: list[str] = pq.read_schema(path).names
    return names


def _read_table(path: Path, columns: list[str]) -> pa.Table:
    with _damage(path):
        return pq.read_table(path, columns=columns)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"cannot read {path}: {error}",
            hint=_DAMAGED,
            where=str(path),
        ) from error
