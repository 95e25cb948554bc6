"""Replay buffers of diffusion policy and UMI: zarr with data/<key> and meta/episode_ends."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import zarr

from motus_adapters.readers.base import (
    ColumnMap,
    EpisodeFile,
    OnBad,
    as_bytes,
    is_hidden,
    natural_key,
)
from motus_adapters.readers.zarr_store import LARGEST, arrays_of, is_group, opened, read_rows
from motus_embodiments import DataError

_WIDEST = 4096  # numbers of a row; what is wider is a picture of some kind, not a column
_SHORTEST, _LONGEST = 1e-4, 1.0  # s between frames; milliseconds and the like are neither
_OTHER = 0.1  # share by which an episode's steps are others than those of all
_LOOKED_AT = 16  # chunks looked at to tell floats in 0..1 from floats in 0..255
_UMI = ("eef_pos", "eef_rot_axis_angle", "gripper_width")
_UMI_RATE = 60_000 / 1001  # Hz, the GoPro's; the file does not hold it (UMI's scripts)


class ReplayBufferReader:
    """A zarr group with data/ and meta/episode_ends (cumulative ends of the episodes).

    Layout: real-stanford/diffusion_policy replay_buffer.py and
    real-stanford/universal_manipulation_interface 07_generate_replay_buffer.py, as a folder or a
    zip. Neither stores a task, and a rate only where there is a data/timestamp; the attributes that
    `motus convert --to replay-buffer` adds tell both.
    """

    name = "zarr"
    looked_for = "a zarr group with data/ and meta/episode_ends (diffusion-policy replay buffer)"

    def detect(self, path: Path) -> bool:
        """Whether it is, or holds, a zarr group with `data`."""
        return bool(_roots(path))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """The spans between the episode ends, in order."""
        roots = _roots(path)
        found: list[EpisodeFile] = []
        for root in roots:
            prefix = "" if len(roots) == 1 else f"{root.name.removesuffix('.zip')}/"
            try:
                found += _describe(root, prefix)
            except DataError as error:
                if on_bad is None:
                    raise
                on_bad(prefix or root.name, error)
        return found


@dataclass(frozen=True)
class ReplayEpisode:
    """Rows `start` to `stop` of a replay buffer."""

    path: Path
    name: str
    start: int
    stop: int
    cameras: tuple[str, ...]
    columns: tuple[str, ...]
    defaults: ColumnMap
    unit_range: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Rows."""
        return self.stop - self.start

    @property
    def files(self) -> tuple[Path, ...]:
        """The zarr folder or zip."""
        return (self.path,)

    def column(self, name: str) -> np.ndarray:
        """Rows of data/<name>."""
        with opened(self.path) as group:
            return read_rows(self.path, name, group["data"][name], self.start, self.stop)

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """Frames of data/<camera>; floats are brought to 0..255."""
        with opened(self.path) as group:
            array = group["data"][camera]
            chunk = int(array.chunks[0])
            start = self.start
            while start < self.stop:
                # Up to the next chunk border, so that no chunk is decompressed twice here.
                stop = min(self.stop, (start // chunk + 1) * chunk)
                for frame in read_rows(self.path, camera, array, start, stop):
                    top = 1.0 if camera in self.unit_range else 255.0
                    yield as_bytes(frame, top, camera, self.path)
                start = stop


def _roots(path: Path) -> list[Path]:
    """The zarr groups with a `data` group: the path itself, or what lies just below it."""
    if is_group(path):
        return [path]
    if not path.is_dir():
        return []
    found = (p for p in path.iterdir() if not is_hidden(p.name))
    return sorted(filter(is_group, found), key=natural_key)


def _describe(path: Path, prefix: str) -> list[ReplayEpisode]:
    with opened(path) as group:
        arrays = arrays_of(path, group)
        ends = _episode_ends(path, group, arrays)
        views = [n for n, a in arrays.items() if len(a.shape) == 4 and a.dtype.kind in "fiu"]
        cameras = tuple(sorted(n for n in views if arrays[n].shape[3] == 3))
        columns = tuple(sorted(n for n, a in arrays.items() if _is_column(a)))
        spans = list(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
        defaults, notes = _defaults(arrays)
        tasks = _tasks(group, len(ends))
        told = group.attrs.get("rate_hz")
        if isinstance(told, int | float) and told > 0:
            rates: list[float | None] = [float(told)] * len(spans)
        elif defaults.rate is None:
            rates = _rates(path, arrays, spans, notes)
        else:
            rates = [defaults.rate] * len(spans)
        unit_range = tuple(n for n in cameras if _is_unit_range(path, n, arrays[n]))
        warnings = (*_remarks(arrays, cameras, columns), *notes)
        return [
            ReplayEpisode(
                path=path,
                name=f"{prefix}episode_{i}",
                start=start,
                stop=stop,
                cameras=cameras,
                columns=columns,
                defaults=defaults.model_copy(update={"task": tasks[i], "rate": rates[i]}),
                unit_range=unit_range,
                warnings=warnings,
            )
            for i, (start, stop) in enumerate(spans)
        ]


def _tasks(group: zarr.Group, count: int) -> list[str | None]:
    """A task for each episode, where `motus convert --to replay-buffer` has noted them."""
    texts, numbers = group.attrs.get("tasks"), group.attrs.get("episode_tasks")
    try:
        found = [str(texts[number]) or None for number in numbers]
    except (TypeError, LookupError):
        found = []
    return found if len(found) == count else [None] * count


def _episode_ends(path: Path, group: zarr.Group, arrays: dict[str, zarr.Array]) -> np.ndarray:
    if "meta/episode_ends" not in group:
        raise DataError(
            f"{path} has no meta/episode_ends, so its episodes cannot be told apart",
            hint="a replay buffer of diffusion_policy has it; was the copy complete?",
            where=str(path),
        )
    stored = group["meta/episode_ends"]
    if stored.ndim != 1 or stored.dtype.kind not in "iu" or stored.nbytes > LARGEST:
        raise DataError(
            f"{path}: meta/episode_ends is {stored.dtype} {list(stored.shape)}, no list of numbers",
            hint="was the copy complete?",
            where=str(path),
        )
    ends = np.asarray(stored[:], np.int64)
    if len(ends) == 0 or ends[0] <= 0 or np.any(np.diff(ends) <= 0):
        raise DataError(
            f"{path}: meta/episode_ends does not increase: {ends[:5]}...",
            hint="was the copy complete?",
            where=str(path),
        )
    for name, array in arrays.items():
        rows = array.shape[0] if array.shape else 0
        if rows != ends[-1]:
            raise DataError(
                f"{path}: data/{name} has {rows} rows, episode_ends says {ends[-1]}",
                hint="the recording was cut short or copied in part",
                where=str(path),
            )
    return ends


def _is_column(array: zarr.Array) -> bool:
    return array.dtype.kind in "fiub" and prod(array.shape[1:]) <= _WIDEST


def _remarks(
    arrays: dict[str, zarr.Array], cameras: tuple[str, ...], columns: tuple[str, ...]
) -> list[str]:
    lines = []
    for name, array in arrays.items():
        lacking = array.nchunks - array.nchunks_initialized
        if lacking > 0:
            lines.append(f"data/{name} lacks {lacking} of {array.nchunks} chunks; they read as 0")
        if name not in (*cameras, *columns):
            lines.append(f"data/{name} {list(array.shape)} is no view and no column; left out")
    return lines


def _is_unit_range(path: Path, name: str, array: zarr.Array) -> bool:
    """Whether float frames lie in 0..1, by chunks from all over the buffer (one may be black)."""
    if array.dtype.kind != "f":
        return False
    chunk, rows = int(array.chunks[0]), int(array.shape[0])
    step = max(chunk, rows // _LOOKED_AT // chunk * chunk)
    parts = (read_rows(path, name, array, at, min(at + chunk, rows)) for at in range(0, rows, step))
    return max(float(np.max(part)) for part in parts) <= 1.0


def _rates(
    path: Path, arrays: dict[str, zarr.Array], spans: list[tuple[int, int]], notes: list[str]
) -> list[float | None]:
    """The rate of each episode, as its time stamps tell it; what is odd about them is noted.

    Clocks jitter: an episode has a rate of its own only where it is another one.
    """
    stamps = arrays.get("timestamp")
    if stamps is None or len(stamps.shape) != 1:
        return [None] * len(spans)
    seconds = read_rows(path, "timestamp", stamps, 0, spans[-1][1]).astype(np.float64)
    steps = [np.diff(seconds[start:stop]) for start, stop in spans]
    common = float(np.median(np.concatenate(steps))) if any(map(len, steps)) else math.nan
    if math.isnan(common):
        return [None] * len(spans)
    if not _SHORTEST <= common <= _LONGEST:
        notes.append(f"timestamps are {common:g} apart, which are no seconds; the rate is open")
        return [None] * len(spans)
    own = [float(np.median(part)) if len(part) else common for part in steps]
    own = [step if abs(step / common - 1) > _OTHER and step > 0 else common for step in own]
    if any(np.abs(p / step - 1).max(initial=0) > 0.5 for p, step in zip(steps, own, strict=True)):
        notes.append("timestamps are uneven; the frame index and their median are believed")
    return [round(1 / step, 3) for step in own]


def _defaults(arrays: dict[str, zarr.Array]) -> tuple[ColumnMap, list[str]]:
    """What the names say, and remarks on it."""
    robots = sorted(m[1] for name in arrays if (m := re.fullmatch(r"(robot\d+)_eef_pos", name)))
    if robots:
        names = tuple(f"{robot}_{part}" for robot in robots for part in _UMI)
        state = names if set(names) <= set(arrays) else None
        return (
            ColumnMap(state=state, action=(), action_kind="ee_pose", rate=_UMI_RATE),
            [
                "the layout is UMI's: no rate is stored, its GoPro's 59.94 Hz is taken (--rate)",
                "UMI paints its gripper black in the pictures; they are taken as they are",
            ],
        )
    chosen: tuple[str, ...] | None = None
    if "agent_pos" in arrays:
        chosen = ("agent_pos",)
    elif "state" in arrays and "keypoint" in arrays and arrays["state"].shape[1:] == (5,):
        chosen = ("state[0:2]",)  # PushT: the agent's x and y, then the pose of the block
    elif "state" in arrays:
        chosen = ("state",)
    action = ("action",) if "action" in arrays else None
    return ColumnMap(state=chosen, action=action), []
