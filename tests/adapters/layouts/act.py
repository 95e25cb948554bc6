"""ACT and mobile ALOHA: one HDF5 file an episode (tonyzhaozh/act, MarkFzp/act-plus-plus)."""

from pathlib import Path

import cv2
import h5py
import numpy as np

from layouts.truth import Truth


def write_act(folder: Path, episodes: list[Truth], *, compress: bool = False) -> Path:
    """tonyzhaozh/act; compressed as MarkFzp/act-plus-plus compress_data.py does."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, truth in enumerate(episodes):
        with h5py.File(folder / f"episode_{i}.hdf5", "w") as h5:
            h5.attrs["sim"] = True
            h5["action"] = truth.action
            h5["observations/qpos"] = truth.state
            h5["observations/qvel"] = np.zeros_like(truth.state)
            lengths = []
            for camera, frames in truth.frames.items():
                name = f"observations/images/{camera}"
                if not compress:
                    h5.create_dataset(name, data=frames, chunks=(1, *frames.shape[1:]))
                    continue
                # RGB goes into cv2.imencode, which takes it for BGR: the layout's colour trap.
                quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
                jpegs = [cv2.imencode(".jpg", frame, quality)[1] for frame in frames]
                lengths.append([len(jpeg) for jpeg in jpegs])
                padded = np.zeros((len(jpegs), max(map(len, jpegs))), np.uint8)
                for row, jpeg in zip(padded, jpegs, strict=True):
                    row[: len(jpeg)] = jpeg
                h5.create_dataset(name, data=padded, chunks=(1, padded.shape[1]))
            if compress:
                h5.attrs["compress"] = True
                h5["compress_len"] = np.asarray(lengths, np.float32)
    return folder
