"""Motus' own folders (DATA_FORMAT.md, robotwin_converter.py, embodied-data-toolkit), AnyPos."""

import json
from pathlib import Path

import numpy as np
import torch

from layouts.jpeg import task_file
from layouts.truth import Truth
from layouts.video import write_video

SENTENCE = "The whole scene has three views. The robot is currently performing the following task: "


def write_motus(folder: Path, episodes: list[Truth], kind: str = "robotwin") -> Path:
    """kind: robotwin, real, stage2, toolkit or anypos."""
    for i, truth in enumerate(episodes):
        (frames,) = truth.frames.values()
        rate = truth.rate or 30
        match kind:
            case "robotwin":
                root = folder / "clean/pick_cup"
                write_video(root / f"videos/{i}.mp4", frames, rate)
                save(root / f"qpos/{i}.pt", truth.state)
                task_file(root / f"metas/{i}.txt", f"{SENTENCE}{truth.task}\n{SENTENCE}other\n")
            case "real":
                root = folder / "kitchen/default"
                write_video(root / f"videos/{i}.mp4", frames, rate)
                save(root / f"qpos/{i}.pt", truth.state)
                task_file(root / "instructions/task.txt", f"{truth.task}\n")
            case "stage2":
                write_video(folder / f"videos/episode_{i}.mp4", frames, rate)
                save(folder / f"latent_action_dim14/episode_{i}.pt", truth.action[:-1])
                save(folder / f"umt5_wan/episode_{i}.pt", np.zeros((3, 8), np.float32))
            case "toolkit":
                root = folder / f"pick/episode_{i}"
                write_video(root / "video.mp4", frames, rate)
                save(root / "qpos.pt", truth.state)
                told = {"instructions": [truth.task], "sub_instructions": []}
                task_file(root / "instructions.json", json.dumps(told))
            case "anypos":
                write_video(folder / f"wing/episode_{i}.mp4", frames, rate)
                save(folder / f"wing/episode_{i}_qpos.pt", truth.state)
    return folder


def save(path: Path, values: np.ndarray) -> None:
    """A tensor file, [T, n] in bfloat16 where nothing is lost by it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(torch.from_numpy(np.ascontiguousarray(values)), path)
