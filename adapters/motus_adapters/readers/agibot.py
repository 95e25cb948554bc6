"""AgiBot World: numbers in proprio_stats.h5, videos apart, tasks in JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from motus_adapters.files import read_json
from motus_adapters.readers.base import EpisodeFile, OnBad, find_roots, natural_key
from motus_adapters.readers.demos import clock
from motus_adapters.readers.hdf5 import has_rows, opened, read_column, report, rows_of
from motus_adapters.readers.mapping import ColumnMap, Part, Role, cameras_among
from motus_adapters.readers.videos import frames_of, video_of
from motus_embodiments import DataError

_FILE = "proprio_stats.h5"
_JOINTS = "joint/position"
_GRIPPERS = "effector/position"
_RATE = 30.0  # Hz
_ROLES: Mapping[Role, str] = {
    "head": "head",
    "left_wrist": "hand_left",
    "right_wrist": "hand_right",
}
_PARTS = ("effector", "end", "head", "joint", "robot", "waist")
_KINDS = ("position", "orientation", "velocity", "current_value")


class AgibotReader:
    """proprio_stats/<task>/<episode>/proprio_stats.h5, observations/<task>/<episode>/videos.

    Layout: OpenDriveLab/AgiBot-World and Tavish9/any4lerobot agibot2lerobot. The state of a
    gripper is its opening in mm, which is for the card to scale; its action is 0 open to 1
    closed and is turned round here. Commands that were sent on some frames only are laid over
    the state at those frames.
    """

    name = "agibot"
    looked_for = "proprio_stats/<task>/<episode>/proprio_stats.h5 (AgiBot World)"

    def detect(self, path: Path) -> bool:
        """Whether it is, or holds, a folder of this layout."""
        return any(_episodes(root) for root in find_roots(path, "proprio_stats", depth=2))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """The episodes of every task, in numeric order."""
        found: list[EpisodeFile] = []
        roots = find_roots(path, "proprio_stats", depth=2)
        for root in roots:
            prefix = "" if len(roots) == 1 else f"{root.relative_to(path)}/"
            tasks: dict[str, dict[str, str]] = {}
            for file in _episodes(root):
                task, episode = file.parts[-3:-1]
                if task not in tasks:
                    tasks[task] = _tasks(root / "task_info" / f"task_{task}.json")
                name = f"{prefix}{task}/{episode}"
                try:
                    told = tasks[task].get(episode) or None
                    with opened(file) as h5:
                        found.append(_describe(h5, root, file, name, told))
                except DataError as error:
                    report(on_bad, name, error)
        return found


@dataclass(frozen=True)
class AgibotEpisode:
    """One recording."""

    path: Path
    name: str
    num_frames: int
    videos: tuple[tuple[str, Path], ...]
    columns: tuple[str, ...]
    defaults: ColumnMap
    warnings: tuple[str, ...]

    @property
    def cameras(self) -> tuple[str, ...]:
        """head, hand_left, hand_right, and fisheye views."""
        return tuple(camera for camera, _ in self.videos)

    @property
    def files(self) -> tuple[Path, ...]:
        """The numbers and the videos."""
        return (self.path, *(path for _, path in self.videos))

    def column(self, name: str) -> np.ndarray:
        """A column with a row for each frame, [T, n]."""
        with opened(self.path) as h5:
            return _filled(h5, name, self.num_frames).reshape(self.num_frames, -1)

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The frames of a video."""
        return frames_of(dict(self.videos)[camera], self.num_frames)


def _episodes(root: Path) -> list[Path]:
    found = (root / "proprio_stats").glob(f"*/*/{_FILE}")
    return sorted(found, key=lambda p: natural_key(p.relative_to(root)))


def _describe(h5: h5py.File, root: Path, path: Path, name: str, task: str | None) -> AgibotEpisode:
    warnings: list[str] = []
    num_frames = rows_of(path, h5, f"state/{_JOINTS}")
    columns = _columns(h5, path, num_frames, warnings)
    rate = _rate(h5, warnings)
    folder = root / "observations" / Path(*path.parts[-3:-1]) / "videos"
    videos = [
        (file.stem.removesuffix("_color"), file)
        for file in sorted(folder.glob("[!.]*_color.mp4"), key=lambda p: natural_key(p.name))
    ]
    for _, file in videos:
        video_of(file, num_frames, warnings)
    if not videos:
        warnings.append("recordings without observations/<task>/<episode>/videos")
    arms = h5[f"state/{_JOINTS}"].shape[1]
    if arms != 14:
        warnings.append(
            f"state/{_JOINTS} has {arms} channels, not two arms of 7: "
            "say in a mapping which they are (motus inspect --map-out)"
        )
    known = arms == 14
    acted = known and f"action/{_JOINTS}" in columns
    if known and not acted:
        warnings.append(f"no action/{_JOINTS}: the following state becomes the action")
    return AgibotEpisode(
        path=path,
        name=name,
        num_frames=num_frames,
        videos=tuple(videos),
        columns=columns,
        defaults=ColumnMap(
            state=_two_arms(h5, "state", columns) if known else None,
            action=_two_arms(h5, "action", columns) if acted else None,
            action_kind="joint_position",
            cameras=cameras_among(_ROLES, [camera for camera, _ in videos]),
            rate=rate,
            task=task,
        ),
        warnings=tuple(warnings),
    )


