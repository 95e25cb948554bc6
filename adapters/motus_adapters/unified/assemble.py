"""From finished episodes to a LeRobot v3.0 dataset: index, statistics, metadata, manifest.

Every step can be done twice with the same outcome, so a run killed here simply repeats it.
One episode is in memory at a time.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motus_adapters.files import replacing, sync, write_json
from motus_adapters.unified.manifest import CANVAS, Header
from motus_adapters.unified.staging import MANIFEST
from motus_adapters.unified.statistics import Channels, Pixels, Stats

_CHUNK = 1000  # files a folder, LeRobot's default
_PATTERN = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{_PATTERN}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{_PATTERN}.mp4"
EPISODES_PATH = Path("meta/episodes/chunk-000/file-000.parquet")
NOTES = "notes/"  # prefix of the columns that hold an episode's notes
_ROWS = 64  # rows of the episode table held in memory, some 30 kB each
_COUNTERS = ("frame_index", "episode_index", "index", "task_index")


class Piece(Protocol):
    """One finished episode, wherever it lies."""

    def summary(self) -> dict[str, Any]:
        """length, task, source, notes, stats (feature -> statistics)."""
        ...

    def pixels(self) -> Pixels | None:
        """Colour histogram; None where the dataset's image statistics are known already."""
        ...

    def columns(self) -> Mapping[str, np.ndarray]:
        """Feature -> float32 [T, n]."""
        ...

    def place_video(self, target: Path) -> None:
        """Have the episode's video at `target`; done again, it changes nothing."""
        ...


def data_path(episode: int) -> Path:
    """Where the numbers of an episode lie, relative to the dataset."""
    chunk, file = divmod(episode, _CHUNK)
    return Path(DATA_PATH.format(chunk_index=chunk, file_index=file))


def video_path(episode: int) -> Path:
    """Where the canvas video of an episode lies, relative to the dataset."""
    chunk, file = divmod(episode, _CHUNK)
    return Path(VIDEO_PATH.format(video_key=CANVAS, chunk_index=chunk, file_index=file))


def assemble(
    out: Path,
    header: Header,
    pieces: Sequence[Piece],
    *,
    skipped: Sequence[dict[str, str]] = (),
    image_stats: Stats | None = None,
) -> int:
    """Write everything but the videos' content; the manifest comes last.

    Args:
        out: The dataset folder.
        header: What the numbers mean.
        pieces: The episodes in order.
        skipped: Recordings left out, with the reason.
        image_stats: Statistics of the canvas, where pieces bring no pixels.

    Returns:
        The number of frames.
    """
    channels = {feature: Channels() for feature in header.channels}
    pixels, tasks, num_frames = Pixels(), dict[str, int](), 0
    for piece in pieces:
        summary = piece.summary()
        num_frames += int(summary["length"])
        tasks.setdefault(summary["task"], len(tasks))
        for feature, total in channels.items():
            total.add(summary["stats"][feature])
        seen = piece.pixels()
        if seen is not None:
            pixels.merge(seen)
    rows = _write_episodes(out, header, pieces, tasks, channels)
    _write_episode_table(out, rows)
    _write_tasks(out, list(tasks))
    stats = {feature: total.result() for feature, total in channels.items()}
    stats[CANVAS] = image_stats if image_stats is not None else pixels.result()
    write_json(out / "meta/stats.json", stats)
    write_json(out / "meta/info.json", _info(header, len(pieces), num_frames, len(tasks)))
    counts = {"episodes": len(pieces), "frames": num_frames, "skipped": list(skipped)}
    write_json(out / MANIFEST, {**header.to_dict(), **counts})
    sync(out / "meta")
    return num_frames


