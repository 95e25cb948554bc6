"""What robomimic, LIBERO and robosuite share: many episodes in one file, data/demo_<k>."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from motus_adapters.readers.base import EpisodeFile, OnBad, natural_key
from motus_adapters.readers.hdf5 import (
    Hdf5Episode,
    Pictures,
    columns_of,
    hdf5_files,
    is_encoded,
    members,
    opened,
    pictures_of,
    report,
    text,
)
from motus_adapters.readers.mapping import ActionKind, ColumnMap, Part
from motus_embodiments import DataError

# The Franka hand's fingers move 0.04 m each (robosuite panda_gripper.xml); the second one is
# recorded with the opposite sign.
_FINGER = 0.04  # m

DescribeDemo = Callable[[h5py.File, h5py.Group, Path, str], Hdf5Episode]


def demos(h5: h5py.File) -> dict[str, h5py.Group]:
    """The demos of a file in numeric order: demo_2 comes before demo_10."""
    found = members(h5, "data")
    names = sorted((n for n in found if n.startswith("demo")), key=natural_key)
    return {name: found[name] for name in names if isinstance(found[name], h5py.Group)}


def describe_demos(path: Path, describe: DescribeDemo, on_bad: OnBad | None) -> list[EpisodeFile]:
    """Every demo of every file, in natural order."""
    found: list[EpisodeFile] = []
    files = hdf5_files(path)
    for file in files:
        prefix = "" if len(files) == 1 else f"{file.relative_to(path).with_suffix('')}/"
        try:
            with opened(file) as h5:
                groups = demos(h5)
                if not groups:
                    raise DataError(
                        f"{file} has no /data/demo_<k>",
                        hint="leave it out with --skip-bad",
                        where=str(file),
                    )
                for name, group in groups.items():
                    try:
                        found.append(describe(h5, group, file, f"{prefix}{name}"))
                    except DataError as error:
                        report(on_bad, f"{prefix}{name}", error)
        except DataError as error:
            report(on_bad, prefix.rstrip("/") or file.name, error)
    return found


def _below(group: h5py.Group, name: str, depth: int = 4) -> list[str]:
    """The datasets of a group and of those in it, by their paths."""
    found = []
    for key, value in members(group, name).items():
        if isinstance(value, h5py.Dataset):
            found.append(f"{name}/{key}")
        elif depth:  # a link may lead back to where it stands
            found += _below(group, f"{name}/{key}", depth - 1)
    return found


def demo_episode(
    h5: h5py.File,
    group: h5py.Group,
    path: Path,
    name: str,
    upside_down: bool = False,
    more: tuple[str, ...] = (),
) -> Hdf5Episode:
    """A demo with its columns and pictures; the reader adds what it knows about them.

    Raises:
        DataError: The demo is empty, or what it holds differs in length.
    """
    demo = group.name.rsplit("/", 1)[-1]
    warnings = list(more)
    names = [*_below(group, "obs"), *(n for n, v in group.items() if isinstance(v, h5py.Dataset))]
    flat = [n for n in names if group[n].ndim in (1, 2) and group[n].dtype.kind in "fiub"]
    wide = [n for n in names if group[n].ndim == 4 or is_encoded(group[n])]
    warnings += [
        f"'{n}' {list(group[n].shape)} is no view and no column, and is left out"
        for n in names
        if n not in (*flat, *wide)
    ]
    lengths = {n: len(group[n]) for n in (*flat, *wide)}
    num_frames = max(lengths.values(), default=0)
    if num_frames == 0:
        raise DataError(
            f"{path}: {demo} is empty", hint="leave it out: --skip-bad", where=str(path)
        )
    cameras = [
        Pictures(n.removeprefix("obs/"), n, decoded_bgr=True, upside_down=upside_down) for n in wide
    ]
    try:
        columns = columns_of(path, group, num_frames, flat, warnings, needed=flat)
        pictures = pictures_of(path, group, num_frames, cameras, warnings)
    except DataError as error:
        message = error.message.replace(f"{path}:", f"{path}: {demo}:")
        raise DataError(message, hint=error.hint, where=error.where) from error
    stated = group.attrs.get("num_samples")
    if stated is not None and int(stated) != num_frames:
        warnings.append(f"{demo}: num_samples says {int(stated)}, there are {num_frames}")
    return Hdf5Episode(
        path=path,
        name=name,
        num_frames=num_frames,
        pictures=pictures,
        columns=columns,
        defaults=ColumnMap(),
        warnings=tuple(warnings),
        group=f"data/{demo}/",
    )


def arm_and_hand(arm: str, hand: str, width: int) -> tuple[str | Part, ...]:
    """Joints and gripper; of a hand of two fingers the first one tells the opening."""
    if width != 2:
        return (arm, hand)
    return (arm, Part(column=f"{hand}[0]", closed=0, open=_FINGER))


def settings_of(value: Any) -> dict[str, Any]:
    """An attribute of JSON text; {} where it is none."""
    try:
        parsed = json.loads(text(value) or "{}")
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def controller_kind(settings: dict[str, Any]) -> ActionKind | None:
    """What robosuite's controllers take: without `control_delta: false`, changes."""
    controller = settings.get("controller_configs") or {}
    kind = str(controller.get("type", "")) if isinstance(controller, dict) else ""
    if not kind or not controller.get("control_delta", True):
        return None
    return "ee_delta" if kind.startswith("OSC") else "joint_delta" if "POSITION" in kind else None


def clock(seconds: np.ndarray) -> tuple[float | None, list[str]]:
    """The rate that time stamps tell, and what is odd about them; frames stay in their order."""
    steps = np.diff(np.asarray(seconds, np.float64))
    if not len(steps) or not np.isfinite(steps).all() or np.median(steps) <= 0:
        return None, ["the time stamps do not increase; the rate cannot be told"]
    step = float(np.median(steps))
    notes = []
    gaps = int((np.abs(steps - step) > 0.5 * step).sum())
    if gaps:
        notes.append(f"{gaps} of {len(steps)} time steps are off by more than half a step")
    return round(1 / step, 3), notes
