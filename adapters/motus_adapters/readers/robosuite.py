"""robosuite's raw demonstrations: simulator states and actions, no pictures."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py

from motus_adapters.readers.base import EpisodeFile, OnBad
from motus_adapters.readers.demos import (
    clock,
    controller_kind,
    demo_episode,
    demos,
    describe_demos,
    settings_of,
)
from motus_adapters.readers.hdf5 import Hdf5Episode, detect_hdf5, read_column
from motus_adapters.readers.mapping import ColumnMap, Part

# A state is time, qpos, qvel of MuJoCo (mujoco-py MjSimState.flatten); the robot's joints come
# first in qpos, then the fingers of its hand.
_PANDA = ("states[1:8]", Part(column="states[8]", closed=0, open=0.04))
_NO_PICTURES = (
    "no pictures are stored, only simulator states: robomimic's dataset_states_to_obs.py renders "
    "them, and its output can be converted"
)


class RobosuiteReader:
    """data/demo_<k>/{states, actions} as collect_human_demonstrations.py of robosuite writes.

    The time of the simulator is the first number of a state and tells the rate.
    """

    name = "robosuite"
    looked_for = "HDF5 files with /data/demo_<k>/states and no obs (robosuite demonstrations)"

    def detect(self, path: Path) -> bool:
        """Whether the first readable HDF5 file has this layout."""
        return detect_hdf5(path, lambda h5, _: _fits(h5))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """Every demo of every file, in numeric order."""
        return describe_demos(path, _describe, on_bad)


def _fits(h5: h5py.File) -> bool:
    return any("states" in demo and "obs" not in demo for demo in demos(h5).values())


def _describe(h5: h5py.File, group: h5py.Group, path: Path, name: str) -> Hdf5Episode:
    episode = demo_episode(h5, group, path, name, more=(_NO_PICTURES,))
    settings = settings_of(h5["data"].attrs.get("env_info"))
    states = read_column(group, "states")
    rate, notes = clock(states[:, 0])
    defaults = ColumnMap(
        state=_state(settings, states.shape[1]),
        action=("actions",) if "actions" in episode.columns else None,
        action_kind=controller_kind(settings),
        rate=rate,
    )
    return replace(episode, defaults=defaults, warnings=(*episode.warnings, *notes))


def _state(settings: dict[str, Any], width: int) -> tuple[str | Part, ...] | None:
    """Joints and gripper of a Panda; other robots' columns are for the mapping to say."""
    robots = settings.get("robots")
    panda = robots == "Panda" or robots == ["Panda"]
    if not panda or width < 10:
        return None
    return _PANDA[:1] if settings.get("env_name") == "Wipe" else _PANDA
