"""Frames as encoded pictures, with the colour order that a recorder's code led to."""

from pathlib import Path

import cv2
import h5py
import numpy as np


def encode(frames: np.ndarray, *, swapped: bool = True) -> list[bytes]:
    """JPEGs of RGB frames.

    swapped: RGB handed to cv2.imencode, which takes it for BGR; otherwise what any viewer shows
    in the right colours.
    """
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
    ordered = frames if swapped else frames[..., ::-1]
    return [cv2.imencode(".jpg", np.ascontiguousarray(f), quality)[1].tobytes() for f in ordered]


def fixed(h5: h5py.Group, name: str, frames: np.ndarray) -> None:
    """Strings of fixed length, padded with NUL (RoboTwin)."""
    jpegs = encode(frames)
    h5.create_dataset(name, data=jpegs, dtype=f"S{max(map(len, jpegs))}")


def varying(h5: h5py.Group, name: str, contents: list[bytes]) -> None:
    """Rows of varying length (RDT, RoboMIND)."""
    data = h5.create_dataset(name, (len(contents),), h5py.vlen_dtype(np.uint8))
    for i, content in enumerate(contents):
        data[i] = np.frombuffer(content, np.uint8)


def task_file(path: Path, text: str) -> None:
    """A small text file in a folder that may have to be made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
