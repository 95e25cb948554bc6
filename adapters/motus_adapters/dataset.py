"""Reading a unified dataset."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motus_adapters.assemble import EPISODES_PATH, data_path, video_path
from motus_adapters.files import read_json
from motus_adapters.manifest import Header
from motus_adapters.staging import MANIFEST, is_half_written
from motus_adapters.statistics import Stats
from motus_adapters.video import read_video
from motus_embodiments import DataError


@dataclass(frozen=True)
class Episode:
    """One line of the episode table.

    Attributes:
        index: Number of the episode.
        length: Frames.
        task: What the robot is told.
        source: The recording it came from.
    """

    index: int
    length: int
    task: str
    source: str


class UnifiedDataset:
    """A finished unified dataset, opened read-only.

    Args:
        path: Its folder.
        unfinished: Open it though labelling it was cut short, in order to finish that.

    Raises:
        DataError: There is no dataset, or it is half written, or damaged.
    """

    def __init__(self, path: Path | str, *, unfinished: bool = False) -> None:
        self.path = Path(path)
        has_manifest = (self.path / MANIFEST).is_file()
        if is_half_written(self.path) and not (unfinished and has_manifest):
            raise DataError(
                f"{self.path} is half written: the run that made it was cut short",
                hint="finish it: the same command with --resume",
                where=str(self.path),
            )
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
        table = _read_table(path, columns).to_pydict()
        rows = zip(*(table[name] for name in columns), strict=True)
        return tuple(
            Episode(index, length, tasks[0], source) for index, length, tasks, source in rows
        )

    @cached_property
    def stats(self) -> Mapping[str, Stats]:
        """Feature -> min, max, mean, std, count, q01, q10, q50, q90, q99."""
        stats: dict[str, Stats] = read_json(self.path / "meta/stats.json")
        return stats

    def arrays(self, episode: int) -> dict[str, np.ndarray]:
        """float32 [T, n] each: state, action, motion, latent_action as far as they exist.

        Raises:
            DataError: The episode's file is damaged.
        """
        columns = self.columns(episode)
        return {name.removeprefix("observation."): values for name, values in columns.items()}

    def columns(self, episode: int) -> dict[str, np.ndarray]:
        """The same as `arrays`, under the names of LeRobot's features."""
        names = list(self.meta.channels)
        table = _read_table(self.path / data_path(episode), names)
        return {name: _matrix(table[name]) for name in names}

    def frames(self, episode: int) -> Iterator[np.ndarray]:
        """The canvases of an episode in order, uint8 RGB [height, width, 3].

        Raises:
            DataError: The video is damaged or too short.
        """
        path = self.path / video_path(episode)
        return read_video(path, count=self.episodes[episode].length)


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    array = column.combine_chunks()
    values = array.flatten() if isinstance(array, pa.FixedSizeListArray) else array
    flat: np.ndarray = values.to_numpy(zero_copy_only=False).astype(np.float32)
    return flat.reshape(len(array), -1)


def _read_table(path: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"cannot read {path}: {error}",
            hint="the dataset is damaged; convert it again with --force",
            where=str(path),
        ) from error
