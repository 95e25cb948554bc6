"""RDT's fine-tuning data (thu-ml/RoboticsDiffusionTransformer data/hdf5_vla_dataset.py)."""

import json
from pathlib import Path

import h5py
import numpy as np

from layouts.jpeg import encode, varying
from layouts.truth import Truth

STATE_OPEN = (4.7908, 4.7888)
ACTION_OPEN = (11.8997, 13.9231)


def raw_grippers(values: np.ndarray, wide: tuple[float, float]) -> np.ndarray:
    """Canonical numbers [T, 14] with the grippers as the recorder counts them."""
    raw = values.copy()
    raw[:, 6] *= wide[0]
    raw[:, 13] *= wide[1]
    return raw


def write_rdt(folder: Path, episodes: list[Truth], *, beside: bool = True) -> Path:
    """Episodes with the instruction inside, and with its rewordings beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, truth in enumerate(episodes):
        with h5py.File(folder / f"episode_{i}.hdf5", "w") as h5:
            h5["action"] = raw_grippers(truth.action, ACTION_OPEN)
            h5["base_action"] = np.zeros((len(truth.action), 2), np.float32)
            h5["observations/qpos"] = raw_grippers(truth.state, STATE_OPEN)
            h5["observations/qvel"] = np.zeros_like(truth.state)
            h5["instruction"] = (truth.task or "").encode()
            for camera, frames in truth.frames.items():
                varying(h5, f"observations/images/{camera}", encode(frames))
    if beside:
        told = {"instruction": episodes[0].task, "simplified_instruction": ["go"]}
        (folder / "expanded_instruction_gpt-4-turbo.json").write_text(json.dumps(told))
    return folder
