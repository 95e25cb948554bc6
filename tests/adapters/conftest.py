"""Small recordings in every known layout, written from the layouts' descriptions alone."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

SHARED = Path(__file__).parents[3] / "shared" / "data"


@dataclass(frozen=True)
class Truth:
    """What was written: one episode."""

    frames: dict[str, np.ndarray]  # camera -> uint8 [T, h, w, 3] RGB
    state: np.ndarray
    action: np.ndarray
    task: str | None
    rate: float | None


def make_truth(
    index: int,
    cameras: tuple[str, ...],
    channels: tuple[int, int],
    task: str | None = None,
    rate: float | None = None,
    size: tuple[int, int] = (48, 64),
) -> Truth:
    """A smooth coloured picture that drifts to the right; red left, blue at the bottom."""
    num_frames = 8 + index
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    frames = {}
    for number, camera in enumerate(cameras):
        stack = []
        for t in range(num_frames):
            wave = 60 * np.sin((x - 2 * t) / 9.0 + number) + 60 * np.sin(y / 7.0 + index)
            rgb = np.stack([130 + wave * 0.8, 90 + 0 * x, 40 + 2.5 * y], -1)
            stack.append(np.clip(rgb, 0, 255).astype(np.uint8))
        frames[camera] = np.stack(stack)
    rng = np.random.default_rng(index)
    state = np.cumsum(rng.normal(0, 0.01, (num_frames, channels[0])), 0).astype(np.float32)
    action = np.cumsum(rng.normal(0, 0.01, (num_frames, channels[1])), 0).astype(np.float32)
    return Truth(frames, state, action, task, rate)


def write_act(folder: Path, episodes: list[Truth], *, compress: bool = False) -> Path:
    """tonyzhaozh/act; compressed as MarkFzp/act-plus-plus compress_data.py does."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, truth in enumerate(episodes):
        with h5py.File(folder / f"episode_{i}.hdf5", "w") as h5:
            h5.attrs["sim"] = True
            h5["action"] = truth.action
            h5["observations/qpos"] = truth.state
            h5["observations/qvel"] = np.zeros_like(truth.state)
            lengths = []
            for camera, frames in truth.frames.items():
                name = f"observations/images/{camera}"
                if not compress:
                    h5.create_dataset(name, data=frames, chunks=(1, *frames.shape[1:]))
                    continue
                # RGB goes into cv2.imencode, which takes it for BGR: the layout's colour trap.
                quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
                jpegs = [cv2.imencode(".jpg", frame, quality)[1] for frame in frames]
                lengths.append([len(jpeg) for jpeg in jpegs])
                padded = np.zeros((len(jpegs), max(map(len, jpegs))), np.uint8)
                for row, jpeg in zip(padded, jpegs, strict=True):
                    row[: len(jpeg)] = jpeg
                h5.create_dataset(name, data=padded, chunks=(1, padded.shape[1]))
            if compress:
                h5.attrs["compress"] = True
                h5["compress_len"] = np.asarray(lengths, np.float32)
    return folder


def write_robomimic(path: Path, episodes: list[Truth], *, opengl: bool = False) -> Path:
    """What `motus record` writes: robomimic's layout with rate and task."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as h5:
        data = h5.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Test", "env_kwargs": {}})
        data.attrs["total"] = sum(len(truth.state) for truth in episodes)
        if opengl:
            data.attrs["macros_image_convention"] = "opengl"
        for i, truth in enumerate(episodes):
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = len(truth.state)
            if truth.task is not None:
                demo.attrs["task"] = truth.task
            if truth.rate is not None:
                data.attrs["rate_hz"] = truth.rate
            demo["actions"] = truth.action
            demo["obs/joint_pos"] = truth.state[:, :-1]
            demo["obs/gripper_pos"] = truth.state[:, -1:]
            for camera, frames in truth.frames.items():
                stored = frames[:, ::-1] if opengl else frames
                demo.create_dataset(f"obs/{camera}", data=stored, compression="lzf")
    return path


def write_zarr(path: Path, episodes: list[Truth], *, floats: bool = True) -> Path:
    """real-stanford/diffusion_policy replay_buffer.py, frames as float32 0..255 as PushT has."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    arrays = {
        "agent_pos": np.concatenate([t.state for t in episodes]),
        "action": np.concatenate([t.action for t in episodes]),
    }
    for camera in episodes[0].frames:
        frames = np.concatenate([t.frames[camera] for t in episodes])
        arrays[camera] = frames.astype(np.float32) if floats else frames
    for name, values in arrays.items():
        array = group.create_array(
            f"data/{name}", shape=values.shape, chunks=(5, *values.shape[1:]), dtype=values.dtype
        )
        array[:] = values
    ends = np.cumsum([len(t.state) for t in episodes]).astype(np.int64)
    array = group.create_array("meta/episode_ends", shape=ends.shape, dtype=ends.dtype)
    array[:] = ends
    return path


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


def _write_video(path: Path, frames: np.ndarray, rate: float) -> None:
    from motus_adapters.video import VideoWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = VideoWriter(path, rate, (frames.shape[2], frames.shape[1]))
    for frame in frames:
        writer.add(frame)
    writer.close()


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
            _write_video(folder / name, frames, truth.rate or 10)
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
        _write_video(folder / name, frames, episodes[0].rate or 10)
    return folder


@pytest.fixture
def shared() -> Path:
    """The folder of real recordings; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no real recordings: {SHARED} is absent")
    return SHARED


@pytest.fixture
def pusht_source(tmp_path: Path) -> Path:
    """Five recordings that the card `pusht` fits: two channels in pixels, one camera."""
    episodes = [_in_pixels(make_truth(i, ("img",), (2, 2))) for i in range(5)]
    return write_zarr(tmp_path / "source.zarr", episodes)


def _in_pixels(truth: Truth) -> Truth:
    return Truth(truth.frames, 200 + truth.state, 200 + truth.action, truth.task, truth.rate)


def tree(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True)
class Layouts:
    """The writers above, as a fixture, since test files cannot import one another."""

    truth: Callable[..., Truth] = make_truth
    act: Callable[..., Path] = write_act
    robomimic: Callable[..., Path] = write_robomimic
    zarr: Callable[..., Path] = write_zarr
    lerobot_v2: Callable[..., Path] = write_lerobot_v2
    lerobot_v3: Callable[..., Path] = write_lerobot_v3
    tree: Callable[[Path], dict[str, bytes]] = tree


@pytest.fixture
def layouts() -> Layouts:
    """Writers of every layout."""
    return Layouts()
