"""What LeRobot's versions share: the schema of the data files, and metadata held against them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motus_adapters.video import probe_video
from motus_embodiments import DataError


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


def inside(root: Path, relative: str) -> Path:
    """A path of the metadata, which must not climb out of the dataset.

    Raises:
        DataError: It does.
    """
    path = root / relative
    if not path.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"{root}/meta/info.json names {relative}, outside the dataset", where=str(root)
        )
    return path


def schema_of(path: Path) -> tuple[pa.Schema, int]:
    """Arrow schema and number of rows of a parquet file.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        file = pq.ParquetFile(path)
        return file.schema_arrow, file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"cannot read {path}: {error}",
            hint="the file is missing or cut short; leave it out with --skip-bad",
            where=str(path),
        ) from error


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
    if not isinstance(rate, int | float) or not 0 < rate < 10_000:
        raise DataError(
            f"{root}/meta/info.json: fps is {rate!r}",
            hint="give the true rate with --rate",
            where=str(root / "meta/info.json"),
        )
    return float(rate)


def video_features(info: dict[str, Any]) -> tuple[str, ...]:
    """Names of the features that info.json calls videos."""
    features = info.get("features", {})
    return tuple(name for name, spec in features.items() if spec.get("dtype") == "video")


def contradictions(
    info: dict[str, Any],
    *,
    episodes: int,
    frames: int,
    schema: pa.Schema,
    timestamps: np.ndarray | None,
    videos: tuple[tuple[str, Path, float], ...],
) -> list[str]:
    """Where info.json and the files tell different things, judged on the first episode.

    Args:
        info: info.json.
        episodes: Episodes found.
        frames: Rows found.
        schema: Schema of the first data file.
        timestamps: Of the first episode, in s; None if the column is missing.
        videos: Of the first episode.
    """
    lines = []
    for key, truth in (("total_episodes", episodes), ("total_frames", frames)):
        if info.get(key) not in (None, truth):
            lines.append(f"info.json: {key} is {info[key]}, the files have {truth}")
    present = {camera for camera, _, _ in videos}
    for name in video_features(info):
        if name not in present:
            lines.append(f"info.json lists the video '{name}', but there is no file of it")
    for split, span in (info.get("splits") or {}).items():
        stop = str(span).rpartition(":")[2]
        if stop.isdigit() and int(stop) > episodes:
            lines.append(f"info.json: split '{split}' is {span}, there are {episodes} episodes")
    if "frame_index" not in schema.names:
        lines.append("the data has no frame_index; rows are taken in their order")
    rate = float(info.get("fps") or 0)
    lines += _timing(rate, timestamps)
    for camera, path, _ in videos:
        height, width, _, video_rate = probe_video(path)
        shape = info.get("features", {}).get(camera, {}).get("shape") or []
        if len(shape) == 3 and {height, width} - set(shape):
            lines.append(f"info.json: '{camera}' is {shape}, its video is {width}x{height}")
        if rate and abs(video_rate / rate - 1) > 0.01:
            lines.append(f"'{camera}' plays at {video_rate:g} Hz, info.json says {rate:g}")
    return lines


def _timing(rate: float, timestamps: np.ndarray | None) -> list[str]:
    if timestamps is None:
        return ["the data has no timestamp; the rate of info.json is believed"]
    lines = []
    if abs(timestamps[0]) > 1e-3:
        lines.append(f"timestamps begin at {timestamps[0]:.3f} s; the frame index is believed")
    if len(timestamps) > 1 and rate:
        real = 1.0 / max(1e-9, float(np.median(np.diff(timestamps))))
        if abs(real / rate - 1) > 0.01:
            lines.append(f"timestamps run at {real:g} Hz, info.json says {rate:g}")
    return lines


def _is_numeric(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_numeric(kind.value_type)
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )
