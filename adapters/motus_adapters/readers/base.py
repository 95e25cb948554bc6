"""What a reader is: it recognises a layout and tells its episodes, without decoding a frame."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from motus_embodiments import DataError, UsageError, nearest

OnBad = Callable[[str, DataError], None]

_SLICE = re.compile(r"^(?P<name>.*?)\[(?P<start>\d+)(:(?P<stop>\d+))?\]$")
_SAMPLED_OVER = 64 * 2**20  # bytes; larger files are hashed by samples
_SAMPLES, _SAMPLE = 64, 2**20


@dataclass(frozen=True)
class ColumnMap:
    """Which columns of a recording are the state, the action and the camera views.

    A column may be cut: `observation.state[0:7]`, `data[3]`. None leaves the reader's own choice.

    Attributes:
        state: Columns that make up the native state, in order; () for none.
        action: The same for the action; () has the action made from the following state.
        cameras: Role (head, left_wrist, right_wrist) -> camera of the recording.
        action_kind: joint_position, ee_pose or ee_position.
        rate: Frames a second.
        task: What the robot is told.
    """

    state: tuple[str, ...] | None = None
    action: tuple[str, ...] | None = None
    cameras: Mapping[str, str] = field(default_factory=dict)
    action_kind: str | None = None
    rate: float | None = None
    task: str | None = None

    @staticmethod
    def read(given: "ColumnMap | Mapping[str, Any] | Path | str | None") -> "ColumnMap":
        """From a dict or a YAML file.

        Raises:
            UsageError: The file is missing, or a key or value is not known.
        """
        if given is None:
            return ColumnMap()
        if isinstance(given, ColumnMap):
            return given
        where = "the mapping"
        if isinstance(given, Path | str):
            where = str(given)
            try:
                given = yaml.safe_load(Path(given).read_text(encoding="utf-8")) or {}
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise UsageError(
                    f"cannot read the mapping {where}: {error}", where=where
                ) from error
        if not isinstance(given, Mapping):
            raise UsageError(f"{where} is not a table of keys", where=where)
        known = [f.name for f in fields(ColumnMap)]
        for key in given:
            if key not in known:
                raise UsageError(
                    f"unknown key '{key}' in {where}", hint=nearest(str(key), known), where=where
                )
        values = dict(given)
        for key in ("state", "action"):
            if isinstance(values.get(key), str):
                values[key] = [values[key]]
            if values.get(key) is not None:
                values[key] = tuple(str(name) for name in values[key])
        if values.get("rate") is not None:
            values["rate"] = float(values["rate"])
        return ColumnMap(**values)

    def over(self, defaults: "ColumnMap") -> "ColumnMap":
        """This map, with what it leaves open taken from `defaults`."""
        stated = {f.name: getattr(self, f.name) for f in fields(ColumnMap)}
        return replace(defaults, **{k: v for k, v in stated.items() if v not in (None, {})})

    def to_dict(self) -> dict[str, Any]:
        """As noted in the dataset."""
        return {
            "state": None if self.state is None else list(self.state),
            "action": None if self.action is None else list(self.action),
            "cameras": dict(self.cameras),
            "action_kind": self.action_kind,
            "rate": self.rate,
            "task": self.task,
        }


class EpisodeFile(Protocol):
    """One episode of one format: names of what is there now, values when asked.

    Cheap to make and picklable, since worker processes open the file anew.
    """

    @property
    def name(self) -> str:
        """Unique within the source."""
        ...

    @property
    def num_frames(self) -> int:
        """T."""
        ...

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the views."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the numeric columns."""
        ...

    @property
    def defaults(self) -> ColumnMap:
        """What the layout itself says about state, action, rate and task."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found to contradict itself."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files (or folders) it is read from."""
        ...

    def column(self, name: str) -> np.ndarray:
        """A numeric column, [T, n]."""
        ...

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The T frames of a view in order, uint8 RGB [h, w, 3]."""
        ...


class Reader(Protocol):
    """One format."""

    @property
    def name(self) -> str:
        """As given to `--format`."""
        ...

    @property
    def looked_for(self) -> str:
        """The layout in a few words, for the error when nothing is recognised."""
        ...

    def detect(self, path: Path) -> bool:
        """Whether `path` has this layout."""
        ...

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """The episodes in their natural order; no frame is decoded.

        Args:
            path: The source.
            on_bad: Called with the name and the error of an unreadable episode, which is then
                left out; without it the error is raised.
        """
        ...


@dataclass(frozen=True)
class Recording:
    """An episode seen through a mapping: native state and action, named cameras."""

    episode: EpisodeFile
    mapping: ColumnMap

    @property
    def name(self) -> str:
        """Unique within the source."""
        return self.episode.name

    @property
    def num_frames(self) -> int:
        """T."""
        return self.episode.num_frames

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the views."""
        return self.episode.cameras

    @property
    def task(self) -> str | None:
        """What the robot is told, where known."""
        return self.mapping.task

    @property
    def rate(self) -> float | None:
        """Frames a second, where known."""
        return self.mapping.rate

    @property
    def action_kind(self) -> str | None:
        """What the actions are, where known."""
        return self.mapping.action_kind

    @property
    def state(self) -> np.ndarray | None:
        """Native state float64 [T, n], or None."""
        return self._select(self.mapping.state)

    @property
    def action(self) -> np.ndarray | None:
        """Native action float64 [T, m], or None."""
        return self._select(self.mapping.action)

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The T frames of a view in order, uint8 RGB [h, w, 3]."""
        return self.episode.frames(camera)

    def content_hash(self) -> str:
        """SHA-256 over the files that the episode is read from."""
        return content_hash([self])

    def _select(self, names: tuple[str, ...] | None) -> np.ndarray | None:
        if not names:
            return None
        parts = [self._column(name) for name in names]
        for name, part in zip(names, parts, strict=True):
            if len(part) != self.num_frames:
                raise DataError(
                    f"{self.name}: column '{name}' has {len(part)} rows, "
                    f"the episode has {self.num_frames} frames",
                    hint="leave it out with --skip-bad, or map another column",
                    where=self.name,
                )
        return np.concatenate(parts, axis=1)

    def _column(self, name: str) -> np.ndarray:
        columns = self.episode.columns
        cut = _SLICE.match(name)
        if name in columns or cut is None or cut["name"] not in columns:
            if name not in columns:
                raise UsageError(
                    f"{self.name} has no column '{name}'",
                    hint=nearest(name, columns),
                    where=self.name,
                )
            return as_matrix(self.episode.column(name))
        values = as_matrix(self.episode.column(cut["name"]))
        start = int(cut["start"])
        stop = int(cut["stop"]) if cut["stop"] else start + 1
        if not start < stop <= values.shape[1]:
            raise UsageError(
                f"'{name}' is out of range: '{cut['name']}' has {values.shape[1]} channels",
                where=self.name,
            )
        return values[:, start:stop]


def as_matrix(values: np.ndarray) -> np.ndarray:
    """A column as float64 [T, n]."""
    return np.asarray(values, np.float64).reshape(len(values), -1)


def natural_key(name: str | Path) -> tuple[tuple[int, int, str], ...]:
    """Sorts episode_2 before episode_10."""
    parts = re.split(r"(\d+)", str(name))
    return tuple((0, int(p), p) if p.isdigit() else (1, 0, p) for p in parts)


def content_hash(recordings: Sequence[Recording]) -> str:
    """SHA-256 over name, size and content of every file behind the recordings.

    Of a file over 64 MB it is 64 evenly spaced MB that count, so that hashing a terabyte does
    not take longer than converting it.
    """
    paths = sorted({path for recording in recordings for path in recording.episode.files})
    files = [f for path in paths for f in (_tree(path) if path.is_dir() else [path])]
    base = Path(*_common(files))
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(base)}\0{size}\0".encode())
        with open(file, "rb") as stream:
            if size <= _SAMPLED_OVER:
                while block := stream.read(_SAMPLE):
                    digest.update(block)
                continue
            for i in range(_SAMPLES):
                stream.seek(i * (size - _SAMPLE) // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()


def find_roots(path: Path, marker: str, depth: int = 3) -> list[Path]:
    """Folders at or below `path` that hold `marker`, nearest first; links are not followed."""
    if (path / marker).exists():
        return [path]
    if depth == 0 or not path.is_dir():
        return []
    below = sorted(
        (p for p in path.iterdir() if p.is_dir() and not p.is_symlink()), key=natural_key
    )
    return [root for folder in below for root in find_roots(folder, marker, depth - 1)]


def _tree(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _common(files: Sequence[Path]) -> tuple[str, ...]:
    """The path that all files share, without the last file's own name."""
    parts = [file.parent.parts for file in files]
    shared = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return tuple(shared)