def _columns(h5: h5py.File, path: Path, num_frames: int, warnings: list[str]) -> tuple[str, ...]:
    """The columns that have, or can be given, a row for each frame."""
    found = []
    for group in ("state", "action"):
        for name in (f"{group}/{p}/{k}" for p in _PARTS for k in _KINDS):
            if name not in h5:
                continue
            rows = len(h5[name]) if has_rows(h5, name) else 0
            if rows > num_frames:
                raise DataError(
                    f"{path}: '{name}' has {rows} rows of {num_frames}: the recording is corrupt",
                    hint="leave it out with --skip-bad",
                    where=str(path),
                )
            if rows == 0:
                warnings.append(f"'{name}' is empty and is left out")
            elif rows == num_frames:
                found.append(name)
            elif group == "action" and len(_index(h5, name)) == rows:
                warnings.append(f"'{name}' has commands on some frames only; the rest is filled in")
                found.append(name)
            else:
                warnings.append(f"'{name}' has {rows} rows of {num_frames} and is left out")
    return tuple(found)


def _index(h5: h5py.File, name: str) -> np.ndarray:
    """The frames on which commands were sent; those of `end` got lost and equal the joints'."""
    part = name.split("/")[1]
    for named in (part, "joint") if part == "end" else (part,):
        if has_rows(h5, f"action/{named}/index"):
            return read_column(h5, f"action/{named}/index").astype(np.int64)
    return np.empty(0, np.int64)


def _filled(h5: h5py.File, name: str, num_frames: int) -> np.ndarray:
    values = read_column(h5, name)
    if len(values) == num_frames:
        return values
    index = _index(h5, name)
    if len(index) != len(values) or index.min() < 0 or index.max() >= num_frames:
        raise ValueError(f"the index of {name} does not fit its {len(values)} rows")
    state = f"state/{name.removeprefix('action/')}"
    if (
        state in h5
        and h5[state].shape == (num_frames, *values.shape[1:])
        and "effector" not in name
    ):
        filled = read_column(h5, state).astype(np.float64)
        filled[index] = values
        return filled
    # A gripper's state is in another unit than its command: the last command holds.
    order = np.argsort(index, kind="stable")
    last = np.searchsorted(index[order], np.arange(num_frames), side="right") - 1
    return values[order][np.maximum(last, 0)]


def _two_arms(h5: h5py.File, group: str, columns: tuple[str, ...]) -> tuple[str | Part, ...]:
    """Each arm's seven joints and its gripper, left first; of a hand with fingers the joints."""
    joints, gripper = f"{group}/{_JOINTS}", f"{group}/{_GRIPPERS}"
    if gripper not in columns or h5[gripper].shape[1:] != (2,):
        return (joints,)
    parts: list[str | Part] = []
    for side in (0, 1):
        parts.append(f"{joints}[{7 * side}:{7 * side + 7}]")
        opening = f"{gripper}[{side}]"
        parts.append(Part(column=opening, closed=1, open=0) if group == "action" else opening)
    return tuple(parts)


def _rate(h5: h5py.File, warnings: list[str]) -> float:
    """What the time stamps tell, in ns or as "seconds:nanoseconds"; 30 Hz but for their jitter."""
    if not has_rows(h5, "timestamp"):
        warnings.append(f"no time stamps are stored; {_RATE:g} Hz is assumed")
        return _RATE
    stamps = h5["timestamp"][()]
    if stamps.dtype.kind in "OS":
        warnings.append("the layout of 2026: quaternions are wxyz here, xyzw in earlier releases")
        pairs = [(v.decode() if isinstance(v, bytes) else str(v)).split(":") for v in stamps]
        seconds = np.array([float(s) + float(n) * 1e-9 for s, n in pairs])
    else:
        seconds = (stamps - stamps[0]).astype(np.float64) * 1e-9
    rate, notes = clock(seconds)
    warnings += notes
    return _RATE if rate is None or abs(rate / _RATE - 1) < 0.05 else rate


def _tasks(file: Path) -> dict[str, str]:
    """Episode -> task of a task_info file."""
    if not file.is_file():
        return {}
    listed = read_json(file)
    try:
        return {str(e["episode_id"]): _words(e) for e in listed}
    except (LookupError, TypeError) as error:
        raise DataError(f"{file} lists no episodes: {error}", where=str(file)) from error


def _words(entry: dict[str, Any]) -> str:
    if entry.get("task_name"):
        return str(entry["task_name"])
    steps = (entry.get("label_info") or {}).get("action_config") or []
    return "; ".join(str(s["action_text"]) for s in steps if s.get("action_text"))
