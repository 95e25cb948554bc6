"""RoboTwin 2.0: one HDF5 file an episode, in the layout before and after August 2026."""

import json
from collections.abc import Mapping
from pathlib import Path

import h5py

from motus_adapters.files import read_json
from motus_adapters.readers.base import EpisodeFile, OnBad
from motus_adapters.readers.hdf5 import (
    Hdf5Episode,
    Pictures,
    columns_of,
    describe_files,
    detect_hdf5,
    members,
    pictures_of,
    rows_of,
    text,
)
from motus_adapters.readers.mapping import ColumnMap, Part, Role, cameras_among

_OLD_ROLES: Mapping[Role, str] = {
    "head": "head_camera",
    "left_wrist": "left_camera",
    "right_wrist": "right_camera",
}
_NEW_ROLES: Mapping[Role, str] = {
    "head": "cam_head",
    "left_wrist": "cam_left_wrist",
    "right_wrist": "cam_right_wrist",
}


class RobotwinReader:
    """data/episode<N>.hdf5 with /joint_action and /observation, or with /state, /action, /vision.

    Layout: RoboTwin-Platform/RoboTwin envs/utils/pkl2hdf5.py. Grippers are 0 closed to 1 open in
    both. Before August 2026 there is no action: the following state is taken.
    """

    name = "robotwin"
    looked_for = "HDF5 files with /joint_action, or /state and /vision (RoboTwin 2.0)"

    def detect(self, path: Path) -> bool:
        """Whether the first readable HDF5 file has one of the layouts."""
        return detect_hdf5(path, lambda h5, _: _is_old(h5) or _is_new(h5))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """One episode a file, in numeric order."""
        return describe_files(path, _describe, on_bad)


def _is_old(h5: h5py.File) -> bool:
    return "joint_action/vector" in h5 and "observation" in h5


def _is_new(h5: h5py.File) -> bool:
    return "vision" in h5 and any(n.endswith("joint_states") for n in members(h5, "state"))


def _describe(h5: h5py.File, path: Path, name: str) -> Hdf5Episode:
    return _describe_new(h5, path, name) if _is_new(h5) else _describe_old(h5, path, name)


def _describe_old(h5: h5py.File, path: Path, name: str) -> Hdf5Episode:
    warnings: list[str] = []
    num_frames = rows_of(path, h5, "joint_action/vector")
    names = [f"joint_action/{n}" for n in members(h5, "joint_action")]
    # Until July 2025 `endpose` was one array (xyz, rpy, gripper an arm), later a group of arrays
    # (xyz and quaternion wxyz, gripper apart).
    names += ["endpose", *(f"endpose/{n}" for n in members(h5, "endpose"))]
    columns = columns_of(path, h5, num_frames, names, warnings, needed=names[:1])
    # RGB was passed to cv2.imencode, so cv2.imdecode gives RGB.
    cameras = [
        Pictures(n, f"observation/{n}/rgb")
        for n, camera in members(h5, "observation").items()
        if isinstance(camera, h5py.Group) and "rgb" in camera
    ]
    pictures = pictures_of(path, h5, num_frames, cameras, warnings)
    task, beside = _task_beside(path)
    joints = h5["joint_action/vector"].shape[-1]
    return Hdf5Episode(
        path=path,
        name=name,
        num_frames=num_frames,
        pictures=pictures,
        columns=columns,
        defaults=ColumnMap(
            state=_vector("joint_action/vector", joints),
            action_kind="joint_position",
            cameras=cameras_among(_OLD_ROLES, [p.camera for p in pictures]),
            task=task,
        ),
        warnings=tuple(warnings),
        beside=beside,
    )


def _describe_new(h5: h5py.File, path: Path, name: str) -> Hdf5Episode:
    warnings: list[str] = []
    found = members(h5, "state")
    joints = [n for n in _JOINTS if n in found]
    num_frames = rows_of(path, h5, f"state/{joints[0]}")
    names = [f"{group}/{n}" for group in ("state", "action") for n in members(h5, group)]
    needed = [f"{group}/{n}" for group in ("state", "action") for n in joints]
    columns = columns_of(path, h5, num_frames, names, warnings, needed)
    cameras = [Pictures(n, f"vision/{n}/colors") for n in members(h5, "vision")]
    pictures = pictures_of(path, h5, num_frames, cameras, warnings)
    rate = h5.get("additional_info/frequency")
    acted = all(f"action/{n}" in columns for n in joints)
    return Hdf5Episode(
        path=path,
        name=name,
        num_frames=num_frames,
        pictures=pictures,
        columns=columns,
        defaults=ColumnMap(
            state=tuple(_joint_part(f"state/{n}") for n in joints),
            action=tuple(_joint_part(f"action/{n}") for n in joints) if acted else None,
            action_kind="joint_position",
            cameras=_new_cameras([p.camera for p in pictures]),
            rate=None if rate is None else float(rate[()]),
            task=_task_inside(h5),
        ),
        warnings=tuple(warnings),
    )


# The card's order: each arm and its gripper, left first; the last two of a robot with one arm.
_JOINTS = (
    "left_arm_joint_states",
    "left_ee_joint_states",
    "right_arm_joint_states",
    "right_ee_joint_states",
    "arm_joint_states",
    "ee_joint_states",
)


def _joint_part(column: str) -> str | Part:
    return Part(column=column, closed=0, open=1) if "ee_joint" in column else column


def _vector(column: str, width: int) -> tuple[str | Part, ...]:
    """An arm's joints and its gripper, as often as there are arms of six or seven joints."""
    arm = {14: 7, 16: 8, 7: 7, 8: 8}.get(width)
    if arm is None:
        return (column,)
    parts: list[str | Part] = []
    for start in range(0, width, arm):
        gripper = start + arm - 1
        parts += [f"{column}[{start}:{gripper}]", _gripper(column, gripper)]
    return tuple(parts)


def _gripper(column: str, index: int) -> Part:
    return Part(column=f"{column}[{index}]", closed=0, open=1)


def _new_cameras(cameras: list[str]) -> dict[Role, str]:
    one_arm: dict[Role, str] = {"left_wrist": "cam_wrist"}
    return cameras_among(one_arm if "cam_wrist" in cameras else {}, cameras) | cameras_among(
        _NEW_ROLES, cameras
    )


def _task_beside(path: Path) -> tuple[str | None, tuple[Path, ...]]:
    """The first instruction of ../instructions/episode<N>.json; the others reword it."""
    file = path.parent.parent / "instructions" / f"{path.stem}.json"
    if not file.is_file():
        return None, ()
    told = read_json(file)
    return _first(told.get("seen") if isinstance(told, dict) else told), (file,)


def _task_inside(h5: h5py.File) -> str | None:
    value = text(h5.get("instructions", h5.get("instruction")))
    try:
        return _first(json.loads(value)) if value else None
    except ValueError:
        return value


def _first(told: object) -> str | None:
    """The first of several wordings."""
    one = told[0] if isinstance(told, list) and told else told
    return str(one) if one else None
