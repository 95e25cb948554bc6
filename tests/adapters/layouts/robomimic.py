"""robomimic's layout: many episodes in one HDF5 file."""

import json
from pathlib import Path

import h5py

from layouts.truth import Truth


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
