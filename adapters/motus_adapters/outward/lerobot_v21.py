"""LeRobot v2.1: one parquet file and one video a camera for each episode.

Layout: huggingface/lerobot at v2.1, as its convert_dataset_v21_to_v30.py reads it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motus_adapters.files import write_json
from motus_adapters.outward.episodes import OutEpisode, Plan
from motus_adapters.unified.statistics import QUANTILES, Pixels, Stats, episode_stats
from motus_adapters.unified.video import VideoWriter
from motus_embodiments import DataError

_CHUNK = 1000  # episodes a folder, LeRobot's default
_DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
_VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
_FEATURES = {"state": "observation.state", "action": "action"}
_COUNTERS = ("frame_index", "episode_index", "index", "task_index")


def write(folder: Path, plan: Plan, episodes: Iterator[OutEpisode]) -> None:
    """Write the dataset; info.json comes last."""
    (folder / "meta").mkdir(parents=True)
    lists = {name: folder / f"meta/{name}.jsonl" for name in ("episodes", "episodes_stats")}
    start = 0
    with open(lists["episodes"], "w") as listed, open(lists["episodes_stats"], "w") as told:
        for episode in episodes:
            columns = _columns(plan, episode, start)
            stats = {name: _plain(episode_stats(_matrix(v))) for name, v in columns.items()}
            _write_rows(_path(folder, _DATA, episode.index), columns)
            stats |= _write_videos(folder, plan, episode)
            row = {"episode_index": episode.index, "tasks": [episode.task]}
            listed.write(json.dumps({**row, "length": episode.length}) + "\n")
            told.write(json.dumps({"episode_index": episode.index, "stats": stats}) + "\n")
            start += episode.length
    tasks = [{"task_index": i, "task": task} for i, task in enumerate(plan.tasks)]
    lines = "".join(json.dumps(task) + "\n" for task in tasks)
    (folder / "meta/tasks.jsonl").write_text(lines)
    write_json(folder / "meta/info.json", _info(plan))


def _columns(plan: Plan, episode: OutEpisode, start: int) -> dict[str, np.ndarray]:
    count = np.arange(episode.length)
    columns: dict[str, np.ndarray] = {
        _FEATURES[kind]: values.astype(np.float32) for kind, values in episode.numbers.items()
    }
    columns["timestamp"] = (count / plan.rate).astype(np.float32)
    columns["frame_index"] = count
    columns["episode_index"] = np.full(episode.length, episode.index)
    columns["index"] = count + start
    columns["task_index"] = np.full(episode.length, plan.tasks.index(episode.task))
    return columns


def _write_rows(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name, values in columns.items():
        flat = pa.array(values.ravel())
        wide = values.ndim == 2 and values.shape[1] > 1  # one number is no list to LeRobot
        arrays[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1]) if wide else flat
    # Through memory, since pyarrow keeps a file open when the disk is full.
    stream = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), stream)
    path.write_bytes(stream.getvalue())


def _write_videos(folder: Path, plan: Plan, episode: OutEpisode) -> dict[str, Stats]:
    """One pass over the frames; the statistics of each view."""
    writers: dict[str, VideoWriter] = {}
    pixels = {camera: Pixels() for camera in plan.cameras}
    try:
        for camera, (height, width) in plan.cameras.items():
            path = _path(folder, _VIDEO, episode.index, camera)
            path.parent.mkdir(parents=True, exist_ok=True)
            writers[camera] = VideoWriter(path, plan.rate, (width, height))
        for views in episode.frames:
            for camera, view in views.items():
                writers[camera].add(view)
                pixels[camera].add(view)
        for writer in writers.values():
            writer.close()
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        raise
    short = next((c for c, seen in pixels.items() if seen.frames != episode.length), None)
    if short is not None:
        raise DataError(
            f"episode {episode.index}: '{short}' has {pixels[short].frames} frames "
            f"of {episode.length}",
            hint="the dataset is damaged; convert the recordings again",
        )
    return {_key(camera): _plain(seen.result()) for camera, seen in pixels.items()}


def _plain(stats: Stats) -> Stats:
    """v2.1 has no quantiles."""
    return {name: values for name, values in stats.items() if name not in QUANTILES}


def _matrix(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1)


def _key(camera: str) -> str:
    return f"observation.images.{camera}"


def _path(folder: Path, template: str, episode: int, camera: str = "") -> Path:
    values = {"episode_chunk": episode // _CHUNK, "episode_index": episode}
    return folder / template.format(video_key=_key(camera), **values)


def _info(plan: Plan) -> dict[str, Any]:
    rate = int(plan.rate) if plan.rate == int(plan.rate) else plan.rate
    features: dict[str, Any] = {}
    for kind, names in (("state", plan.state), ("action", plan.action)):
        if names:
            spec = {"dtype": "float32", "shape": [len(names)], "names": list(names)}
            features[_FEATURES[kind]] = spec
    for camera, (height, width) in plan.cameras.items():
        features[_key(camera)] = {
            "dtype": "video",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
            "info": {
                "video.height": height,
                "video.width": width,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": rate,
                "video.channels": 3,
                "has_audio": False,
            },
        }
    features["timestamp"] = {"dtype": "float32", "shape": [1], "names": None}
    features |= {name: {"dtype": "int64", "shape": [1], "names": None} for name in _COUNTERS}
    return {
        "codebase_version": "v2.1",
        "robot_type": plan.card,
        "total_episodes": plan.num_episodes,
        "total_frames": plan.num_frames,
        "total_tasks": len(plan.tasks),
        "total_videos": plan.num_episodes * len(plan.cameras),
        "total_chunks": -(-plan.num_episodes // _CHUNK),
        "chunks_size": _CHUNK,
        "fps": rate,
        "splits": {"train": f"0:{plan.num_episodes}"},
        "data_path": _DATA,
        "video_path": _VIDEO,
        "features": features,
    }
