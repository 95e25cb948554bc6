"""A video file of given frames."""

from pathlib import Path

import numpy as np

from motus_adapters.unified.video import VideoWriter


def write_video(path: Path, frames: np.ndarray, rate: float) -> None:
    """An h264 mp4 of uint8 RGB frames [T, h, w, 3]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = VideoWriter(path, rate, (frames.shape[2], frames.shape[1]))
    for frame in frames:
        writer.add(frame)
    writer.close()
