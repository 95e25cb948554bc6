"""Plain folders of videos: web and egocentric recordings without numbers."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motus_adapters.readers.base import EpisodeFile, OnBad, walk
from motus_adapters.readers.hdf5 import files_below, report
from motus_adapters.readers.mapping import ColumnMap
from motus_adapters.readers.videos import SUFFIXES, frames_of, look_at
from motus_embodiments import DataError

_CAMERA = "video"
# What may lie beside videos without being part of a recording.
_HARMLESS = (".txt", ".json", ".md", ".csv", ".srt", ".vtt", ".jpg", ".png", "")
_TOLD = ("task", "instruction", "caption", "description", "text")


class VideoReader:
    """Videos anywhere below a folder, each an episode; <video>.txt or .json may tell the task.

    Where files of numbers lie beside them it is another format, perhaps an unknown one, and the
    videos alone are only read when asked for with `--format video`.
    """

    name = "video"
    looked_for = "videos and no files of numbers (mp4, mov, mkv, webm, avi)"

    def detect(self, path: Path) -> bool:
        """Whether there are videos and nothing that looks like data."""
        some = False
        for file in files_below(path):
            suffix = file.suffix.lower()
            if suffix in SUFFIXES:
                some = True
            elif suffix not in _HARMLESS:
                return False
        return some

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """One episode a video, in natural order."""
        found: list[EpisodeFile] = []
        for file in (f for f in walk(path) if f.suffix.lower() in SUFFIXES):
            name = file.stem if path.is_file() else str(file.relative_to(path).with_suffix(""))
            try:
                found.append(_describe(file, name))
            except DataError as error:
                report(on_bad, name, error)
        return found


@dataclass(frozen=True)
class VideoEpisode:
    """One video."""

    path: Path
    name: str
    num_frames: int
    told: Path | None
    defaults: ColumnMap
    warnings: tuple[str, ...] = ()
    cameras: tuple[str, ...] = (_CAMERA,)
    columns: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The video and the text that tells the task."""
        return (self.path, *([self.told] if self.told else []))

    def column(self, name: str) -> np.ndarray:
        """There is none.

        Raises:
            KeyError: Always.
        """
        raise KeyError(name)

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The frames of the video."""
        return frames_of(self.path, self.num_frames)


def _describe(path: Path, name: str) -> VideoEpisode:
    video = look_at(path)
    told = next((f for s in (".txt", ".json") if (f := path.with_suffix(s)).is_file()), None)
    warnings = () if video.rate else ("videos that do not tell their rate",)
    defaults = ColumnMap(
        cameras={"head": _CAMERA}, rate=video.rate, task=_task(told) if told else None
    )
    return VideoEpisode(path, name, video.frames, told, defaults, warnings)


def _task(path: Path) -> str | None:
    """The text itself, or what a JSON file calls task, instruction, caption or description."""
    try:
        content = path.read_text(encoding="utf-8-sig").strip()
        if path.suffix == ".txt":
            return content or None
        told = json.loads(content)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", where=str(path)) from error
    values = (told.get(key) for key in _TOLD) if isinstance(told, dict) else ()
    return next((str(v) for v in values if v), None)
