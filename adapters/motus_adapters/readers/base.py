"""What a reader is: it recognises a layout and tells its episodes, without decoding a frame."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from motus_adapters.readers.mapping import ColumnMap as ColumnMap
from motus_adapters.readers.mapping import Part, View, parts_of
from motus_adapters.unified.staging import is_finished, is_half_written
from motus_embodiments import DataError, UsageError, nearest

OnBad = Callable[[str, DataError], None]

_SAMPLED_OVER = 64 * 2**20  # bytes; larger files are hashed by samples
_SAMPLES, _SAMPLE = 64, 2**20


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
        """Unique within the source; letters that are none in UTF-8 become question marks."""
        return self.episode.name.encode(errors="replace").decode()

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
        """State float64 [T, n], or None."""
        numbers = self.numbers("state")
        return None if numbers is None else numbers[0]

    @property
    def action(self) -> np.ndarray | None:
        """Action float64 [T, m], or None."""
        numbers = self.numbers("action")
        return None if numbers is None else numbers[0]

    def numbers(self, what: Literal["state", "action"]) -> tuple[np.ndarray, np.ndarray] | None:
        """State or action float64 [T, n], and which channels are canonical already, bool [n].

        The others are in what the card calls native.

        Raises:
            DataError: A column has not one row for each frame.
            UsageError: The mapping names a column or channel that is not there.
        """
        parts = parts_of(getattr(self.mapping, what))
        if not parts:
            return None
        read: dict[str, np.ndarray] = {}
        columns = [self._column(part, read) for part in parts]
        widths = [values.shape[1] for values in columns]
        return np.concatenate(columns, axis=1), np.repeat([p.canonical for p in parts], widths)

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The T frames of a view in order, uint8 RGB [h, w, 3], put right as the mapping says.

        Raises:
            DataError: There is no such camera in this episode, or a frame cannot be decoded.
        """
        if camera not in self.cameras:
            raise DataError(
                f"{self.name} has no camera '{camera}'; it has {', '.join(self.cameras) or 'none'}",
                hint="leave it out with --skip-bad, or map a camera that all recordings have",
                where=self.name,
            )
        frames = self.episode.frames(camera)
        views = [v for v in self.mapping.cameras.values() if isinstance(v, View)]
        view = next((v for v in views if v.camera == camera), None)
        return frames if view is None else _put_right(frames, view)

    def at_least(self, sizes: Mapping[str, tuple[int, int]]) -> "Recording":
        """The same, of whose frames (height, width) by camera is enough.

        An episode that can make smaller pictures for less does so; others give them whole.
        """
        shrink = getattr(self.episode, "at_least", None)
        return self if shrink is None else replace(self, episode=shrink(sizes))

    def content_hash(self) -> str:
        """SHA-256 over the files that the episode is read from."""
        return content_hash([self])

    def _column(self, part: Part, read: dict[str, np.ndarray]) -> np.ndarray:
        """A part's numbers; each column is read once."""
        columns = self.episode.columns
        whole = part.column in columns
        name, start, stop = (part.column, None, None) if whole else part.span()
        if name not in columns or not (whole or stop):
            raise UsageError(
                f"{self.name} has no column '{part.column}'",
                hint=nearest(name, columns),
                where=self.name,
            )
        if name not in read:
            read[name] = as_matrix(self.episode.column(name))
        values = read[name]
        if len(values) != self.num_frames:
            raise DataError(
                f"{self.name}: column '{name}' has {len(values)} rows, "
                f"the episode has {self.num_frames} frames",
                hint="leave it out with --skip-bad, or map another column",
                where=self.name,
            )
        if start is not None and stop is not None:
            if not start < stop <= values.shape[1]:
                raise UsageError(
                    f"'{part.column}' is out of range: '{name}' has {values.shape[1]} channels",
                    where=self.name,
                )
            values = values[:, start:stop]
        factor, offset = part.line
        return (values - offset) * factor if part.canonical else values


def _put_right(frames: Iterator[np.ndarray], view: View) -> Iterator[np.ndarray]:
    for frame in frames:
        upright = frame[::-1] if view.upside_down else frame
        yield np.ascontiguousarray(upright[..., ::-1] if view.swap_colours else upright)


