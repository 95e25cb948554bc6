"""robomimic: many episodes in one HDF5 file, data/demo_<k>/obs/*."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

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
from motus_adapters.readers.libero import is_libero
from motus_adapters.readers.mapping import ActionKind, ColumnMap

# Joint positions and gripper of a state, by the names recorders use; the first complete one wins.
_STATES = (
    ("obs/joint_pos", "obs/gripper_pos"),  # motus' own recorder
    ("obs/robot0_joint_pos", "obs/robot0_gripper_qpos"),  # robomimic, robosuite
)
_KINDS: Mapping[str, ActionKind] = {kind: kind for kind in get_args(ActionKind)}


class RobomimicReader:
    """data/demo_<k>/{actions, obs/*} with attributes task, rate_hz, env_args where recorded.

    Layout: robomimic docs/datasets/overview.md.
    """

    name = "robomimic"
    looked_for = "HDF5 files with /data/demo_<k>/obs (robomimic, motus record)"

    def detect(self, path: Path) -> bool:
        """Whether the first readable HDF5 file has this layout."""
        return detect_hdf5(path, lambda h5, _: _fits(h5))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """Every demo of every file, in numeric order."""
        return describe_demos(path, _describe, on_bad)


def _whole(columns: tuple[str, ...]) -> tuple[str, ...] | None:
    """The state in one piece, as `motus convert --to robomimic` writes it."""
    return ("obs/state",) if "obs/state" in columns else None


def _fits(h5: h5py.File) -> bool:
    return any("obs" in demo for demo in demos(h5).values()) and not is_libero(h5)


def _describe(h5: h5py.File, group: h5py.Group, path: Path, name: str) -> Hdf5Episode:
    data = h5["data"].attrs
    # robosuite renders with OpenGL's origin; robomimic's own extraction turns the pictures, and
    # says nothing, while files that name the convention have not been turned.
    upside_down = text(data.get("macros_image_convention")) == "opengl"
    episode = demo_episode(h5, group, path, name, upside_down)
    return replace(episode, defaults=_defaults(data, group.attrs, group, episode.columns))


def _defaults(data: Any, demo: Any, group: h5py.Group, columns: tuple[str, ...]) -> ColumnMap:
    settings = settings_of(data.get("env_args")).get("env_kwargs") or {}
    rate = data.get("rate_hz", settings.get("control_freq"))
    names = next((names for names in _STATES if set(names) <= set(columns)), None)
    fingers = 0 if names is None else int(group[names[1]].size // len(group[names[1]]))
    panda = str(settings.get("robots", "Panda")).strip("[]'\"") == "Panda"
    return ColumnMap(
        state=arm_and_hand(*names, fingers if panda else 0) if names else _whole(columns),
        action=("actions",) if "actions" in columns else None,
        action_kind=_KINDS.get(text(data.get("action_kind")) or "") or controller_kind(settings),
        rate=float(rate) if rate is not None and rate > 0 else None,
        task=text(demo.get("task", data.get("task"))) or None,
    )
