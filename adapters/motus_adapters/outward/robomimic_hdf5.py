"""robomimic: all episodes in one HDF5 file, data/demo_<k>/{actions, obs/*, rewards, dones}.

Layout: robomimic docs/datasets/overview.md.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from motus_adapters.outward.episodes import OutEpisode, Plan
from motus_embodiments import DataError

_GYM = 2  # EnvType.GYM_TYPE of robomimic/envs/env_base.py; it has none for a real robot
_ROOM = 2**20  # bytes


def write(path: Path, plan: Plan, episodes: Iterator[OutEpisode]) -> None:
    """Write the file.

    Raises:
        DataError: An episode is damaged.
        OSError: The disk is full.
    """
    with new_file(path) as file:
        data = file.create_group("data")
        data.attrs["total"] = plan.num_frames
        data.attrs["rate_hz"] = plan.rate
        data.attrs["action_kind"] = plan.action_kind
        settings = {"control_freq": plan.rate}
        about = {"env_name": plan.card, "type": _GYM, "env_kwargs": settings}
        data.attrs["env_args"] = json.dumps(about)
        for kind, names in (("state", plan.state), ("action", plan.action)):
            data.attrs[f"{kind}_names"] = json.dumps(names)
        for episode in episodes:
            _write_demo(data.create_group(f"demo_{episode.index}"), plan, episode)
            file.flush()


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """A new file, and beside it some room that is given up before the file is closed.

    HDF5 writes what it still holds when it closes a file, and where the disk is full then it takes
    the whole process with it.
    """
    room = path.with_name(f"{path.name}.room")
    try:
        with open(room, "wb") as reserved:
            os.posix_fallocate(reserved.fileno(), 0, _ROOM)
        # Without a cache of chunks: each is written once and whole.
        with h5py.File(path, "w", rdcc_nbytes=0) as file:
            try:
                yield file
            finally:
                room.unlink(missing_ok=True)
    finally:
        room.unlink(missing_ok=True)


def _write_demo(demo: h5py.Group, plan: Plan, episode: OutEpisode) -> None:
    demo.attrs["num_samples"] = episode.length
    demo.attrs["task"] = episode.task
    last = np.arange(episode.length) == episode.length - 1
    demo["dones"] = last.astype(np.int64)
    demo["rewards"] = np.zeros(episode.length)  # robomimic's loader wants some; none are known
    if "action" in episode.numbers:
        demo["actions"] = episode.numbers["action"]
    if "state" in episode.numbers:
        demo["obs/state"] = episode.numbers["state"]
    views = {
        camera: demo.create_dataset(
            f"obs/{camera}_image",
            (episode.length, height, width, 3),
            np.uint8,
            chunks=(1, height, width, 3),
            compression="lzf",
        )
        for camera, (height, width) in plan.cameras.items()
    }
    written = 0
    for row, frame in enumerate(episode.frames):
        for camera, view in frame.items():
            views[camera][row] = view
        written = row + 1
    if written != episode.length:
        raise DataError(
            f"episode {episode.index} has {written} frames of {episode.length}",
            hint="the dataset is damaged; convert the recordings again",
        )
