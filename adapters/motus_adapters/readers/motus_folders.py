"""Motus' own published folders: videos, qpos and latent actions as files of the same name."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motus_adapters.readers.base import EpisodeFile, OnBad, walk
from motus_adapters.readers.hdf5 import files_below, report
from motus_adapters.readers.mapping import ColumnMap, Role
from motus_adapters.readers.videos import VideoFile, frames_of, look_at
from motus_embodiments import DataError

_LATENT = "latent_action_dim14"
# Folders that hold one tensor a video, and what their column is called.
_TENSORS = {"qpos": "qpos", "endpose": "endpose", _LATENT: "latent_action"}
_MARKS = (*_TENSORS, "umt5_wan")
_SENTENCE = "performing the following task:"  # what RoboTwin's texts say before the task
# Three views on one picture: head on top, wrists at half size below (robotwin_converter.py).
_VIEWS: tuple[Role, ...] = ("head", "left_wrist", "right_wrist")


class MotusReader:
    """videos/<n>.mp4 with qpos/<n>.pt or latent_action_dim14/<n>.pt; or episode_<n>/video.mp4.

    Layout: DATA_FORMAT.md and robotwin_converter.py of Motus, README of embodied-data-toolkit,
    and AnyPos' episode_<n>.mp4 with episode_<n>_qpos.pt. A picture composed of three views is
    taken apart again. The gripper's scale differs between the published robots and is the card's.
    """

    name = "motus"
    looked_for = (
        "videos/ beside qpos/, umt5_wan/ or latent_action_dim14/, "
        "or mp4 files beside *qpos.pt (Motus, AnyPos)"
    )

    def detect(self, path: Path) -> bool:
        """Whether it is, or holds, such folders."""
        return path.is_dir() and next(_sources(files_below(path)), None) is not None

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """One episode a video, in numeric order."""
        found: list[EpisodeFile] = []
        for source in _sources(walk(path)):
            name = str(source.video.relative_to(path).with_suffix(""))
            try:
                found.append(_describe(source, name))
            except DataError as error:
                report(on_bad, name, error)
        return found


@dataclass(frozen=True)
class _Source:
    """The files of one episode: the video and the tensors that belong to it."""

    video: Path
    tensors: tuple[tuple[str, Path], ...]
    told: Path | None
    missing: tuple[Path, ...] = ()


@dataclass(frozen=True)
class MotusEpisode:
    """One video with its tensors."""

    name: str
    num_frames: int
    video: Path
    tensors: tuple[tuple[str, Path], ...]
    told: Path | None
    size: tuple[int, int]
    cameras: tuple[str, ...]
    defaults: ColumnMap
    warnings: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """qpos, endpose and latent_action, where they are stored."""
        return tuple(name for name, _ in self.tensors)

    @property
    def files(self) -> tuple[Path, ...]:
        """The video, the tensors and the text."""
        return (self.video, *(p for _, p in self.tensors), *([self.told] if self.told else []))

    def column(self, name: str) -> np.ndarray:
        """A tensor [T, n].

        Raises:
            DataError: It is damaged, or longer or shorter than the video.
        """
        path = dict(self.tensors)[name]
        values = _tensor(path)
        if name == "latent_action" and len(values) == self.num_frames - 1:
            # One for each pair of frames: the last frame has none of its own.
            values = np.concatenate([values, values[-1:]])
        if len(values) != self.num_frames:
            raise DataError(
                f"{path} has {len(values)} rows, its video {self.num_frames} frames",
                hint="leave it out with --skip-bad",
                where=str(path),
            )
        return values

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The frames of the video, or the part of them that is this view."""
        box = _box(self.size, camera if len(self.cameras) > 1 else None)
        for frame in frames_of(self.video, self.num_frames):
            yield np.ascontiguousarray(frame[box])


def _sources(files: Iterator[Path]) -> Iterator[_Source]:
    """The episodes whose videos are among the files."""
    for file in files:
        if file.suffix != ".mp4":
            continue
        folder = file.parent
        root = folder.parent
        if folder.name == "videos" and any((root / mark).is_dir() for mark in _MARKS):
            yield _beside(root, file)
        elif file.name == "video.mp4" and (folder / "qpos.pt").is_file():
            yield _alone(folder, file)
        elif (flat := file.with_name(f"{file.stem}_qpos.pt")).is_file():
            yield _Source(file, (("qpos", flat),), _first_file(folder / f"{folder.name}.json"))


