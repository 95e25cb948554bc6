"""ACT and mobile ALOHA: one HDF5 file an episode, raw or JPEG frames."""

from pathlib import Path

import h5py

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
)
from motus_adapters.readers.mapping import ColumnMap

IMAGES = "observations/images"
STATE = "observations/qpos"
INSTRUCTIONS = ("expanded_instruction_gpt-4-turbo.json", "expanded_instruction.json")
_COLUMNS = ("action", "base_action", STATE, "observations/qvel", "observations/effort")


class ActReader:
    """action, observations/qpos, observations/images/<camera> in episode_<n>.hdf5.

    Layout: tonyzhaozh/act record_sim_episodes.py, MarkFzp/mobile-aloha record_episodes.py,
    MarkFzp/act-plus-plus compress_data.py. Neither rate nor task is stored.
    """

    name = "act"
    looked_for = "HDF5 files with /action and /observations/qpos (ACT, mobile ALOHA)"

    def detect(self, path: Path) -> bool:
        """Whether the first readable HDF5 file has this layout."""
        return detect_hdf5(path, lambda h5, file: looks_like_act(h5) and not is_rdt(h5, file))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """One episode a file, in numeric order."""
        return describe_files(path, _describe, on_bad)


def looks_like_act(h5: h5py.File) -> bool:
    """Whether a file has ACT's columns, which RDT's files share."""
    return "action" in h5 and STATE in h5


def is_rdt(h5: h5py.File, path: Path) -> bool:
    """Whether a file of ACT's columns comes with an instruction, as RDT's do."""
    return "instruction" in h5 or any(path.with_name(n).is_file() for n in INSTRUCTIONS)


def act_parts(
    h5: h5py.File, path: Path, warnings: list[str]
) -> tuple[int, tuple[str, ...], tuple[Pictures, ...]]:
    """Frames, columns and pictures of a file of ACT's layout.

    The recorders pass RGB to cv2.imencode, which takes it for BGR; cv2.imdecode undoes that, so
    what it gives is RGB. `compress_len`, whose rows are in another order than the cameras, is
    not needed: decoders ignore the padding after a JPEG.
    """
    num_frames = rows_of(path, h5, STATE)
    columns = columns_of(path, h5, num_frames, _COLUMNS, warnings, needed=(STATE, "action"))
    cameras = [Pictures(name, f"{IMAGES}/{name}") for name in members(h5, IMAGES)]
    return num_frames, columns, pictures_of(path, h5, num_frames, cameras, warnings)


def _describe(h5: h5py.File, path: Path, name: str) -> Hdf5Episode:
    warnings: list[str] = []
    rows_of(path, h5, "action")
    num_frames, columns, pictures = act_parts(h5, path, warnings)
    # Six joints and a gripper an arm, left first. The gripper's scale depends on the recorder's
    # constants and is the card's.
    defaults = ColumnMap(state=(STATE,), action=("action",), action_kind="joint_position")
    return Hdf5Episode(path, name, num_frames, pictures, columns, defaults, tuple(warnings))
