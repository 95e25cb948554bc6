"""What a fixture writer writes, and what a reader must give back."""

from dataclasses import dataclass

import numpy as np


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
