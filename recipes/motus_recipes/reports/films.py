"""Films: frames to an mp4 that any browser plays."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from motus_adapters import VideoWriter

HEIGHT = 256  # pixels; small pictures are enlarged, so that a person sees them


def write_film(path: Path, frames: UInt8[np.ndarray, "t h w 3"], rate: float) -> None:
    """Write frames to `path`, whole or not at all."""
    factor = max(1, round(HEIGHT / frames.shape[1]))
    large = frames.repeat(factor, axis=1).repeat(factor, axis=2)
    height, width = (side - side % 2 for side in large.shape[1:3])  # h264 wants even sizes
    partial = path.with_name(f".{path.name}")
    writer = VideoWriter(partial, rate, (width, height))
    for frame in large:
        writer.add(frame[:height, :width])
    writer.close()
    partial.replace(path)


def side_by_side(*films: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "t h w2 3"]:
    """Films of one length and height next to each other, with a white line between."""
    line = np.full((*films[0].shape[:2], 2, 3), 255, np.uint8)
    parts = [part for film in films for part in (film, line)][:-1]
    return np.concatenate(parts, axis=2)
