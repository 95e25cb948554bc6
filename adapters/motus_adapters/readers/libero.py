"""LIBERO: robomimic's layout, pictures upside down, the task in the problem's description."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import h5py

from motus_adapters.readers.base import EpisodeFile, OnBad
from motus_adapters.readers.demos import (
    arm_and_hand,
    controller_kind,
    demo_episode,
    demos,
    describe_demos,
    settings_of,
)
from motus_adapters.readers.hdf5 import Hdf5Episode, detect_hdf5, text
from motus_adapters.readers.mapping import ColumnMap, Role, cameras_among

_RATE = 20.0  # Hz, control_freq of LIBERO's environments where env_args does not say it
_ROLES: Mapping[Role, str] = {"head": "agentview_rgb", "left_wrist": "eye_in_hand_rgb"}
_STATE = ("obs/joint_states", "obs/gripper_states")
_NO_CONVENTION = "no image convention is stored; pictures are taken to be upside down as LIBERO's"


class LiberoReader:
    """data/demo_<k>/obs/{agentview_rgb, eye_in_hand_rgb, joint_states, gripper_states}.

    Layout: Lifelong-Robot-Learning/LIBERO scripts/create_dataset.py. Actions are changes of the
    end-effector's pose and a gripper command of -1 open to 1 closed.
    """

    name = "libero"
    looked_for = "HDF5 files with /data/demo_<k>/obs/agentview_rgb (LIBERO)"

    def detect(self, path: Path) -> bool:
        """Whether the first readable HDF5 file has this layout."""
        return detect_hdf5(path, lambda h5, _: is_libero(h5))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """Every demo of every file, in numeric order."""
        return describe_demos(path, _describe, on_bad)


def is_libero(h5: h5py.File) -> bool:
    """Whether a file of demos has LIBERO's cameras and states."""
    return any(
        "obs/agentview_rgb" in demo and "obs/joint_states" in demo for demo in demos(h5).values()
    )


def _describe(h5: h5py.File, group: h5py.Group, path: Path, name: str) -> Hdf5Episode:
    data = h5["data"].attrs
    convention = text(data.get("macros_image_convention"))
    notes = () if convention in ("opengl", "opencv") else (_NO_CONVENTION,)
    episode = demo_episode(h5, group, path, name, convention != "opencv", notes)
    settings = settings_of(data.get("env_args")).get("env_kwargs") or {}
    problem = settings_of(data.get("problem_info"))
    has_state = set(_STATE) <= set(episode.columns)
    width = group[_STATE[1]].shape[-1] if has_state else 0
    return replace(
        episode,
        defaults=ColumnMap(
            state=arm_and_hand(*_STATE, width) if has_state else None,
            action=("actions",) if "actions" in episode.columns else None,
            action_kind=controller_kind(settings) or "ee_delta",
            cameras=cameras_among(_ROLES, episode.cameras),
            rate=float(settings.get("control_freq") or _RATE),
            task=text(problem.get("language_instruction")) or _task_of(path),
        ),
    )


def _task_of(path: Path) -> str | None:
    """KITCHEN_SCENE1_open_the_drawer_demo.hdf5 -> open the drawer."""
    words = re.sub(r"^[A-Z_]+_SCENE\d+_", "", path.stem.removesuffix("_demo"))
    return words.replace("_", " ").strip() or None
