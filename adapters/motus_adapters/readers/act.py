"""ACT and mobile ALOHA: one HDF5 file an episode, raw or JPEG frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np

from motus_adapters.readers.base import ColumnMap, EpisodeFile, OnBad
from motus_adapters.readers.hdf5 import (
    first_readable,
    frame_blocks,
    hdf5_files,
    opened,
    report,
)
from motus_embodiments import DataError

_IMAGES = "observations/images"


class ActReader:
    """action, observations/qpos, observations/images/<camera> in episode_<n>.hdf5.

    Layout: tonyzhaozh/act record_sim_episodes.py, MarkFzp/mobile-aloha record_episodes.py.
    Neither rate nor task is stored.
    """

    name = "act"
    looked_for = "HDF5 files with /action and /observations/qpos (ACT, mobile ALOHA)"

    def detect(self, path: Path) -> bool:
        """Whether the first readable HDF5 file has this layout."""
        file = first_readable(path)
        if file is None:
            return False
        with opened(file) as h5:
            return "action" in h5 and "observations/qpos" in h5

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """One episode a file, in numeric order."""
        found: list[EpisodeFile] = []
        for file in hdf5_files(path):
            name = file.stem if path.is_file() else str(file.relative_to(path).with_suffix(""))
            try:
                found.append(_describe(file, name))
            except DataError as error:
                report(on_bad, name, error)
        return found


@dataclass(frozen=True)
class ActEpisode:
    """One file of the ACT layout."""

    path: Path
    name: str
    num_frames: int
    cameras: tuple[str, ...]
    columns: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    @property
    def defaults(self) -> ColumnMap:
        """State qpos and the action: six joints and a gripper an arm, left first."""
        return ColumnMap(
            state=("observations/qpos",), action=("action",), action_kind="joint_position"
        )

    def column(self, name: str) -> np.ndarray:
        """A numeric dataset by its path in the file."""
        with opened(self.path) as h5:
            values: np.ndarray = h5[name][()]
            return values

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The frames of observations/images/<camera>."""
        with opened(self.path) as h5:
            for index, row in enumerate(frame_blocks(h5[f"{_IMAGES}/{camera}"])):
                yield row if row.ndim == 3 else self._decode(row, camera, index)

    def _decode(self, row: np.ndarray, camera: str, index: int) -> np.ndarray:
        # The recorders pass RGB to cv2.imencode, which takes it for BGR; cv2.imdecode undoes
        # that, so its "BGR" is RGB already and must not be swapped.
        buffer = np.frombuffer(row, np.uint8) if isinstance(row, bytes) else row
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(
                f"{self.path}: frame {index} of camera '{camera}' is no JPEG",
                hint="the file is damaged; copy it again, or leave it out with --skip-bad",
                where=str(self.path),
            )
        return image


def _describe(path: Path, name: str) -> ActEpisode:
    with opened(path) as h5:
        if "action" not in h5 or "observations/qpos" not in h5:
            raise DataError(
                f"{path} lacks /action or /observations/qpos",
                hint="leave it out with --skip-bad",
                where=str(path),
            )
        num_frames = len(h5["observations/qpos"])
        cameras, warnings = [], []
        for camera, images in h5.get(_IMAGES, {}).items():
            if not _is_colour(images):
                warnings.append(f"camera '{camera}' is no colour view and is left out")
            elif len(images) != num_frames:
                raise DataError(
                    f"{path}: camera '{camera}' has {len(images)} frames, qpos {num_frames} rows",
                    hint="the recording is cut short; leave it out with --skip-bad",
                    where=str(path),
                )
            else:
                cameras.append(camera)
        names = ("action", "base_action", "observations/qpos", "observations/qvel")
        columns = tuple(n for n in (*names, "observations/effort") if n in h5)
    if num_frames == 0:
        raise DataError(f"{path} is empty", hint="leave it out: --skip-bad", where=str(path))
    return ActEpisode(path, name, num_frames, tuple(cameras), columns, tuple(warnings))


def _is_colour(images: h5py.Dataset) -> bool:
    """Raw uint8 [T, h, w, 3], padded JPEG uint8 [T, n], or JPEG of variable length [T]."""
    if images.ndim == 4:
        return bool(images.dtype == np.uint8 and images.shape[3] == 3)
    return images.ndim == 1 or bool(images.ndim == 2 and images.dtype == np.uint8)
