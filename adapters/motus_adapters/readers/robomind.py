"""RoboMIND v1: one trajectory.hdf5 an episode, with the robot named in its path."""

import csv
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import h5py

from motus_adapters.readers.base import EpisodeFile, OnBad
from motus_adapters.readers.hdf5 import (
    Hdf5Episode,
    Pictures,
    columns_of,
    describe_files,
    detect_hdf5,
    has_rows,
    members,
    pictures_of,
    rows_of,
)
from motus_adapters.readers.mapping import ColumnMap, Role, cameras_among
from motus_embodiments import DataError

_RGB = "observations/rgb_images"
_INSTRUCTIONS = "RoboMIND_v1_2_instr.csv"
_RATE = 30.0  # Hz; not stored, what the converters take
_SHORTEST = 50  # frames; the converters leave out shorter episodes
# Frames that are no JPEG are bare bytes of one of the cameras' sizes.
_RAW = ((720, 1280), (480, 640))
# Of these robots the JPEGs were made from BGR, as cv2 wants it, so that cv2.imdecode gives BGR;
# of AgileX, TienKung and the simulation they were made from RGB (Tavish9/any4lerobot
# robomind_h5.py).
_BGR = ("h5_franka", "h5_ur")
# Their end-effector poses stand still (Open-X-Humanoid/RoboMIND-dataset-utils README).
_FROZEN = ("h5_ur_1rgb", "h5_simulation", "h5_sim_franka_3rgb")
_ROLES: Mapping[Role, str] = {
    "head": "camera_top",
    "left_wrist": "camera_left_wrist",
    "right_wrist": "camera_right_wrist",
}
_AGILEX_ROLES: Mapping[Role, str] = {**_ROLES, "head": "camera_front"}


class RobomindReader:
    """observations/rgb_images with puppet (state) and master (action); in simulation franka.

    Layout: Tavish9/any4lerobot robomind2lerobot, Open-X-Humanoid/RoboMIND-dataset-utils.
    """

    name = "robomind"
    looked_for = "HDF5 files with /observations/rgb_images and /puppet or /franka (RoboMIND)"

    def detect(self, path: Path) -> bool:
        """Whether the first readable HDF5 file has this layout."""
        return detect_hdf5(
            path, lambda h5, _: _RGB in h5 and any(_joints(h5, g) for g in ("puppet", "franka"))
        )

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """One episode a file, in numeric order."""
        return describe_files(path, _describe, on_bad)


def _joints(h5: h5py.File, group: str) -> tuple[str, ...]:
    """The joint positions of a group, left arm first; () where it has none."""
    two = (f"{group}/joint_position_left", f"{group}/joint_position_right")
    one = (f"{group}/joint_position",)
    return next((names for names in (two, one) if all(has_rows(h5, n) for n in names)), ())


def _describe(h5: h5py.File, path: Path, name: str) -> Hdf5Episode:
    robot = next((p for p in reversed(path.parts) if p.startswith("h5_")), None)
    warnings = [f"no rate is stored; {_RATE:g} Hz is assumed, as its converters do"]
    state = _joints(h5, "puppet") or _joints(h5, "franka")
    action = _joints(h5, "master")
    if not state:
        raise DataError(
            f"{path} has no joint positions in /puppet or /franka",
            hint="leave it out with --skip-bad",
            where=str(path),
        )
    num_frames = rows_of(path, h5, state[0])
    if num_frames < _SHORTEST:
        warnings.append(f"episodes of fewer than {_SHORTEST} frames, which its converters drop")
    if robot in _FROZEN:
        warnings.append(f"the end-effector poses of {robot} stand still: use joint positions")
    if not action:
        warnings.append("no /master: the following state becomes the action")
    groups = ("puppet", "franka", "master")
    names = [f"{group}/{n}" for group in groups for n in members(h5, group)]
    columns = columns_of(path, h5, num_frames, names, warnings, (*state, *action))
    bgr = _stored_as_bgr(robot, state, warnings)
    views = [Pictures(n, f"{_RGB}/{n}", decoded_bgr=bgr, raw=_RAW) for n in members(h5, _RGB)]
    pictures = pictures_of(path, h5, num_frames, views, warnings)
    cameras = [p.camera for p in pictures]
    roles = _AGILEX_ROLES if "camera_front" in cameras else _ROLES
    task, beside = _instruction(path, robot, warnings)
    return Hdf5Episode(
        path=path,
        name=name,
        num_frames=num_frames,
        pictures=pictures,
        columns=columns,
        defaults=ColumnMap(
            state=state,
            action=action or None,
            action_kind="joint_position",
            cameras=cameras_among(roles, cameras),
            rate=_RATE,
            task=task,
        ),
        warnings=tuple(warnings),
        beside=beside,
    )


def _stored_as_bgr(robot: str | None, state: tuple[str, ...], warnings: list[str]) -> bool:
    """Whether cv2.imdecode gives BGR; the robot decides, and without its name its columns do."""
    if robot is not None:
        return robot.startswith(_BGR)
    is_franka = state == ("puppet/joint_position",)
    told = "a Franka" if is_franka else "AgileX or the simulation"
    warnings.append(
        f"no folder h5_<robot> tells the robot; red and blue are taken as those of {told} "
        "(mapping: swap_colours)"
    )
    return is_franka


def _instruction(
    path: Path, robot: str | None, warnings: list[str]
) -> tuple[str | None, tuple[Path, ...]]:
    """The task's line in the instruction table, which lies above the benchmark folders."""
    if robot is None:
        return None, ()
    parts = path.parts
    at = len(parts) - 1 - parts[::-1].index(robot)
    task = parts[at + 1] if at + 2 < len(parts) else None
    for folder in list(path.parents)[len(parts) - 1 - at :][:4]:
        file = folder / _INSTRUCTIONS
        if file.is_file():
            told = _table(file).get(task or "")
            if told is None:
                warnings.append(f"{_INSTRUCTIONS} has no instruction for '{task}'")
            return told, (file,)
    return None, ()


@lru_cache(maxsize=8)
def _table(file: Path) -> dict[str, str]:
    """Task -> instruction."""
    try:
        with open(file, newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read {file}: {error}", where=str(file)) from error
    return {str(r.get("task")): str(r["instruction"]) for r in rows if r.get("instruction")}
