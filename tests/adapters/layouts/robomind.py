"""RoboMIND v1 (Tavish9/any4lerobot robomind2lerobot)."""

from pathlib import Path

import h5py
import numpy as np

from layouts.jpeg import encode, task_file, varying
from layouts.truth import Truth


def write_robomind(folder: Path, episodes: list[Truth], robot: str) -> Path:
    """benchmark1_0_release/h5_<robot>/<task>/success_episodes/train/<episode>/data."""
    for i, truth in enumerate(episodes):
        name = f"benchmark1_0_release/h5_{robot}/01_pick/success_episodes/train/ep_{i}/data"
        path = folder / name / "trajectory.hdf5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as h5:
            _numbers(h5, truth, robot)
            for camera, frames in truth.frames.items():
                contents = encode(frames, swapped=robot in ("agilex_3rgb", "simulation"))
                varying(h5, f"observations/rgb_images/{camera}", contents)
                depth = np.zeros((len(frames), 20), np.uint8)
                varying(h5, f"observations/depth_images/{camera}", [d.tobytes() for d in depth])
    table = f"n,task,instruction\n0,01_pick,{episodes[0].task}\n1,02_other,do the other\n"
    task_file(folder / "RoboMIND_v1_2_instr.csv", table)
    return folder


def _numbers(h5: h5py.File, truth: Truth, robot: str) -> None:
    count = len(truth.state)
    if robot == "agilex_3rgb":
        for group, values in (("puppet", truth.state), ("master", truth.action)):
            for side, columns in (("left", slice(0, 7)), ("right", slice(7, 14))):
                h5[f"{group}/joint_position_{side}"] = values[:, columns].astype(np.float64)
                h5[f"{group}/end_effector_{side}"] = np.zeros((count, 7))
                h5[f"{group}/joint_velocity_{side}"] = np.zeros((count, 7))
        return
    group = "franka" if robot == "simulation" else "puppet"
    h5[f"{group}/joint_position"] = truth.state.astype(np.float64)
    h5[f"{group}/end_effector"] = np.zeros((count, 6))
    if robot != "simulation":
        h5["master/joint_position"] = truth.action.astype(np.float64)
