"""Replay buffers of diffusion policy: one zarr group."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from layouts.truth import Truth


def write_zarr(
    path: Path, episodes: list[Truth], *, floats: bool = True, version: Literal[2, 3] = 2
) -> Path:
    """real-stanford/diffusion_policy replay_buffer.py, frames as float32 0..255 as PushT has."""
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
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


def write_umi(path: Path, episodes: list[Truth]) -> Path:
    """universal_manipulation_interface 07_generate_replay_buffer.py: a zip, frames in JPEG XL."""
    import imagecodecs.numcodecs

    imagecodecs.numcodecs.register_codecs(("imagecodecs_jpegxl",), verbose=False)
    frames = imagecodecs.numcodecs.Jpegxl(level=99, numthreads=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = np.concatenate([truth.state for truth in episodes])
    arrays: dict[str, tuple[np.ndarray, Any]] = {
        "robot0_eef_pos": (state[:, :3], "auto"),
        "robot0_eef_rot_axis_angle": (state[:, 3:6], "auto"),
        "robot0_gripper_width": (state[:, 6:7], "auto"),
        "robot0_demo_start_pose": (np.zeros((len(state), 6)), "auto"),
    }
    for camera in episodes[0].frames:
        arrays[camera] = (np.concatenate([t.frames[camera] for t in episodes]), frames)
    store = zarr.storage.ZipStore(path, mode="w")
    group = zarr.open_group(store, mode="w", zarr_format=2)
    for name, (values, codec) in arrays.items():
        rows = 1 if codec is frames else len(values)
        array = group.create_array(
            f"data/{name}",
            shape=values.shape,
            chunks=(rows, *values.shape[1:]),
            dtype=values.dtype,
            compressors=codec,
        )
        array[:] = values
    ends = np.cumsum([len(truth.state) for truth in episodes]).astype(np.int64)
    group.create_array("meta/episode_ends", data=ends)
    store.close()
    return path