def as_matrix(values: np.ndarray) -> np.ndarray:
    """A column as float64 [T, n]."""
    return np.asarray(values, np.float64).reshape(len(values), -1)


def as_bytes(frame: np.ndarray, top: float, camera: str, path: Path) -> np.ndarray:
    """A frame of numbers in 0..top as uint8 0..255; one of bytes stays as it is.

    Raises:
        DataError: A number lies outside, or is none.
    """
    if frame.dtype == np.uint8:
        return frame
    low, high = float(np.min(frame)), float(np.max(frame))
    if not -1e-3 <= low <= high <= top * 1.001:  # false for nan, too
        raise DataError(
            f"{path}: frames of '{camera}' lie in {low:g}..{high:g}, not in 0..{top:g}",
            hint="leave the episode out with --skip-bad, or write it with uint8 frames",
            where=str(path),
        )
    return np.clip(np.rint(frame * (255.0 / top)), 0, 255).astype(np.uint8)


def natural_key(name: str | Path) -> tuple[tuple[int, int, str], ...]:
    """Sorts episode_2 before episode_10."""
    parts = re.split(r"(\d+)", str(name))
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts)


def content_hash(recordings: Sequence[Recording]) -> str:
    """SHA-256 over name, size and content of every file behind the recordings.

    Of a file over 64 MB it is 64 evenly spaced MB that count, so that hashing a terabyte does
    not take longer than converting it; `changed_at` tells of changes in between.
    """
    files = _files_behind(recordings)
    base = Path(*_common(files))
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        name = f"{file.relative_to(base)}\0{size}\0"
        digest.update(name.encode(errors="surrogateescape"))
        with open(file, "rb") as stream:
            if size <= _SAMPLED_OVER:
                while block := stream.read(_SAMPLE):
                    digest.update(block)
                continue
            for i in range(_SAMPLES):
                stream.seek(i * (size - _SAMPLE) // (_SAMPLES - 1))
                digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()


def changed_at(recordings: Sequence[Recording]) -> dict[str, int]:
    """Time of the last change, in ns, of the files of which `content_hash` reads only samples."""
    found = {str(path): path.stat() for path in _files_behind(recordings)}
    return {name: it.st_mtime_ns for name, it in found.items() if it.st_size > _SAMPLED_OVER}


def _files_behind(recordings: Sequence[Recording]) -> list[Path]:
    paths = sorted({path for recording in recordings for path in recording.episode.files})
    return [f for path in paths for f in (_tree(path) if path.is_dir() else [path])]


def dead_links(folder: Path) -> Iterator[Path]:
    """Links below a folder that lead nowhere or in a circle; readers would not see them at all."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: natural_key(entry.name)):
            if is_hidden(entry.name):
                continue
            if entry.is_symlink():
                if not os.path.exists(entry.path):
                    yield Path(entry.path)
            elif entry.is_dir():
                yield from dead_links(Path(entry.path))


def is_hidden(name: str) -> bool:
    """Whether it is none of a source: copies that macOS and notebooks keep, waste baskets."""
    return name.startswith(".")


def may_belong(folder: Path) -> bool:
    """Whether a folder below a source may be part of it: not hidden, and no dataset of motus."""
    return not (is_hidden(folder.name) or is_finished(folder) or is_half_written(folder))


def find_roots(path: Path, marker: str, depth: int = 3) -> list[Path]:
    """Folders at or below `path` that hold `marker`, nearest first; links are not followed."""
    if (path / marker).exists():
        return [path]
    if depth == 0 or not path.is_dir():
        return []
    folders = (p for p in path.iterdir() if p.is_dir() and not p.is_symlink())
    below = sorted(filter(may_belong, folders), key=natural_key)
    return [root for folder in below for root in find_roots(folder, marker, depth - 1)]


def walk(path: Path) -> Iterator[Path]:
    """The file itself, or every file below a folder: in natural order, its own files first.

    Links to folders are not followed, hidden files are left out.
    """
    if path.is_file():
        yield path
    for root, folders, files in os.walk(path):
        folders[:] = sorted((f for f in folders if may_belong(Path(root, f))), key=natural_key)
        for name in sorted(files, key=natural_key):
            if not is_hidden(name):
                yield Path(root, name)


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
