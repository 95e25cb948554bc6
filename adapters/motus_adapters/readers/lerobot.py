"""LeRobot datasets v2.0, v2.1 and v3.0, read from their parquet and video files.

LeRobot itself reads v3.0 alone, and importing it takes ten CPU seconds and a gigabyte; what is
read here is tested against it. Metadata is often copied from another dataset or edited by hand:
files are believed, metadata is compared with them, and each contradiction becomes a warning.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from motus_adapters.readers.base import ColumnMap, EpisodeFile, OnBad, find_roots
from motus_adapters.readers.lerobot_meta import INFO, contradictions, inside, read_info
from motus_adapters.readers.lerobot_v2 import count_warnings, describe_v2
from motus_adapters.readers.lerobot_v3 import describe_v3, file_warnings
from motus_adapters.unified.video import read_video
from motus_embodiments import DataError

_READ = 32  # rows with embedded images read at once


@dataclass(frozen=True)
class LeRobotEpisode:
    """One episode, whichever version.

    Attributes:
        root: The dataset.
        data: Its parquet file.
        number: Its episode_index, where the file holds several episodes.
        videos: (camera, file, seconds at which the episode begins).
        meta: What tells of lengths, tasks and files, for all episodes.
    """

    root: Path
    name: str
    num_frames: int
    data: Path
    number: int | None
    videos: tuple[tuple[str, Path, float], ...]
    meta: tuple[Path, ...]
    images: tuple[str, ...]
    columns: tuple[str, ...]
    defaults: ColumnMap
    warnings: tuple[str, ...]

    @property
    def cameras(self) -> tuple[str, ...]:
        """Video features whose files exist, and image columns."""
        return (*(camera for camera, _, _ in self.videos), *self.images)

    @property
    def files(self) -> tuple[Path, ...]:
        """The parquet file, the videos, and the metadata of the dataset."""
        return (self.data, *(path for _, path, _ in self.videos), *self.meta)

    def column(self, name: str) -> np.ndarray:
        """A numeric column, [T, n]."""
        filters = None if self.number is None else [("episode_index", "=", self.number)]
        try:
            array = pq.read_table(self.data, columns=[name], filters=filters)[name]
            array = array.combine_chunks()
            rows = len(array)
            while pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
                # An absent list has no numbers, and those after it would move up.
                if array.null_count:
                    raise ValueError(f"{array.null_count} of its rows are empty")
                widths = pc.unique(pc.list_value_length(array)).to_pylist()
                if len(widths) > 1:
                    raise ValueError(f"its rows have {widths[0]} numbers and {widths[1]}")
                array = array.flatten()
            values: np.ndarray = np.asarray(array.to_numpy(zero_copy_only=False), np.float64)
            return values.reshape(rows, -1)
        except (OSError, pa.ArrowException, ValueError, TypeError) as error:
            raise DataError(
                f"cannot read column '{name}' of {self.data}: {error}",
                hint="the file is damaged; leave it out with --skip-bad",
                where=str(self.data),
            ) from error

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The frames of a view, from its video or from images in the parquet file."""
        for name, path, start in self.videos:
            if name == camera:
                return read_video(path, start=start, count=self.num_frames)
        return self._embedded(camera)

    def _embedded(self, camera: str) -> Iterator[np.ndarray]:
        try:
            file = pq.ParquetFile(self.data)
            wanted = [camera] if self.number is None else [camera, "episode_index"]
            for batch in file.iter_batches(_READ, columns=wanted):
                if self.number is not None:
                    batch = batch.filter(pc.equal(batch["episode_index"], self.number))
                for cell in batch[camera].to_pylist():
                    yield self._picture(cell or {}, camera)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DataError(
                f"cannot read the frames '{camera}' of {self.data}: {error}",
                hint="the file is damaged; leave it out with --skip-bad",
                where=str(self.data),
            ) from error

    def _picture(self, cell: Mapping[str, Any], camera: str) -> np.ndarray:
        """From the bytes of a cell, or from the file it names."""
        content = cell.get("bytes")
        if content is None and cell.get("path"):
            content = inside(self.root, str(cell["path"])).read_bytes()
        buffer = np.frombuffer(content or b"", np.uint8)
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if len(buffer) else None
        if image is None:
            raise DataError(
                f"{self.data}: a frame of '{camera}' is no image",
                hint="leave the episode out with --skip-bad",
                where=str(self.data),
            )
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


class LeRobotReader:
    """meta/info.json with codebase_version v2.0, v2.1 or v3.0."""

    name = "lerobot"
    looked_for = "meta/info.json with a codebase_version (LeRobot v2.0, v2.1, v3.0)"

    def detect(self, path: Path) -> bool:
        """Whether it is, or holds, a LeRobot dataset."""
        return path.is_dir() and bool(find_roots(path, str(INFO)))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """The episodes of every dataset at or below the path, in order of their number."""
        roots = find_roots(path, str(INFO))
        found: list[EpisodeFile] = []
        for root in roots:
            prefix = "" if len(roots) == 1 else f"{root.relative_to(path)}/"
            found += _of_dataset(root, prefix, on_bad)
        return found


def _of_dataset(root: Path, prefix: str, on_bad: OnBad | None) -> list[LeRobotEpisode]:
    info = read_info(root)
    try:
        return _episodes(root, info, prefix, on_bad)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{root / INFO} or a table beside it is not what LeRobot writes: {error!r}",
            hint="copy the folder meta/ again",
            where=str(root / INFO),
        ) from error


def _episodes(
    root: Path, info: dict[str, Any], prefix: str, on_bad: OnBad | None
) -> list[LeRobotEpisode]:
    version = str(info.get("codebase_version", ""))
    if version.startswith("v2."):
        parts = describe_v2(root, info, on_bad)
        warnings = count_warnings(info, parts)
    elif version.startswith("v3."):
        parts = describe_v3(root, info, on_bad)
        warnings = file_warnings(parts)
    else:
        raise DataError(
            f"{root} is LeRobot '{version}'; v2.0, v2.1 and v3.0 can be read",
            hint="LeRobot's own scripts bring older datasets up to date",
            where=str(root / INFO),
        )
    if not parts:
        return []
    lines = [*contradictions(info, parts), *warnings]
    for part in parts:
        lines += [line for line in part.warnings if line not in lines]
    meta = tuple(p for p in sorted((root / INFO).parent.rglob("[!.]*")) if p.is_file())
    return [
        LeRobotEpisode(
            root=root,
            name=f"{prefix}episode_{part.number}",
            num_frames=part.num_frames,
            data=part.data,
            number=part.number if version.startswith("v3.") else None,
            videos=part.videos,
            meta=meta,
            images=part.images,
            columns=part.columns,
            defaults=ColumnMap(
                state=_present("observation.state", part.columns),
                action=_present("action", part.columns),
                rate=part.rate,
                task=part.task,
            ),
            # The first episode bears what is wrong with the dataset.
            warnings=tuple(lines) if part is parts[0] else (),
        )
        for part in parts
    ]


def _present(name: str, columns: tuple[str, ...]) -> tuple[str, ...] | None:
    return (name,) if name in columns else None
