"""What LeRobot's versions share: the schema of the data files, and metadata held against them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motus_adapters.files import read_json
from motus_adapters.readers.videos import look_at
from motus_embodiments import DataError

INFO = Path("meta/info.json")
_FACTS = ("timestamp", "frame_index", "task_index")


@dataclass(frozen=True)
class EpisodeParts:
    """An episode as the metadata and the files together tell it."""

    number: int
    num_frames: int
    data: Path
    videos: tuple[tuple[str, Path, float], ...]
    images: tuple[str, ...]
    columns: tuple[str, ...]
    rate: float
    task: str | None
    warnings: tuple[str, ...]


def read_info(root: Path) -> dict[str, Any]:
    """meta/info.json, its features being tables.

    Raises:
        DataError: It is missing or no such document.
    """
    path = root / INFO
    info = read_json(path)
    features = info.get("features", {}) if isinstance(info, dict) else None
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise DataError(
            f"{path} is not what LeRobot writes: its features are no table of tables",
            hint="copy it again",
            where=str(path),
        )
    return info


def inside(root: Path, relative: str) -> Path:
    """A path of the metadata, which must not climb out of the dataset.

    A link on the way may: Hugging Face's cache keeps all files so.

    Raises:
        DataError: It does.
    """
    path = root / relative
    if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root)):
        raise DataError(
            f"{root}/{INFO} names {relative}, outside the dataset",
            hint="the dataset's metadata is wrong; mend the paths in it",
            where=str(root / INFO),
        )
    return path


def filled(root: Path, templates: Sequence[str | None], values: Mapping[str, Any]) -> Path:
    """The first path template whose file exists, or the first; info.json's own come before ours.

    Raises:
        DataError: A template names something that is not known.
    """
    paths = []
    for template in templates:
        if not template:
            continue
        try:
            paths.append(inside(root, str(template).format(**values)))
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise DataError(
                f"{root}/{INFO}: path '{template}' cannot be filled in: {error}",
                hint="the dataset's metadata is wrong; mend the paths in it",
                where=str(root / INFO),
            ) from error
    return next((path for path in paths if path.is_file()), paths[0])


def read_columns(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of a parquet file; None for all.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def schema_of(path: Path) -> tuple[pa.Schema, int]:
    """Arrow schema and number of rows of a parquet file.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        file = pq.ParquetFile(path)
        return file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def facts_of(path: Path, schema: pa.Schema, extra: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The columns about time and task that a data file has, as float64 (nan where null)."""
    names = [name for name in (*_FACTS, *extra) if name in schema.names]
    table = read_columns(path, names)
    try:
        return {name: np.asarray(table[name].to_numpy(), np.float64) for name in names}
    except (TypeError, ValueError) as error:
        raise _unreadable(path, error) from error


def numeric_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Columns of numbers or of lists of numbers."""
    return tuple(field.name for field in schema if _is_numeric(field.type))


def image_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Columns of structs {bytes, path}, LeRobot's embedded images."""
    return tuple(
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    )


def rate_of(root: Path, info: dict[str, Any]) -> float:
    """Frames a second as info.json says.

    Raises:
        DataError: It says nothing sensible.
    """
    rate = info.get("fps")
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 10_000:
        raise DataError(
            f"{root}/{INFO}: fps is {rate!r}",
            hint="write the true rate into it",
            where=str(root / INFO),
        )
    return float(rate)


def video_features(info: dict[str, Any]) -> tuple[str, ...]:
    """Names of the features that info.json calls videos."""
    features = info.get("features", {})
    return tuple(name for name, spec in features.items() if spec.get("dtype") == "video")


def task_of(
    indices: np.ndarray | None, tasks: Mapping[int, str], listed: Any, warnings: list[str]
) -> str | None:
    """What most rows of an episode were told; lists of episodes mix in labels such as 'valid'."""
    known = indices[np.isfinite(indices)].astype(int) if indices is not None else np.zeros(0, int)
    values, counts = np.unique(known, return_counts=True)
    if len(values) > 1:
        warnings.append("some episodes have several tasks; the one of most frames is taken")
    task = tasks.get(int(values[counts.argmax()])) if len(values) else None
    if task is not None:
        return task
    return str(listed[0]) if isinstance(listed, list) and listed else None


def row_warnings(facts: Mapping[str, np.ndarray], rate: float) -> list[str]:
    """Where the rows of one episode contradict their own order or the rate."""
    lines = []
    frames, times = facts.get("frame_index"), facts.get("timestamp")
    if frames is not None and not np.array_equal(frames, np.arange(len(frames))):
        lines.append("frame_index does not count from 0 in some episodes; rows keep their order")
    if times is None or len(times) == 0:
        return lines
    if not abs(times[0]) <= 1e-3:
        lines.append(f"timestamps begin at {times[0]:.3f} s; the frame index is believed")
    if len(times) > 1:
        steps = np.diff(times) * rate
        real = rate / max(1e-9, float(np.median(steps)))
        if not abs(real / rate - 1) <= 0.01:
            lines.append(f"timestamps run at {real:g} Hz, info.json says {rate:g}")
        elif np.abs(steps - np.median(steps)).max() > 0.5:
            lines.append("timestamps jump in some episodes; the frame index is believed")
    return lines


def contradictions(info: dict[str, Any], found: Sequence[EpisodeParts]) -> list[str]:
    """Where info.json and the files tell different things; shapes are judged on one episode."""
    first = found[0]
    schema, _ = schema_of(first.data)
    lines = []
    episodes, frames = len(found), sum(part.num_frames for part in found)
    for key, truth in (("total_episodes", episodes), ("total_frames", frames)):
        if info.get(key) not in (None, truth):
            lines.append(f"info.json: {key} is {info[key]}, the files have {truth}")
    present = {camera for part in found for camera, _, _ in part.videos}
    for name in video_features(info):
        if name not in present:
            lines.append(f"info.json lists the video '{name}', but there is no file of it")
    for split, span in (info.get("splits") or {}).items():
        stop = str(span).rpartition(":")[2]
        if stop.isdigit() and int(stop) > episodes:
            lines.append(f"info.json: split '{split}' is {span}, there are {episodes} episodes")
    if "frame_index" not in schema.names:
        lines.append("the data has no frame_index; rows are taken in their order")
    if "timestamp" not in schema.names:
        lines.append("the data has no timestamp; the rate of info.json is believed")
    for camera, path, _ in first.videos:
        video = look_at(path)
        shape = info["features"][camera].get("shape") or []
        if len(shape) == 3 and {video.height, video.width} - set(shape):
            size = f"{video.width}x{video.height}"
            lines.append(f"info.json: '{camera}' is {shape}, its video is {size}")
        if video.rate and abs(video.rate / first.rate - 1) > 0.01:
            lines.append(f"'{camera}' plays at {video.rate:g} Hz, info.json says {first.rate:g}")
    return lines


def _is_numeric(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_numeric(kind.value_type)
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"cannot read {path}: {error}",
        hint="the file is missing or damaged; copy it again, or leave it out with --skip-bad",
        where=str(path),
    )
