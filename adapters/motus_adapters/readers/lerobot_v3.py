"""LeRobot v3.0: many episodes in each parquet and video file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from motus_adapters.readers.base import OnBad
from motus_adapters.readers.lerobot_meta import (
    EpisodeParts,
    facts_of,
    filled,
    image_columns,
    numeric_columns,
    rate_of,
    read_columns,
    row_warnings,
    schema_of,
    task_of,
    video_features,
)
from motus_adapters.readers.videos import look_at
from motus_embodiments import DataError

_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_TASKS = Path("meta/tasks.parquet")


def describe_v3(root: Path, info: dict[str, Any], on_bad: OnBad | None) -> list[EpisodeParts]:
    """The episodes of meta/episodes, in order of their number.

    Raises:
        DataError: The episode table is missing or damaged; or an episode is and `on_bad` is None.
    """
    rows = sorted(_episode_rows(root), key=lambda row: int(row["episode_index"]))
    rate, tasks = rate_of(root, info), _tasks(root)
    files: dict[Path, _DataFile] = {}
    found: list[EpisodeParts] = []
    for row in rows:
        number = int(row["episode_index"])
        try:
            data = filled(root, (info.get("data_path"), _DATA), _place(row, "data"))
            if data not in files:
                files[data] = _data_file(data)
            found.append(_describe(root, info, row, data, files[data], tasks, rate))
        except DataError as error:
            if on_bad is None:
                raise
            on_bad(f"episode_{number}", error)
    return found


def file_warnings(found: list[EpisodeParts]) -> list[str]:
    """Videos that hold more frames than their episodes, which shifts every later episode."""
    wanted: dict[tuple[str, Path], int] = {}
    for part in found:
        for camera, path, _ in part.videos:
            wanted[camera, path] = wanted.get((camera, path), 0) + part.num_frames
    lines = []
    for (camera, path), rows in wanted.items():
        frames = look_at(path).frames
        if frames != rows:
            lines.append(f"'{camera}': {path.name} has {frames} frames for {rows} rows of data")
    return lines


@dataclass(frozen=True)
class _DataFile:
    """Schema of a data file, and what its rows say about time and task."""

    path: Path
    schema: pa.Schema
    facts: Mapping[str, np.ndarray]

    def rows_of(self, number: int) -> Mapping[str, np.ndarray]:
        """The same of one episode."""
        own = self.facts["episode_index"] == number
        return {name: values[own] for name, values in self.facts.items()}


def _data_file(path: Path) -> _DataFile:
    schema, _ = schema_of(path)
    if "episode_index" not in schema.names:
        raise DataError(
            f"{path} has no episode_index, so its episodes cannot be told apart",
            hint="was it written by LeRobot?",
            where=str(path),
        )
    return _DataFile(path, schema, facts_of(path, schema, ("episode_index",)))


def _describe(
    root: Path,
    info: dict[str, Any],
    row: dict[str, Any],
    data: Path,
    file: _DataFile,
    tasks: Mapping[int, str],
    rate: float,
) -> EpisodeParts:
    number = int(row["episode_index"])
    facts = file.rows_of(number)
    length = len(facts["episode_index"])
    if length == 0:
        raise DataError(
            f"{data} has no row of episode {number}",
            hint="leave it out with --skip-bad",
            where=str(data),
        )
    warnings: list[str] = []
    if row.get("length") not in (None, length):
        warnings.append(
            f"meta/episodes: episode {number} has {row['length']} frames, its file {length}"
        )
    return EpisodeParts(
        number=number,
        num_frames=length,
        data=data,
        videos=_videos(root, info, row, (length, rate), warnings),
        images=image_columns(file.schema),
        columns=numeric_columns(file.schema),
        rate=rate,
        task=task_of(facts.get("task_index"), tasks, row.get("tasks"), warnings),
        warnings=(*warnings, *row_warnings(facts, rate)),
    )


def _videos(
    root: Path,
    info: dict[str, Any],
    row: dict[str, Any],
    span: tuple[int, float],
    warnings: list[str],
) -> tuple[tuple[str, Path, float], ...]:
    found, (length, rate) = [], span
    for key in video_features(info):
        prefix = f"videos/{key}"
        if row.get(f"{prefix}/file_index") is None:
            continue
        templates = (info.get("video_path"), _VIDEO)
        path = filled(root, templates, {"video_key": key, **_place(row, prefix)})
        if not path.is_file():
            continue
        start, stop = (row.get(f"{prefix}/{edge}_timestamp") for edge in ("from", "to"))
        start = float(start or 0.0)
        if stop is not None and abs((float(stop) - start) * rate - length) > 1.5:
            warnings.append(f"meta/episodes: '{key}' has other lengths than its episodes")
        found.append((key, path, start))
    return tuple(found)


def _place(row: dict[str, Any], prefix: str) -> dict[str, int]:
    """Chunk and file of an episode's data or video."""
    names = ("chunk_index", "file_index")
    return {name: int(row.get(f"{prefix}/{name}") or 0) for name in names}


def _episode_rows(root: Path) -> list[dict[str, Any]]:
    paths = sorted((root / "meta/episodes").glob("*/[!.]*.parquet"))
    rows: list[dict[str, Any]] = []
    for path in paths:
        names = [name for name in schema_of(path)[0].names if not name.startswith("stats/")]
        rows += read_columns(path, names).to_pylist()
    if not rows or any(row.get("episode_index") is None for row in rows):
        what = "an episode without a number" if rows else "no episodes"
        raise DataError(
            f"{root} has {what} in meta/episodes/*/*.parquet",
            hint="was the copy complete? LeRobot writes this table when it finalizes a dataset",
            where=str(root / "meta/episodes"),
        )
    return rows


def _tasks(root: Path) -> dict[int, str]:
    """task_index -> text; the text is pandas' index, whose column has no fixed name."""
    path = root / _TASKS
    if not path.is_file():
        return {}
    table = read_columns(path)
    name = next((n for n in table.column_names if n != "task_index"), None)
    if name is None or "task_index" not in table.column_names:
        return {}
    indices, texts = table["task_index"].to_pylist(), table[name].to_pylist()
    return {int(index): str(text) for index, text in zip(indices, texts, strict=True)}
