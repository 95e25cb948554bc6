"""LIBERO (scripts/create_dataset.py) and robosuite's raw demonstrations."""

import json
from pathlib import Path

import h5py
import numpy as np

from layouts.truth import Truth

FINGER = 0.04  # m


def write_libero(path: Path, episodes: list[Truth], *, convention: str | None = "opengl") -> Path:
    """Truths are canonical: seven joints and the opening; pictures upside down with opengl."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as h5:
        data = h5.create_group("data")
        controller = {"type": "OSC_POSE", "control_delta": True}
        kwargs = {"control_freq": 20, "controller_configs": controller, "robots": ["Panda"]}
        data.attrs["env_args"] = json.dumps({"env_name": "Kitchen", "env_kwargs": kwargs})
        data.attrs["problem_info"] = json.dumps({"language_instruction": episodes[0].task or ""})
        data.attrs["num_demos"] = len(episodes)
        if convention:
            data.attrs["macros_image_convention"] = convention
        for i, truth in enumerate(episodes):
            demo = data.create_group(f"demo_{i}")
            demo.attrs["num_samples"] = len(truth.state)
            demo["actions"] = truth.action.astype(np.float64)
            demo["dones"] = np.zeros(len(truth.state), np.uint8)
            demo["obs/joint_states"] = truth.state[:, :7]
            opening = truth.state[:, 7:] * FINGER
            demo["obs/gripper_states"] = np.concatenate([opening, -opening], 1)
            for camera, frames in truth.frames.items():
                stored = frames if convention == "opencv" else frames[:, ::-1]
                demo.create_dataset(f"obs/{camera}", data=stored)
    return path


def write_robosuite(path: Path, episodes: list[Truth], robots: str = "Panda") -> Path:
    """collect_human_demonstrations.py: flattened states of MuJoCo, no pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as h5:
        data = h5.create_group("data")
        controller = {"type": "OSC_POSE", "control_delta": True}
        info = {"env_name": "Lift", "robots": robots, "controller_configs": controller}
        data.attrs["env_info"] = json.dumps(info)
        for i, truth in enumerate(episodes):
            count = len(truth.state)
            demo = data.create_group(f"demo_{i + 1}")
            demo.attrs["model_file"] = f"model_{i + 1}.xml"
            opening = truth.state[:, 7:] * FINGER
            time = 0.052 + 0.05 * np.arange(count)[:, None]
            rest = np.zeros((count, 22))
            demo["states"] = np.concatenate([time, truth.state[:, :7], opening, -opening, rest], 1)
            demo["actions"] = truth.action.astype(np.float64)
    return path
