"""What the data benchmarks share: seeded ALOHA recordings, and one measured process a side."""

import argparse
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
SIZE = (480, 640)
CHANNELS = 14
JPEG_QUALITY = 50  # what mobile ALOHA's recorder sets

# A side of a comparison: imports, then `yield`, then the work that is measured. What it returns
# is told beside its figures.
Side = Callable[..., Iterator[Any]]


@dataclass(frozen=True)
class Cost:
    """What one side took, its imports left out.

    Attributes:
        cpu: CPU seconds of the process and of its children.
        wall: Seconds on the clock.
        peak: Largest resident memory in MB, imports included; of a side with children the sum of
            its own and the largest child's.
        told: What the side returned.
    """

    cpu: float
    wall: float
    peak: float
    told: Any


def measured(side: Side, *arguments: Any) -> Cost:
    """Run a side in a process of its own, so that no one inherits another's memory or caches."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, side, arguments))
    process.start()
    theirs.close()
    try:
        cost: Cost = ours.recv()
    except EOFError:
        raise SystemExit(f"{side.__name__} failed") from None
    finally:
        process.join()
    return cost


def _run(pipe: Connection, side: Side, arguments: tuple[Any, ...]) -> None:
    shown = os.dup(2)  # encoders and progress bars write pages to it
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    cv2.setNumThreads(1)
    try:
        pipe.send(_cost(side, arguments))
    except BaseException:
        os.dup2(shown, 2)
        raise


def _cost(side: Side, arguments: tuple[Any, ...]) -> Cost:
    steps = side(*arguments)
    next(steps)
    cpu, wall, told = _cpu(), time.perf_counter(), None
    try:
        next(steps)
    except StopIteration as end:
        told = end.value
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    peak = (_peak() + children) / 1024
    return Cost(_cpu() - cpu, time.perf_counter() - wall, peak, told)


def _cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _peak() -> int:
    """Peak resident kB of this process alone; ru_maxrss would remember the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def write_recordings(folder: Path, form: str, episodes: int, frames: int) -> Path:
    """A folder of ALOHA recordings of 3 cameras, `form` raw or jpeg, made where they are missing.

    The same arguments give the same bytes: a smooth background that sways, four textured patches
    that move, and camera noise of one and a half grey levels, so that codecs have about as much to
    do as with a real camera.
    """
    for index in range(episodes):
        path = folder / f"{form}-{frames}" / f"episode_{index}.hdf5"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with h5py.File(part, "w") as file:
            _write_episode(file, form, np.random.default_rng(index), frames)
        part.replace(path)
    return _chosen(folder, folder / f"{form}-{frames}", episodes)


def _chosen(folder: Path, made: Path, episodes: int) -> Path:
    """Links to just so many, should an earlier run have made more."""
    chosen = folder / "chosen"
    shutil.rmtree(chosen, ignore_errors=True)
    chosen.mkdir()
    for index in range(episodes):
        name = f"episode_{index}.hdf5"
        (chosen / name).symlink_to((made / name).resolve())
    return chosen


def _write_episode(file: h5py.File, form: str, draw: np.random.Generator, frames: int) -> None:
    file.attrs["sim"] = False
    file.attrs["compress"] = form == "jpeg"
    phase, t = draw.uniform(0, 6, CHANNELS), np.arange(frames)[:, None] / 30
    joints = 0.2 * np.sin(t + phase)
    joints[:, 6::7] = 0.5 + 0.4 * np.sin(t + phase[6::7])
    file["observations/qpos"] = joints.astype(np.float32)
    file["observations/qvel"] = np.gradient(joints, axis=0).astype(np.float32)
    file["action"] = np.concatenate([joints[1:], joints[-1:]]).astype(np.float32)
    lengths = []
    for camera in CAMERAS:
        pictures, name = _pictures(draw, frames), f"observations/images/{camera}"
        if form == "raw":
            shape = (frames, *SIZE, 3)
            images = file.create_dataset(name, shape, np.uint8, chunks=(1, *SIZE, 3))
            for i, picture in enumerate(pictures):
                images[i] = picture
            continue
        quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        jpegs = [cv2.imencode(".jpg", picture, quality)[1].ravel() for picture in pictures]
        lengths.append([len(jpeg) for jpeg in jpegs])
        padded = np.zeros((frames, max(map(len, jpegs))), np.uint8)
        for row, jpeg in zip(padded, jpegs, strict=True):
            row[: len(jpeg)] = jpeg
        file.create_dataset(name, data=padded, chunks=(1, padded.shape[1]))
    if lengths:
        file["compress_len"] = np.asarray(lengths, np.float32)


def _pictures(draw: np.random.Generator, frames: int) -> Iterator[np.ndarray]:
    height, width = SIZE
    scene = cv2.resize(draw.integers(30, 220, (12, 16, 3), np.uint8), (width + 80, height + 80))
    patches = draw.integers(0, 255, (4, 60, 60, 3), np.uint8)
    patches = np.stack([cv2.GaussianBlur(patch, (5, 5), 1.5) for patch in patches])
    starts, speeds = draw.uniform(60, 360, (4, 2)), draw.uniform(-2, 2, (4, 2))
    noise = draw.normal(0, 1.5, (8, *SIZE, 3)).astype(np.int16)
    for t in range(frames):
        dx, dy = (int(40 + 30 * f(t / 40)) for f in (np.sin, np.cos))
        picture = scene[dy : dy + height, dx : dx + width].copy()
        for patch, start, speed in zip(patches, starts, speeds, strict=True):
            x, y = (int(abs((start[k] + speed[k] * t) % 800 - 400)) for k in (0, 1))
            picture[y : y + 60, x : x + 60] = patch
        shift = int(draw.integers(width))
        grain = np.roll(noise[t % 8], shift, 1)
        yield np.clip(picture.astype(np.int16) + grain, 0, 255).astype(np.uint8)


def decoded(path: Path, camera: str) -> Iterator[np.ndarray]:
    """The frames of one camera, by h5py and OpenCV alone."""
    with h5py.File(path) as file:
        images = file[f"observations/images/{camera}"]
        for i in range(len(images)):
            row = images[i]
            yield cv2.imdecode(row, cv2.IMREAD_COLOR) if row.ndim == 1 else row


def options(description: str | None) -> argparse.ArgumentParser:
    """The options that both benchmarks have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--episodes", type=int, default=3, help="recordings")
    parser.add_argument("--frames", type=int, default=300, help="frames a recording")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("/tmp/motus-benchmarks"),
        help="where the recordings are made, once, and kept",
    )
    return parser
