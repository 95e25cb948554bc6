"""LeRobot v2.0 and v2.1: one parquet file and one video a camera for each episode."""

import json
import re
from pathlib import Path
from typing import Any

from motus_adapters.readers.base import OnBad, natural_key
from motus_adapters.readers.lerobot_meta import (
    EpisodeParts,
    facts_of,
    filled,
    image_columns,
    numeric_columns,
    rate_of,
    row_warnings,
    schema_of,
    task_of,
    video_features,
)
from motus_adapters.readers.videos import video_of
from motus_embodiments import DataError

_CHUNK = 1000  # episodes a folder, where nothing else is said
_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def describe_v2(root: Path, info: dict[str, Any], on_bad: OnBad | None) -> list[EpisodeParts]:
    """The episodes whose data files lie on the disk, in order of their number.

    Raises:
        DataError: There are none, or one is damaged and `on_bad` is None.
    """
    paths = sorted((root / "data").rglob("episode_*.parquet"), key=lambda p: natural_key(p.name))
    if not paths:
        raise DataError(
            f"{root} has no data/**/episode_*.parquet",
            hint="was the copy complete?",
            where=str(root),
        )
    listed = _by_number(root / "meta/episodes.jsonl", "episode_index")
    tasks = {
        number: str(row.get("task"))
        for number, row in _by_number(root / "meta/tasks.jsonl", "task_index").items()
    }
    rate = rate_of(root, info)
    found: list[EpisodeParts] = []
    for path in paths:
        number = int(re.sub(r"\D", "", path.stem) or 0)
        try:
            found.append(_describe(root, info, path, number, listed.get(number, {}), tasks, rate))
        except DataError as error:
            if on_bad is None:
                raise
            on_bad(f"episode_{number}", error)
    return found


def count_warnings(info: dict[str, Any], found: list[EpisodeParts]) -> list[str]:
    """What v2 alone counts in info.json."""
    count = sum(len(part.videos) for part in found)
    if info.get("total_videos") in (None, count):
        return []
    return [f"info.json: total_videos is {info['total_videos']}, there are {count} files"]


def _describe(
    root: Path,
    info: dict[str, Any],
    path: Path,
    number: int,
    stated: dict[str, Any],
    tasks: dict[int, str],
    rate: float,
) -> EpisodeParts:
    schema, length = schema_of(path)
    if length == 0:
        raise DataError(f"{path} has no row", hint="leave it out with --skip-bad", where=str(path))
    warnings: list[str] = []
    if stated.get("length") not in (None, length):
        warnings.append(
            f"episodes.jsonl: episode {number} has {stated['length']} frames, its file {length}"
        )
    facts = facts_of(path, schema)
    videos = _videos(root, info, number)
    for _, video, _ in videos:
        video_of(video, length, warnings)
    return EpisodeParts(
        number=number,
        num_frames=length,
        data=path,
        videos=videos,
        images=image_columns(schema),
        columns=numeric_columns(schema),
        rate=rate,
        task=task_of(facts.get("task_index"), tasks, stated.get("tasks"), warnings),
        warnings=(*warnings, *row_warnings(facts, rate)),
    )


def _videos(root: Path, info: dict[str, Any], number: int) -> tuple[tuple[str, Path, float], ...]:
    size = info.get("chunks_size", _CHUNK)
    if not isinstance(size, int) or size <= 0:
        place = root / "meta" / "info.json"
        raise DataError(
            f"{place}: chunks_size is {size!r}, not a number of episodes",
            hint="copy the dataset's meta folder again",
            where=str(place),
        )
    chunk = number // size
    found = []
    for key in video_features(info):
        values = {"episode_chunk": chunk, "video_key": key, "episode_index": number}
        path = filled(root, (info.get("video_path"), _VIDEO), values)
        if path.is_file():
            found.append((key, path, 0.0))
    return tuple(found)


def _by_number(path: Path, key: str) -> dict[int, dict[str, Any]]:
    """The tables of a JSON-lines file by their number; none if it is missing."""
    if not path.is_file():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # a text may hold other line ends
        rows = [json.loads(line) for line in lines if line.strip()]
        return {int(row[key]): row for row in rows}
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise DataError(
            f"cannot read {path}: {error}", hint="copy it again", where=str(path)
        ) from error
