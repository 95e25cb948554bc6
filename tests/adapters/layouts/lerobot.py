"""LeRobot datasets v2.0, v2.1 and v3.0."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from layouts.truth import Truth
from layouts.video import write_video


def _info(version: str, episodes: list[Truth], **more: Any) -> dict[str, Any]:
    first = episodes[0]
    features: dict[str, Any] = {
        f"observation.images.{camera}": {"dtype": "video", "shape": list(frames.shape[1:])}
        for camera, frames in first.frames.items()
    }
    for name, values in (("observation.state", first.state), ("action", first.action)):
        features[name] = {"dtype": "float32", "shape": [values.shape[1]]}
    return {
        "codebase_version": version,
        "fps": first.rate,
        "total_episodes": len(episodes),
        "total_frames": sum(len(t.state) for t in episodes),
        "features": features,
        "chunks_size": 1000,
        **more,
    }


def _table(truth: Truth, episode: int, start: int, task_index: int) -> pa.Table:
    count = len(truth.state)
    return pa.table(
        {
            "observation.state": pa.array(truth.state.tolist(), pa.list_(pa.float32())),
            "action": pa.array(truth.action.tolist(), pa.list_(pa.float32())),
            "timestamp": pa.array((np.arange(count) / truth.rate).astype(np.float32)),
            "frame_index": pa.array(np.arange(count)),
            "episode_index": pa.array(np.full(count, episode)),
            "index": pa.array(np.arange(start, start + count)),
            "task_index": pa.array(np.full(count, task_index)),
        }
    )


def write_lerobot_v2(folder: Path, episodes: list[Truth], version: str = "v2.1") -> Path:
    """One parquet file and one video a camera for each episode."""
    info = _info(
        version,
        episodes,
        data_path="data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        video_path="videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    )
    (folder / "meta").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(info))
    tasks = sorted({str(t.task) for t in episodes})
    lines = [json.dumps({"task_index": i, "task": task}) for i, task in enumerate(tasks)]
    (folder / "meta/tasks.jsonl").write_text("\n".join(lines))
    rows, start = [], 0
    for i, truth in enumerate(episodes):
        rows.append({"episode_index": i, "tasks": [truth.task], "length": len(truth.state)})
        data = folder / f"data/chunk-000/episode_{i:06d}.parquet"
        data.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_table(truth, i, start, tasks.index(str(truth.task))), data)
        start += len(truth.state)
        for camera, frames in truth.frames.items():
            name = f"videos/chunk-000/observation.images.{camera}/episode_{i:06d}.mp4"
            write_video(folder / name, frames, truth.rate or 10)
    (folder / "meta/episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def write_lerobot_v3(folder: Path, episodes: list[Truth]) -> Path:
    """All episodes in one parquet file and one video a camera."""
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    (folder / "meta/info.json").write_text(json.dumps(_info("v3.0", episodes)))
    tables, rows, start = [], [], 0
    for i, truth in enumerate(episodes):
        count = len(truth.state)
        tables.append(_table(truth, i, start, i))
        row = {
            "episode_index": i,
            "tasks": [truth.task],
            "length": count,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": start,
            "dataset_to_index": start + count,
        }
        for camera in truth.frames:
            key = f"videos/observation.images.{camera}"
            row |= {f"{key}/chunk_index": 0, f"{key}/file_index": 0}
            row |= {f"{key}/from_timestamp": start / (truth.rate or 10)}
            row |= {f"{key}/to_timestamp": (start + count) / (truth.rate or 10)}
        rows.append(row)
        start += count
    data = folder / "data/chunk-000/file-000.parquet"
    data.parent.mkdir(parents=True)
    pq.write_table(pa.concat_tables(tables), data)
    pq.write_table(pa.Table.from_pylist(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
    for camera in episodes[0].frames:
        frames = np.concatenate([truth.frames[camera] for truth in episodes])
        name = f"videos/observation.images.{camera}/chunk-000/file-000.mp4"
        write_video(folder / name, frames, episodes[0].rate or 10)
    return folder
