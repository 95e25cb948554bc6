"""RoboTwin 2.0, before and since August 2026 (RoboTwin-Platform/RoboTwin pkl2hdf5.py)."""

import json
from pathlib import Path

import h5py
import numpy as np

from layouts.jpeg import fixed, task_file
from layouts.truth import Truth

OLD_CAMERAS = ("head_camera", "left_camera", "right_camera")
NEW_CAMERAS = ("cam_head", "cam_left_wrist", "cam_right_wrist")


def write_robotwin_old(folder: Path, episodes: list[Truth], *, one_endpose: bool = False) -> Path:
    """<task>/<setting>/data/episode<N>.hdf5 with instructions beside; no action."""
    root = folder / "pick_cup" / "aloha-agilex_clean_50"
    (root / "data").mkdir(parents=True)
    for i, truth in enumerate(episodes):
        count = len(truth.state)
        with h5py.File(root / f"data/episode{i}.hdf5", "w") as h5:
            joints = h5.create_group("joint_action")
            joints["vector"] = truth.state.astype(np.float64)
            joints["left_arm"], joints["left_gripper"] = truth.state[:, :6], truth.state[:, 6]
            joints["right_arm"], joints["right_gripper"] = truth.state[:, 7:13], truth.state[:, 13]
            if one_endpose:
                h5["endpose"] = np.zeros((count, 14))
            else:
                h5["endpose/left_endpose"] = np.tile([0.0, 0, 0, 1, 0, 0, 0], (count, 1))
                h5["endpose/left_gripper"] = truth.state[:, 6]
            for camera, frames in truth.frames.items():
                fixed(h5, f"observation/{camera}/rgb", frames)
                h5[f"observation/{camera}/intrinsic_cv"] = np.zeros((count, 3, 3))
            h5["pointcloud"] = np.zeros((count, 0))
        told = json.dumps({"seen": [truth.task, "another wording"], "unseen": []})
        task_file(root / f"instructions/episode{i}.json", told)
    return folder


def write_robotwin_new(folder: Path, episodes: list[Truth]) -> Path:
    """data/episode_<0000000>.hdf5 with state, action, vision, rate and instructions inside."""
    for i, truth in enumerate(episodes):
        path = folder / f"pick_cup/aloha_agilex/data/episode_{i:07d}.hdf5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as h5:
            text = h5py.string_dtype("utf-8")
            h5.create_dataset("data_format_version", data="v1.0", dtype=text)
            h5.create_dataset("instructions", data=json.dumps([truth.task, "x"]), dtype=text)
            h5["additional_info/frequency"] = np.int32(truth.rate or 15)
            for name, values in (("state", truth.state), ("action", truth.action)):
                h5[f"{name}/left_arm_joint_states"] = values[:, :6]
                h5[f"{name}/left_ee_joint_states"] = values[:, 6:7]
                h5[f"{name}/right_arm_joint_states"] = values[:, 7:13]
                h5[f"{name}/right_ee_joint_states"] = values[:, 13:]
                h5[f"{name}/left_ee_poses"] = np.zeros((len(values), 7), np.float32)
            for camera, frames in truth.frames.items():
                fixed(h5, f"vision/{camera}/colors", frames)
                h5[f"vision/{camera}/shape"] = np.asarray(frames.shape[1:], np.int32)
    return folder
