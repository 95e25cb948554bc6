"""EgoDex: egocentric video with the poses of both hands, one HDF5 file and one mp4 an episode."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from motus_adapters.readers.base import EpisodeFile, OnBad
from motus_adapters.readers.hdf5 import (
    columns_of,
    dataset_of,
    describe_files,
    detect_hdf5,
    members,
    opened,
    read_column,
    rows_of,
    text,
)
from motus_adapters.readers.mapping import ColumnMap
from motus_adapters.readers.videos import frames_of, video_of
from motus_embodiments import DataError
from motus_embodiments.numbers.rotations import to_vector

_CAMERA = "ego"
_WRISTS = ("leftHand", "rightHand")
_RATE = 30.0  # Hz
_BAD_SHARE = 0.5  # of the frames with a confidence too low to use
_CONFIDENT = 0.1
# Misspelt or renamed in some files.
_ALIASES = {"Thunmb": "Thumb", "PinkyFinger": "LittleFinger"}


class EgodexReader:
    """<task>/<n>.hdf5 with /transforms, and the video <n>.mp4 beside it.

    Layout: Apple's EgoDex as angkul07/egodex_retargeting describes it. World poses are y-up with
    an arbitrary heading, so every joint is given in the frame of the camera: position in m and
    rotation vector in rad. The wrists are the state; there is no action.
    """

    name = "egodex"
    looked_for = "HDF5 files with /transforms/camera beside an mp4 (EgoDex)"

    def detect(self, path: Path) -> bool:
        """Whether the first readable HDF5 file has this layout."""
        return detect_hdf5(path, lambda h5, _: "transforms/camera" in h5)

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """One episode a pair of files, in numeric order."""
        return describe_files(path, _describe, on_bad)


@dataclass(frozen=True)
class EgodexEpisode:
    """One pair of files."""

    path: Path
    video: Path
    name: str
    num_frames: int
    joints: tuple[tuple[str, str], ...]  # (name, name in the file)
    confidences: tuple[tuple[str, str], ...]
    defaults: ColumnMap
    warnings: tuple[str, ...]

    @property
    def cameras(self) -> tuple[str, ...]:
        """The one on the head."""
        return (_CAMERA,)

    @property
    def columns(self) -> tuple[str, ...]:
        """Each joint's pose [T, 6] in the camera's frame, and how sure it is."""
        return tuple(name for name, _ in (*self.joints, *self.confidences))

    @property
    def files(self) -> tuple[Path, ...]:
        """The numbers and the video."""
        return (self.path, self.video)

    def column(self, name: str) -> np.ndarray:
        """A joint's position (m) and rotation vector (rad), or its confidence."""
        with opened(self.path) as h5:
            if (sure := dict(self.confidences).get(name)) is not None:
                return read_column(h5, sure)
            camera = _poses(h5, "camera", self.num_frames)
            joint = _poses(h5, dict(self.joints)[name], self.num_frames)
            seen = np.linalg.inv(camera) @ joint
            return np.concatenate([seen[:, :3, 3], to_vector(seen[:, :3, :3])], axis=1)

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The frames of the video."""
        return frames_of(self.video, self.num_frames)


def _poses(h5: h5py.File, joint: str, num_frames: int) -> np.ndarray:
    poses = read_column(h5, f"transforms/{joint}").astype(np.float64)
    if poses.shape != (num_frames, 4, 4) or not np.isfinite(poses).all():
        raise ValueError(f"transforms/{joint} holds no {num_frames} poses")
    return poses


def _describe(h5: h5py.File, path: Path, name: str) -> EgodexEpisode:
    warnings: list[str] = []
    num_frames = rows_of(path, h5, "transforms/camera")
    joints = {_name(n): n for n in members(h5, "transforms") if n != "camera"}
    short = [n for n in joints.values() if len(dataset_of(h5, f"transforms/{n}")) != num_frames]
    if short:
        warnings.append(f"{len(short)} joints have another length and are left out: {short[0]}")
    kept = tuple((n, stored) for n, stored in sorted(joints.items()) if stored not in short)
    names = [f"confidences/{n}" for n in members(h5, "confidences")]
    confidences = columns_of(path, h5, num_frames, names, warnings)
    warnings += _doubts(h5, confidences)
    file = path.with_suffix(".mp4")
    if not file.is_file():
        raise DataError(
            f"{path} has no video {file.name} beside it",
            hint="copy it as well, or leave the recording out with --skip-bad",
            where=str(path),
        )
    video = video_of(file, num_frames, warnings)
    if video.rate is not None and abs(video.rate / _RATE - 1) > 0.01:
        warnings.append(f"videos run at {video.rate:g} Hz, EgoDex is recorded at {_RATE:g}")
    return EgodexEpisode(
        path=path,
        video=file,
        name=name,
        num_frames=num_frames,
        joints=kept,
        confidences=tuple((_name(stored), stored) for stored in confidences),
        defaults=ColumnMap(
            state=_WRISTS if set(_WRISTS) <= {n for n, _ in kept} else None,
            cameras={"head": _CAMERA},
            rate=video.rate or _RATE,
            task=_task(h5, warnings),
        ),
        warnings=tuple(warnings),
    )


def _name(stored: str) -> str:
    for wrong, right in _ALIASES.items():
        stored = stored.replace(wrong, right)
    return stored


def _doubts(h5: h5py.File, confidences: tuple[str, ...]) -> list[str]:
    if not confidences:
        return ["no confidences are stored; joints out of sight cannot be told"]
    hands = [n for n in ("confidences/leftHand", "confidences/rightHand") if n in confidences]
    doubtful = [n for n in hands if (read_column(h5, n) < _CONFIDENT).mean() > _BAD_SHARE]
    return [f"{n}: most frames are below {_CONFIDENT}, the hand is out of sight" for n in doubtful]


def _task(h5: h5py.File, warnings: list[str]) -> str | None:
    """The description a language model wrote, the annotator's, or the task's name."""
    attributes = {key: text(value) for key, value in h5.attrs.items()}
    if attributes.get("llm_type") == "reversible":
        warnings.append(
            "reversible tasks: llm_description is taken, which of the two directions was "
            "recorded is not told (the other one is llm_description2)"
        )
    told = (attributes.get(k) for k in ("llm_description", "description", "task"))
    return next((t for t in told if t and t != "None"), None)
