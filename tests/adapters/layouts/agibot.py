"""AgiBot World (Tavish9/any4lerobot agibot2lerobot)."""

import json
from pathlib import Path

import h5py
import numpy as np

from layouts.truth import Truth
from layouts.video import write_video

WIDE = 120.0  # mm, an open gripper


def write_agibot(folder: Path, episodes: list[Truth], *, sparse: bool = False) -> Path:
    """Truths are canonical: L7, gripper, R7, gripper, with 1 for open.

    sparse: commands are sent on every other frame only.
    """
    entries = []
    for i, truth in enumerate(episodes):
        entries.append({"episode_id": 1000 + i, "task_id": 7, "task_name": truth.task})
        count = len(truth.state)
        sent = np.arange(0, count, 2) if sparse else np.arange(count)
        path = folder / f"proprio_stats/7/{1000 + i}/proprio_stats.h5"
        path.parent.mkdir(parents=True)
        arms, hands = [*range(7), *range(8, 15)], [7, 15]
        with h5py.File(path, "w") as h5:
            start = 1_700_000_000_000_000_000
            h5["timestamp"] = start + np.round(np.arange(count) / 30 * 1e9).astype(np.int64)
            h5["state/joint/position"] = truth.state[:, arms]
            h5["state/effector/position"] = truth.state[:, hands] * WIDE
            h5["state/end/orientation"] = np.tile([0.0, 0, 0, 1], (count, 2, 1))
            h5["state/head/position"] = np.zeros((count, 2))
            h5["action/joint/position"] = truth.action[sent][:, arms]
            h5["action/joint/index"] = sent
            h5["action/effector/position"] = 1 - truth.action[sent][:, hands]
            h5["action/effector/index"] = sent
            h5["action/end/position"] = np.zeros((len(sent), 2, 3))
            h5["action/end/index"] = np.zeros(0, np.int64)
            h5["action/head/position"] = np.zeros((0, 2))
        for camera, frames in truth.frames.items():
            name = f"observations/7/{1000 + i}/videos/{camera}_color.mp4"
            write_video(folder / name, frames, 30)
    (folder / "task_info").mkdir()
    (folder / "task_info/task_7.json").write_text(json.dumps(entries))
    return folder
