"""EgoDex (angkul07/egodex_retargeting, read from Apple's test.zip)."""

from pathlib import Path

import h5py
import numpy as np

from layouts.truth import Truth
from layouts.video import write_video

JOINTS = ("hip", "leftHand", "rightHand", "leftThunmbTip", "rightPinkyFingerTip")
HAND = np.array([0.1, -0.2, 0.5])  # of every joint, in m in the camera's frame


def write_egodex(folder: Path, episodes: list[Truth], *, confidences: bool = True) -> Path:
    """test/<task>/<n>.hdf5 and .mp4; the camera turns and moves, the joints stay before it."""
    for i, truth in enumerate(episodes):
        path = folder / f"test/pour/{i}.hdf5"
        count = len(truth.state)
        write_video(path.with_suffix(".mp4"), truth.frames["ego"], truth.rate or 30)
        camera = np.tile(np.eye(4), (count, 1, 1))
        angle = np.linspace(0, 1, count)
        camera[:, 0, 0] = camera[:, 2, 2] = np.cos(angle)
        camera[:, 0, 2], camera[:, 2, 0] = np.sin(angle), -np.sin(angle)
        camera[:, :3, 3] = np.linspace([0, 1, 0], [1, 1.5, 0.3], count)
        seen = np.eye(4)
        seen[:3, 3] = HAND
        with h5py.File(path, "w") as h5:
            h5["camera/intrinsic"] = np.eye(3, dtype=np.float32)
            h5["transforms/camera"] = camera.astype(np.float32)
            for joint in JOINTS:
                h5[f"transforms/{joint}"] = (camera @ seen).astype(np.float32)
                if confidences:
                    h5[f"confidences/{joint}"] = np.full(count, 0.9, np.float32)
            h5.attrs["task"] = "pour"
            h5.attrs["description"] = "pours"
            h5.attrs["llm_description"] = truth.task or "None"
            h5.attrs["llm_description2"] = "None"
            h5.attrs["llm_type"] = "reset"
    return folder
