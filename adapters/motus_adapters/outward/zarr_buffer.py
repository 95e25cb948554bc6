"""Replay buffer of diffusion policy: zarr v2 with data/<key> and meta/episode_ends.

Layout: real-stanford/diffusion_policy replay_buffer.py. Rate and tasks, which it has no place for,
stand in the group's attributes, where our own reader looks for them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr

from motus_adapters.outward.episodes import OutEpisode, Plan

_CHUNK_BYTES = 4 * 2**20


def write(folder: Path, plan: Plan, episodes: Iterator[OutEpisode]) -> None:
    """Write the group; meta/episode_ends comes last."""
    group = zarr.open_group(str(folder), mode="w", zarr_format=2)
    group.create_group("data")
    numbers = numcodecs.Blosc("lz4", clevel=5, shuffle=numcodecs.Blosc.NOSHUFFLE)
    pictures = numcodecs.Blosc("zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
    columns: dict[str, _Column] = {}
    for name, channels in (("state", plan.state), ("action", plan.action)):
        if channels:
            shape = (plan.num_frames, len(channels))
            columns[name] = _Column(group, name, shape, np.float32, numbers)
    for camera, (height, width) in plan.cameras.items():
        shape4 = (plan.num_frames, height, width, 3)
        columns[camera] = _Column(group, camera, shape4, np.uint8, pictures)
    ends: list[int] = []
    tasks: list[int] = []
    for episode in episodes:
        for name, rows in episode.numbers.items():
            for row in rows:
                columns[name].add(row)
        for frame in episode.frames:
            for camera, view in frame.items():
                columns[camera].add(view)
        ends.append((ends[-1] if ends else 0) + episode.length)
        tasks.append(plan.tasks.index(episode.task))
    for column in columns.values():
        column.close()
    group.attrs.update(
        rate_hz=plan.rate,
        embodiment=plan.card,
        action_kind=plan.action_kind,
        state_names=list(plan.state),
        action_names=list(plan.action),
        tasks=list(plan.tasks),
        episode_tasks=tasks,
    )
    group.create_array("meta/episode_ends", data=np.asarray(ends, np.int64))


class _Column:
    """An array that is written row by row, a whole chunk at a time."""

    def __init__(
        self, group: zarr.Group, name: str, shape: tuple[int, ...], dtype: Any, codec: Any
    ) -> None:
        row = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        self._rows = max(1, min(shape[0], _CHUNK_BYTES // row))
        self._array = group.create_array(
            f"data/{name}",
            shape=shape,
            chunks=(self._rows, *shape[1:]),
            dtype=dtype,
            compressors=codec,
        )
        self._waiting: list[np.ndarray] = []
        self._written = 0

    def add(self, row: np.ndarray) -> None:
        """Append one row."""
        self._waiting.append(row.copy())
        if len(self._waiting) == self._rows:
            self._flush()

    def close(self) -> None:
        """Write what waits; all rows must be there."""
        if self._waiting:
            self._flush()
        assert self._written == self._array.shape[0], "rows are missing"

    def _flush(self) -> None:
        rows = np.stack(self._waiting)
        self._array[self._written : self._written + len(rows)] = rows
        self._written += len(rows)
        self._waiting = []