def _write_episodes(
    out: Path,
    header: Header,
    pieces: Sequence[Piece],
    tasks: dict[str, int],
    channels: dict[str, Channels],
) -> Iterator[dict[str, Any]]:
    start = 0
    for episode, piece in enumerate(pieces):
        summary, columns = piece.summary(), piece.columns()
        length = int(summary["length"])
        for feature, total in channels.items():
            total.fill(columns[feature])
        numbers = {
            "frame_index": np.arange(length),
            "episode_index": np.full(length, episode),
            "index": np.arange(start, start + length),
            "task_index": np.full(length, tasks[summary["task"]]),
        }
        table = {feature: _vectors(columns[feature]) for feature in channels}
        table["timestamp"] = pa.array((np.arange(length) / header.rate).astype(np.float32))
        table |= {name: pa.array(values.astype(np.int64)) for name, values in numbers.items()}
        _write_table(out / data_path(episode), pa.table(table))
        target = out / video_path(episode)
        target.parent.mkdir(parents=True, exist_ok=True)
        piece.place_video(target)
        chunk, file = divmod(episode, _CHUNK)
        yield {
            "episode_index": episode,
            "tasks": [summary["task"]],
            "length": length,
            "source": summary["source"],
            "dataset_from_index": start,
            "dataset_to_index": start + length,
            "data/chunk_index": chunk,
            "data/file_index": file,
            f"videos/{CANVAS}/chunk_index": chunk,
            f"videos/{CANVAS}/file_index": file,
            f"videos/{CANVAS}/from_timestamp": 0.0,
            f"videos/{CANVAS}/to_timestamp": length / header.rate,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
            **_flat_stats(summary["stats"]),
            **{f"{NOTES}{name}": value for name, value in summary["notes"].items()},
        }
        start += length


def _vectors(values: np.ndarray) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    width = values.shape[1]
    # LeRobot stores a feature of shape (1,) as a plain column.
    return flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)


def _flat_stats(stats: dict[str, Stats]) -> dict[str, Any]:
    return {
        f"stats/{feature}/{name}": values
        for feature, entry in sorted(stats.items())
        for name, values in entry.items()
    }


def _write_episode_table(out: Path, rows: Iterator[dict[str, Any]]) -> None:
    first = next(rows)
    schema = pa.Table.from_pylist([first]).schema
    with replacing(out / EPISODES_PATH) as temporary:
        writer = pq.ParquetWriter(temporary, schema, compression="snappy")
        try:
            rows = chain([first], rows)
            while batch := list(islice(rows, _ROWS)):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            writer.close()
        except BaseException:
            writer.is_open = False  # or its destructor would try to write once more
            raise


def _write_tasks(out: Path, tasks: list[str]) -> None:
    """tasks.parquet: LeRobot reads the task text as the index of a pandas frame."""
    columns: list[dict[str, Any]] = [
        {"name": "task_index", "field_name": "task_index", "pandas_type": "int64"},
        {"name": "task", "field_name": "task", "pandas_type": "unicode"},
    ]
    for column, numpy_type in zip(columns, ("int64", "object"), strict=True):
        column |= {"numpy_type": numpy_type, "metadata": None}
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": tasks})
    table = table.replace_schema_metadata({"pandas": json.dumps(pandas)})
    _write_table(out / "meta/tasks.parquet", table)


def _write_table(path: Path, table: pa.Table) -> None:
    """Through memory, since pyarrow keeps a file open when the disk is full."""
    stream = pa.BufferOutputStream()
    pq.write_table(table, stream, compression="snappy")
    with replacing(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def _info(header: Header, episodes: int, frames: int, tasks: int) -> dict[str, Any]:
    rate = int(header.rate) if header.rate == int(header.rate) else header.rate
    features: dict[str, Any] = {
        CANVAS: {
            "dtype": "video",
            "shape": [header.layout.height, header.layout.width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": header.layout.height,
                "video.width": header.layout.width,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.fps": rate,
                "video.channels": 3,
                "is_depth_map": False,
                "has_audio": False,
            },
        }
    }
    for feature, names in header.channels.items():
        features[feature] = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    features |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in _COUNTERS}
    return {
        "codebase_version": "v3.0",
        "robot_type": header.card.name,
        "fps": rate,
        "features": features,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": _CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "splits": {"train": f"0:{episodes}"},
    }
