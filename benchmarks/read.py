"""Windows in random order: from the trainer's cache, and from LeRobot on the same dataset.

A window is what a training sample needs: a condition frame, 8 frames at 5 Hz and 48 actions at
30 Hz. One dataset (our conversion of ALOHA recordings, 320x360 canvas, h264 with a key frame
every 5 frames) is read three ways, each in a process of its own on one thread, CPU seconds with
imports and opening left out:

    motus cache         what `motus train` reads; that it is built first is told by itself
    lerobot pyav        LeRobotDataset with delta_timestamps, frames as bytes
    lerobot torchcodec  the same, where the FFmpeg libraries it needs are installed

    python benchmarks/read.py
    python benchmarks/read.py --episodes 20 --windows 1000
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from recordings import Cost, measured, options, write_recordings

RATE = 30
FRAMES, FRAME_RATE = 8, 5.0
ACTIONS, ACTION_RATE = 48, 30.0
CANVAS = (384, 320)  # of the size motus-8b


def make(folder: Path, dataset: Path, episodes: int, frames: int) -> Iterator[None]:
    """Recordings and their conversion."""
    from motus_adapters import convert

    yield
    source = write_recordings(folder, "jpeg", episodes, frames)
    convert(source, dataset, card="aloha", rate=RATE, task="none", codec=None, force=True)


def _open(dataset: Path) -> Any:
    from motus_model import SIZES, Window
    from motus_recipes.data.cache import open_cached

    window = Window(FRAMES, FRAME_RATE, ACTIONS, ACTION_RATE)
    return open_cached("bench", dataset, replace(SIZES["tiny"], canvas=CANVAS, window=window))


def build(dataset: Path) -> Iterator[int]:
    """The cache, as the first `motus train` on a dataset makes it."""
    import motus_recipes.data.cache as _  # noqa: F401

    shutil.rmtree(dataset / ".cache", ignore_errors=True)
    yield 0
    return len(_open(dataset).canvas)


def cache(dataset: Path, windows: int) -> Iterator[int]:
    """Condition frame, future frames and the action chunk as arrays of their own."""
    cached = _open(dataset)
    order = _order(len(cached.canvas), windows)
    yield 0
    bytes_read = 0
    for index in order:
        rows = cached.future(np.asarray([index]), FRAMES, FRAME_RATE, 1)[0]
        frames = cached.canvas[np.concatenate([[index], rows])]
        actions, state = np.array(cached.actions[index]), np.array(cached.state[index])
        assert frames.shape == (FRAMES + 1, *CANVAS, 3)
        assert actions.shape[0] == ACTIONS
        bytes_read += frames.nbytes + actions.nbytes + state.nbytes
    return bytes_read


def lerobot(dataset: Path, windows: int, backend: str) -> Iterator[int]:
    """LeRobotDataset as its own training scripts read it."""
    import torch
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    torch.set_num_threads(1)
    times = [i / FRAME_RATE for i in range(FRAMES + 1)]
    opened = LeRobotDataset(
        "bench/aloha",
        root=dataset,
        video_backend=backend,
        return_uint8=True,
        delta_timestamps={
            "observation.images.canvas": times,
            "action": [i / ACTION_RATE for i in range(ACTIONS)],
        },
    )
    order = _order(len(opened), windows)
    _ = opened[0]  # opens the decoder
    yield 0
    bytes_read = 0
    for index in order:
        item = opened[int(index)]
        assert item["observation.images.canvas"].shape[0] == FRAMES + 1
        assert item["action"].shape[0] == ACTIONS
        bytes_read += item["observation.images.canvas"].nbytes
    return bytes_read


def _order(frames: int, windows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, frames, windows)


def torchcodec() -> Iterator[bool]:
    """Whether it loads: it wants FFmpeg's libraries, which its wheel lacks."""
    yield False
    try:
        import torchcodec as _  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--windows", type=int, default=150, help="windows LeRobot reads")
    given = parser.parse_args()
    dataset = given.folder / "read"
    measured(make, given.folder, dataset, given.episodes, given.frames)
    built = measured(build, dataset)
    sides: dict[str, tuple[Any, ...]] = {
        "motus cache": (cache, dataset, 10 * given.windows),
        "lerobot pyav": (lerobot, dataset, given.windows, "pyav"),
    }
    if measured(torchcodec).told:
        sides["lerobot torchcodec"] = (lerobot, dataset, given.windows, "torchcodec")
    print(
        f"{given.episodes} episodes x {given.frames} frames; the cache took {built.cpu:.1f} CPU s"
    )
    print(f"to build: {1000 * built.cpu / built.told:.1f} ms a frame, optical flow included\n")
    print(
        f"{'':20}{'windows/CPU s':>14}{'ms a window':>13}{'wall s':>8}{'peak MB':>9}{'ours x':>8}"
    )
    costs: dict[str, Cost] = {}
    for name, (side, *arguments) in sides.items():
        costs[name] = measured(side, *arguments)
        each = costs[name].cpu / arguments[1]
        ours = costs["motus cache"].cpu / (10 * given.windows)
        figures = f"{1 / each:14.0f}{1000 * each:13.2f}{costs[name].wall:8.1f}"
        print(f"{name:20}{figures}{costs[name].peak:9.0f}{each / ours:8.1f}", flush=True)
    if "lerobot torchcodec" not in sides:
        print("torchcodec: not measured, the FFmpeg libraries it needs are not installed")
    shutil.rmtree(dataset)


if __name__ == "__main__":
    main()
