"""Robomimic-style HDF5: many episodes in one file, data/demo_<k>/obs/*."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from motus_adapters.readers.base import ColumnMap, EpisodeFile, OnBad, natural_key
from motus_adapters.readers.hdf5 import (
    first_readable,
    frame_blocks,
    hdf5_files,
    opened,
    report,
    text,
)
from motus_embodiments import DataError

# Joint positions and gripper of a state, by the names recorders use; the first complete one wins.
_STATES = (
    ("obs/joint_pos", "obs/gripper_pos"),  # motus' own recorder
    ("obs/robot0_joint_pos", "obs/robot0_gripper_qpos"),  # robomimic, robosuite
    ("obs/joint_states", "obs/gripper_states"),  # LIBERO
)


class RobomimicReader:
    """data/demo_<k>/{actions, obs/*} with attributes task, rate_hz, env_args where recorded.

    Layout: robomimic docs/datasets/overview.md; LIBERO scripts/create_dataset.py.
    """

    name = "robomimic"
    looked_for = "HDF5 files with /data/demo_<k>/obs (robomimic, LIBERO, motus record)"

    def detect(self, path: Path) -> bool:
        """Whether the first readable HDF5 file has this layout."""
        file = first_readable(path)
        if file is None:
            return False
        with opened(file) as h5:
            return "data" in h5 and any(_is_demo(demo) for demo in h5["data"].values())

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """Every demo of every file, in numeric order."""
        found: list[EpisodeFile] = []
        files = hdf5_files(path)
        for file in files:
            prefix = "" if len(files) == 1 else f"{file.relative_to(path).with_suffix('')}/"
            try:
                with opened(file) as h5:
                    names = sorted((n for n in h5["data"] if n != "mask"), key=natural_key)
                    for name in names:
                        found += _describe(h5, file, name, prefix, on_bad)
            except DataError as error:
                report(on_bad, prefix or file.name, error)
        return found


@dataclass(frozen=True)
class RobomimicEpisode:
    """One demo."""

    path: Path
    demo: str
    name: str
    num_frames: int
    cameras: tuple[str, ...]
    columns: tuple[str, ...]
    defaults: ColumnMap
    warnings: tuple[str, ...]
    upside_down: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def column(self, name: str) -> np.ndarray:
        """A numeric dataset by its path within the demo."""
        with opened(self.path) as h5:
            values: np.ndarray = h5[f"data/{self.demo}/{name}"][()]
            return values

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The frames of obs/<camera>, upright."""
        with opened(self.path) as h5:
            for row in frame_blocks(h5[f"data/{self.demo}/obs/{camera}"]):
                yield np.ascontiguousarray(row[::-1]) if self.upside_down else row


def _is_demo(demo: Any) -> bool:
    return isinstance(demo, h5py.Group) and isinstance(demo.get("obs"), h5py.Group)


def _describe(
    h5: h5py.File, path: Path, demo: str, prefix: str, on_bad: OnBad | None
) -> list[RobomimicEpisode]:
    """The demo, or nothing if it is bad and `on_bad` took note."""
    name = f"{prefix}{demo}"
    group = h5["data"][demo]
    try:
        if not _is_demo(group):
            raise DataError(f"{path}: data/{demo} has no obs", where=str(path))
        cameras, columns, lengths = [], [], {}
        for key, value in group["obs"].items():
            if value.ndim == 4 and value.dtype == np.uint8 and value.shape[3] == 3:
                cameras.append(key)
            elif value.ndim in (1, 2) and value.dtype.kind in "fiu":
                columns.append(f"obs/{key}")
            lengths[f"obs/{key}"] = len(value)
        for key, value in group.items():
            if isinstance(value, h5py.Dataset) and value.ndim in (1, 2):
                columns.append(key)
        if "actions" in group:
            lengths["actions"] = len(group["actions"])
        num_frames = max(lengths.values(), default=0)
        short = next((k for k, n in lengths.items() if n != num_frames), None)
        if num_frames == 0 or short is not None:
            what = f"'{short}' has {lengths[short]} rows of {num_frames}" if short else "is empty"
            raise DataError(
                f"{path}: data/{demo}: {what}",
                hint="leave it out with --skip-bad",
                where=str(path),
            )
    except DataError as error:
        report(on_bad, name, error)
        return []
    warnings = []
    stated = group.attrs.get("num_samples")
    if stated is not None and int(stated) != num_frames:
        warnings.append(f"{demo}: num_samples says {int(stated)}, there are {num_frames}")
    convention = text(h5["data"].attrs.get("macros_image_convention"))
    return [
        RobomimicEpisode(
            path=path,
            demo=demo,
            name=name,
            num_frames=num_frames,
            cameras=tuple(cameras),
            columns=tuple(columns),
            defaults=_defaults(h5["data"].attrs, group.attrs, columns),
            warnings=tuple(warnings),
            upside_down=convention == "opengl",
        )
    ]


def _defaults(data: Any, demo: Any, columns: list[str]) -> ColumnMap:
    env = _json(data.get("env_args"))
    settings = env.get("env_kwargs") or {}
    rate = data.get("rate_hz", settings.get("control_freq"))
    problem = _json(data.get("problem_info"))
    task = text(demo.get("task", data.get("task", problem.get("language_instruction"))))
    return ColumnMap(
        state=next((names for names in _STATES if set(names) <= set(columns)), None),
        action=("actions",) if "actions" in columns else None,
        action_kind=text(data.get("action_kind")) or _controller_kind(settings),
        rate=None if rate is None else float(rate),
        task=task or None,
    )


def _controller_kind(settings: dict[str, Any]) -> str | None:
    """What robosuite's controllers take: the operational-space ones take changes of pose."""
    controller = settings.get("controller_configs") or {}
    if str(controller.get("type", "")).startswith("OSC") and controller.get("control_delta", True):
        return "ee_delta"
    return None


def _json(value: Any) -> dict[str, Any]:
    try:
        parsed = json.loads(text(value) or "{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
