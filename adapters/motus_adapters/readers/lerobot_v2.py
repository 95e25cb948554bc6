"""LeRobot v2.0 and v2.1: one parquet file and one video a camera for each episode."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from motus_adapters.readers.base import OnBad, natural_key
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

_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def describe_v2(root: Path, info: dict[str, Any], on_bad: OnBad | None) -> list[EpisodeParts]:
    """The episodes whose data files lie on the disk, in order of their number.

    Raises:
        DataError: There are none, or one is damaged and `on_bad` is None.
    """
    paths = sorted((root / "data").rglob("episode_*.parquet"), key=lambda p: natural_key(p.name))
    if not paths:
        raise DataError(f"{root} has no data/**/episode_*.parquet", where=str(root))
    listed = {int(e["episode_index"]): e for e in _lines(root / "meta/episodes.jsonl")}
    tasks = {int(t["task_index"]): str(t["task"]) for t in _lines(root / "meta/tasks.jsonl")}
    rate = rate_of(root, info)
    found: list[EpisodeParts] = []
    for path in paths:
        number = int(re.sub(r"\D", "", path.stem))
        try:
            schema, length = schema_of(path)
        except DataError as error:
            if on_bad is None:
                raise
            on_bad(f"episode_{number}", error)
            continue
        stated = listed.get(number, {})
        warnings = []
        if stated.get("length") not in (None, length):
            warnings.append(
                f"episodes.jsonl: episode {number} has {stated['length']} frames, its file {length}"
            )
        found.append(
            EpisodeParts(
                number=number,
                num_frames=length,
                data=path,
                videos=_videos(root, info, number),
                images=image_columns(schema),
                columns=numeric_columns(schema),
                rate=rate,
                task=_task(path, tasks, stated.get("tasks") or []),
                warnings=tuple(warnings),
            )
        )
    return _with_warnings(info, found)


def _with_warnings(info: dict[str, Any], found: list[EpisodeParts]) -> list[EpisodeParts]:
    """The first episode bears the warnings about the dataset."""
    if not found:
        return found
    first = found[0]
    schema, _ = schema_of(first.data)
    timestamps = None
    if "timestamp" in schema.names:
        timestamps = np.asarray(pq.read_table(first.data, columns=["timestamp"])["timestamp"])
    lines = contradictions(
        info,
        episodes=len(found),
        frames=sum(part.num_frames for part in found),
        schema=schema,
        timestamps=timestamps,
        videos=first.videos,
    )
    count = sum(len(part.videos) for part in found)
    if info.get("total_videos") not in (None, count):
        lines.append(f"info.json: total_videos is {info['total_videos']}, there are {count} files")
    fields = {**vars(first), "warnings": (*lines, *first.warnings)}
    return [EpisodeParts(**fields), *found[1:]]


def _videos(root: Path, info: dict[str, Any], number: int) -> tuple[tuple[str, Path, float], ...]:
    template = info.get("video_path") or _VIDEO
    chunk = number // int(info.get("chunks_size") or 1000)
    found = []
    for key in video_features(info):
        try:
            relative = template.format(episode_chunk=chunk, video_key=key, episode_index=number)
        except (KeyError, IndexError, ValueError) as error:
            raise DataError(
                f"{root}/meta/info.json: video_path '{template}' cannot be filled in: {error}",
                where=str(root / "meta/info.json"),
            ) from error
        path = inside(root, relative)
        if path.is_file():
            found.append((key, path, 0.0))
    return tuple(found)


def _task(path: Path, tasks: dict[int, str], listed: list[str]) -> str | None:
    """The rows decide; the list of episodes.jsonl mixes in labels such as 'valid'."""
    if "task_index" in pq.read_schema(path).names:
        indices = np.asarray(pq.read_table(path, columns=["task_index"])["task_index"])
        values, counts = np.unique(indices, return_counts=True)
        task = tasks.get(int(values[counts.argmax()]))
        if task is not None:
            return task
    return str(listed[0]) if listed else None


def _lines(path: Path) -> list[dict[str, Any]]:
    """A JSON-lines file; none if it is missing."""
    if not path.is_file():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", where=str(path)) from error
    return rows