def _beside(root: Path, video: Path) -> _Source:
    """videos/<n>.mp4, qpos/<n>.pt, metas/<n>.txt: one folder a kind of file."""
    wanted = [
        (column, root / kind / f"{video.stem}.pt")
        for kind, column in _TENSORS.items()
        if (root / kind).is_dir()
    ]
    told = _first_file(root / "metas" / f"{video.stem}.txt", root / "instructions" / "task.txt")
    return _Source(
        video,
        tuple((column, p) for column, p in wanted if p.is_file()),
        told,
        tuple(p for _, p in wanted if not p.is_file()),
    )


def _alone(folder: Path, video: Path) -> _Source:
    """episode_<n>/{video.mp4, qpos.pt, endpose.pt, instructions.json}: one folder an episode."""
    named = ((n, folder / f"{n}.pt") for n in ("qpos", "endpose"))
    told = _first_file(folder / "instructions.json", folder.parent / "task_meta.json")
    return _Source(video, tuple((n, p) for n, p in named if p.is_file()), told)


def _first_file(*paths: Path) -> Path | None:
    return next((p for p in paths if p.is_file()), None)


def _describe(source: _Source, name: str) -> MotusEpisode:
    if source.missing:
        raise DataError(
            f"{source.video} has no {source.missing[0]}",
            hint="videos and tensors must have the same names; leave it out with --skip-bad",
            where=str(source.video),
        )
    video = look_at(source.video)
    warnings = []
    columns = [column for column, _ in source.tensors]
    if "latent_action" in columns:
        warnings.append(
            "latent actions of another codec are not taken over: motus label writes ours"
        )
    composed = _is_composed(video)
    if composed:
        warnings.append("pictures are taken apart into head, left_wrist and right_wrist")
    cameras = _VIEWS if composed else ("video",)
    return MotusEpisode(
        name=name,
        num_frames=video.frames,
        video=source.video,
        tensors=source.tensors,
        told=source.told,
        size=(video.height, video.width),
        cameras=cameras,
        defaults=ColumnMap(
            state=("qpos",) if "qpos" in columns else None,
            action_kind="joint_position",
            cameras={v: v for v in _VIEWS} if composed else {"head": "video"},
            rate=video.rate,
            task=_task(source.told) if source.told else None,
        ),
        warnings=tuple(warnings),
    )


def _is_composed(video: VideoFile) -> bool:
    """A 4:3 view with half its height below it is 9 high where it is 8 wide."""
    return video.height * 8 == video.width * 9


def _box(size: tuple[int, int], view: str | None) -> tuple[slice, slice]:
    """Rows and columns of a view on the composed picture; the whole where there is none."""
    height, width = size
    top, middle = height * 2 // 3, width // 2
    if view == "head":
        return slice(0, top), slice(0, width)
    if view is None:
        return slice(0, height), slice(0, width)
    return slice(top, height), slice(0, middle) if view == "left_wrist" else slice(middle, width)


def _tensor(path: Path) -> np.ndarray:
    """A tensor file; code in it is never run."""
    import torch

    try:
        value: Any = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(value, list | tuple):
            value = torch.stack(list(value))
        array: np.ndarray = value.float().numpy()
        return array.reshape(len(array), -1)
    except (
        OSError,
        RuntimeError,
        EOFError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        pickle.UnpicklingError,
    ) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"cannot read {path} as a tensor: {line}",
            hint="the file is damaged; copy it again, or leave it out with --skip-bad",
            where=str(path),
        ) from error


def _task(path: Path) -> str | None:
    """The first wording of a text or JSON file, without RoboTwin's sentence about the cameras."""
    try:
        content = path.read_text(encoding="utf-8-sig")
        told: Any = json.loads(content) if path.suffix == ".json" else content.splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", where=str(path)) from error
    if isinstance(told, dict):
        told = told.get("instructions") or told.get("instruction") or told.get("caption")
    if isinstance(told, list):
        told = next((line for line in told if str(line).strip()), None)
    return str(told).rpartition(_SENTENCE)[2].strip() or None if told else None
