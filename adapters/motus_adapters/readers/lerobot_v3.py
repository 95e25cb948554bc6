"""LeRobot v3.0: many episodes in each parquet and video file."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motus_adapters.readers.lerobot_meta import (
    EpisodeParts,
    contradictions,
    image_columns,
    inside,
    numeric_columns,
    rate_of,
    schema_of,
    video_features,
)
from motus_embodiments import DataError

_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def describe_v3(root: Path, info: dict[str, Any]) -> list[EpisodeParts]:
    """The episodes of meta/episodes, in order of their number.

    Raises:
        DataError: The episode table or a data file is missing or damaged.
    """
    rows = sorted(_episode_rows(root), key=lambda row: int(row["episode_index"]))
    rate = rate_of(root, info)
    schemas: dict[Path, pa.Schema] = {}
    found: list[EpisodeParts] = []
    for row in rows:
        data = inside(root, _fill(info.get("data_path") or _DATA, row, "data", None))
        if data not in schemas:
            schemas[data] = schema_of(data)[0]
        found.append(
            EpisodeParts(
                number=int(row["episode_index"]),
                num_frames=int(row["length"]),
                data=data,
                videos=_videos(root, info, row),
                images=image_columns(schemas[data]),
                columns=numeric_columns(schemas[data]),
                rate=rate,
                task=str(row["tasks"][0]) if row.get("tasks") else None,
                warnings=(),
            )
        )
    return _with_warnings(root, info, found)


def _with_warnings(
    root: Path, info: dict[str, Any], found: list[EpisodeParts]
) -> list[EpisodeParts]:
    if not found:
        raise DataError(f"{root} has no episodes", where=str(root))
    first = found[0]
    schema, _ = schema_of(first.data)
    timestamps = None
    if "timestamp" in schema.names:
        one = [("episode_index", "=", first.number)]
        table = pq.read_table(first.data, columns=["timestamp"], filters=one)
        timestamps = np.asarray(table["timestamp"])
    lines = contradictions(
        info,
        episodes=len(found),
        frames=sum(part.num_frames for part in found),
        schema=schema,
        timestamps=timestamps,
        videos=first.videos,
    )
    fields = {**vars(first), "warnings": (*lines, *first.warnings)}
    return [EpisodeParts(**fields), *found[1:]]


def _episode_rows(root: Path) -> list[dict[str, Any]]:
    paths = sorted((root / "meta/episodes").glob("*/*.parquet"))
    if not paths:
        raise DataError(f"{root} has no meta/episodes/*/*.parquet", where=str(root))
    rows: list[dict[str, Any]] = []
    for path in paths:
        names = [name for name in schema_of(path)[0].names if not name.startswith("stats/")]
        rows += pq.read_table(path, columns=names).to_pylist()
    return rows


def _videos(
    root: Path, info: dict[str, Any], row: dict[str, Any]
) -> tuple[tuple[str, Path, float], ...]:
    found = []
    for key in video_features(info):
        if f"videos/{key}/file_index" not in row:
            continue
        template = info.get("video_path") or _VIDEO
        path = inside(root, _fill(template, row, f"videos/{key}", key))
        if path.is_file():
            found.append((key, path, float(row[f"videos/{key}/from_timestamp"])))
    return tuple(found)


def _fill(template: str, row: dict[str, Any], prefix: str, key: str | None) -> str:
    try:
        return template.format(
            video_key=key,
            chunk_index=int(row[f"{prefix}/chunk_index"]),
            file_index=int(row[f"{prefix}/file_index"]),
        )
    except (KeyError, IndexError, ValueError) as error:
        raise DataError(
            f"meta/info.json: path '{template}' cannot be filled in: {error}"
        ) from error
