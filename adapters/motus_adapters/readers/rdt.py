"""RDT's fine-tuning data: ALOHA episodes in HDF5 with instructions beside them."""

import json
from pathlib import Path

import h5py
import numpy as np

from motus_adapters.readers.act import INSTRUCTIONS, STATE, act_parts, is_rdt, looks_like_act
from motus_adapters.readers.base import EpisodeFile, OnBad
from motus_adapters.readers.hdf5 import (
    Hdf5Episode,
    describe_files,
    detect_hdf5,
    read_column,
    rows_of,
    text,
)
from motus_adapters.readers.mapping import ColumnMap, Part
from motus_embodiments import DataError

# thu-ml/RoboticsDiffusionTransformer data/hdf5_vla_dataset.py: raw values of open grippers.
_STATE_OPEN = (4.7908, 4.7888)
_ACTION_OPEN = (11.8997, 13.9231)
_RATE = 25.0  # Hz, configs/dataset_control_freq.json of the same repository
_SHORTEST = 128  # frames; RDT itself drops shorter episodes
_AS_IF_SCALED = (0.5, 1.5)  # where the widest opening of grippers in 0..1 lies
_STILL = 1e-2  # rad; RDT itself drops what comes before the first movement


class RdtReader:
    """ACT's columns with /instruction, or an expanded_instruction file in the same folder.

    Layout: thu-ml/RoboticsDiffusionTransformer data/hdf5_vla_dataset.py and
    data/agilex/hdf5totfrecords.py. The grippers of state and action are raw, each with a scale of
    its own; they are brought to 0..1 here.
    """

    name = "rdt"
    looked_for = "HDF5 files with /action, /observations/qpos and /instruction (RDT)"

    def detect(self, path: Path) -> bool:
        """Whether the first readable HDF5 file has this layout."""
        return detect_hdf5(path, lambda h5, file: looks_like_act(h5) and is_rdt(h5, file))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """One episode a file, in numeric order."""
        widest: list[float] = []

        def describe(h5: h5py.File, file: Path, name: str) -> Hdf5Episode:
            return _describe(h5, file, name, widest)

        found = describe_files(path, describe, on_bad)
        low, high = _AS_IF_SCALED
        if widest and low < max(widest) <= high:
            raise DataError(
                f"{path}: no gripper state exceeds {max(widest):.3g}, where RDT's reach 4.79; "
                "it looks scaled to 0..1",
                hint="read it as it is with --format act (and --task for the instruction)",
                where=str(path),
            )
        return found


def _describe(h5: h5py.File, path: Path, name: str, widest: list[float]) -> Hdf5Episode:
    warnings: list[str] = []
    rows_of(path, h5, "action")
    num_frames, columns, pictures = act_parts(h5, path, warnings)
    if num_frames < _SHORTEST:
        warnings.append(f"episodes of fewer than {_SHORTEST} frames, which RDT leaves out")
    states = read_column(h5, STATE)
    if states.ndim != 2 or states.shape[1] < 14:
        raise ValueError(f"{STATE} has the shape {states.shape}, not two arms of 7")
    moving = np.flatnonzero((np.abs(states - states[0]) > _STILL).any(axis=1))
    if not len(moving) or moving[0] > 1:
        warnings.append("episodes that begin without movement, which RDT cuts off")
    widest.append(float(states[:, [6, 13]].max()))
    instruction, beside = _instruction(h5, path)
    return Hdf5Episode(
        path=path,
        name=name,
        num_frames=num_frames,
        pictures=pictures,
        columns=columns,
        defaults=ColumnMap(
            state=_with_grippers(STATE, _STATE_OPEN),
            action=_with_grippers("action", _ACTION_OPEN),
            action_kind="joint_position",
            rate=_RATE,
            task=instruction,
        ),
        warnings=tuple(warnings),
        beside=beside,
    )


def _with_grippers(column: str, wide: tuple[float, float]) -> tuple[str | Part, ...]:
    """Six joints and a gripper an arm, left first."""
    left, right = (
        Part(column=f"{column}[{i}]", closed=0, open=w) for i, w in zip((6, 13), wide, strict=True)
    )
    return (f"{column}[0:6]", left, f"{column}[7:13]", right)


def _instruction(h5: h5py.File, path: Path) -> tuple[str | None, tuple[Path, ...]]:
    """The instruction of the file beside the episode, else the one stored in it."""
    for name in INSTRUCTIONS:
        file = path.with_name(name)
        if not file.is_file():
            continue
        try:
            found = json.loads(file.read_text(encoding="utf-8-sig"))["instruction"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{file.name} beside it holds no instruction: {error}") from error
        return str(found[0] if isinstance(found, list) else found), (file,)
    return text(h5.get("instruction")) or None, ()
