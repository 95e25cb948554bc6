"""A card from the metadata and statistics of a LeRobot dataset, for a robot without a model."""

import json
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from motus_embodiments.drafting.drafts import UNKNOWN, Draft
from motus_embodiments.errors import DataError, UsageError, nearest
from motus_embodiments.schema import Representation, Role, Side

STATE, ACTION, IMAGES = "observation.state", "action", "observation.images."
_SIDES = ("left", "right")
_TURNS = 4 * math.pi  # rad; angles beyond this are not radians
_SPAN = re.compile(r"^(?P<first>[^:]+)(:(?P<last>[^:]+))?$")


@dataclass(frozen=True)
class Metadata:
    """What a dataset says about itself: channel names, ranges, rate, cameras."""

    root: Path
    rate: float | None
    names: tuple[str, ...]
    actions: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    middle: tuple[float, ...]
    cameras: tuple[str, ...]

    def span(self, name: str) -> tuple[float, float]:
        """Smallest and largest recorded value of a channel; infinite where not stated."""
        if not self.low:
            return -math.inf, math.inf
        at = self.names.index(name)
        return self.low[at], self.high[at]


def draft_from_dataset(
    name: str,
    dataset: str | Path,
    *,
    side: Side | None = None,
    arm: Mapping[str, str] | None = None,
    gripper: tuple[str, ...] | None = None,
    gripper_values: tuple[float, float] | None = None,
    unit: Literal["rad", "deg"] | None = None,
    cameras: Mapping[str, Role] | None = None,
    rate: float | None = None,
    action: Representation | None = None,
    relative: bool | None = None,
    title: str | None = None,
) -> Draft:
    """Read from a LeRobot dataset (v2.0 to v3.0) what it states of a card.

    Names that contain left or right tell their arm, names that contain gripper their gripper;
    the rate is the dataset's, home is the middle of what was recorded. Limits stay unknown: a
    recording shows where a robot was, not where it may go.

    Args:
        name: Name of the card.
        dataset: Its folder, or one a few levels above.
        side: Which arm it is, for a robot with one.
        arm: Side -> "FIRST:LAST", the names of the arm's first and last channel, where they do
            not tell; channels between neither belong to no arm.
        gripper: Channels that are grippers, where names do not tell; () for none.
        gripper_values: What recordings hold when the gripper is closed and when it is open.
        unit: Unit of recorded angles.
        cameras: Role of each camera, by its name; {} for none.
        rate: Control rate in Hz, where the dataset's is wrong.
        action: What recorded actions are; those of an end-effector need its poses, which no
            metadata tell.
        relative: Whether they are learned relative to the state.
        title: One line for people.

    Raises:
        UsageError: An option names what the dataset does not have.
        DataError: There is no metadata, or it is damaged.
    """
    if action in ("ee_pose", "ee_position"):
        raise UsageError(
            f"no dataset says which channels are the end-effector's pose, which {action} needs",
            hint="give the robot's model instead: --model FILE; or write the card with --draft, "
            "without --action, and give its arms a pose there in place of those joints",
        )
    facts = read_metadata(Path(dataset))
    hands = _grippers(facts, gripper)
    sides, missing = _sides(facts, side, arm)
    if hands and gripper_values is None:
        spans = ", ".join("{} to {}".format(*map(_short, facts.span(h))) for h in hands)
        missing["gripper_values"] = f"closed and open as recorded; values span {spans}"
    angles = [n for n in facts.names if n not in hands]
    if unit is None:
        missing["unit"] = _unit_question(facts, angles)
    rate = rate or facts.rate
    if rate is None:
        missing["rate"] = "control rate in Hz"
    if action is None:
        missing["action"] = "joint_position, if actions are targets of these joints"
    if cameras is None and facts.cameras:
        missing["cameras"] = f"NAME=ROLE for any of {', '.join(facts.cameras)}"
    if not sides:
        return Draft(facts.root, {}, missing)
    table: dict[str, Any] = {"name": name, "title": title or f"{name}, from {facts.root.name}"}
    table["arms"] = [
        _arm(facts, s, [n for n in members if n in angles], hands, members, unit, gripper_values)
        for s, members in sides.items()
    ]
    armed = {n for members in sides.values() for n in members}
    table["joints"] = [_joint(facts, n, unit) for n in facts.names if n not in armed]
    table["cameras"] = UNKNOWN if "cameras" in missing else _cameras(facts, cameras or {})
    table["rate"] = rate or UNKNOWN
    table["action"] = {
        "representation": action or UNKNOWN,
        "relative": bool(relative),
    }
    table |= _orders(facts, table, action)
    table["sources"] = {
        "arms, joints, cameras, rate": f"{facts.root.name}/meta/info.json",
        "home": f"{facts.root.name}/meta, statistics: the middle of what was recorded",
    }
    table["notes"] = _notes(facts)
    return Draft(facts.root, table, missing)


def read_metadata(folder: Path) -> Metadata:
    """Channel names, ranges, rate and cameras of a LeRobot dataset.

    Raises:
        DataError: There is no meta/info.json, or it does not name its channels.
    """
    found = sorted(
        [
            *folder.glob("meta/info.json"),
            *folder.glob("*/meta/info.json"),
            *folder.glob("*/*/meta/info.json"),
        ]
    )
    if len(found) != 1:
        what = "none" if not found else ", ".join(str(path.parent.parent) for path in found)
        raise DataError(
            f"one LeRobot dataset is wanted at {folder}; there is {what}",
            hint="give the folder that holds meta/info.json",
            where=str(folder),
        )
    path = found[0]
    info = _json(path)
    features = info.get("features") or {}
    if STATE not in features:
        raise DataError(f"{path} has no feature '{STATE}'", where=str(path))
    names = _names(features[STATE], path)
    root = path.parent.parent
    stats = _statistics(root)
    rate = info.get("fps")
    return Metadata(
        root=root,
        rate=float(rate) if isinstance(rate, int | float) and rate > 0 else None,
        names=names,
        actions=_names(features[ACTION], path) if ACTION in features else (),
        low=stats.get("min", ()),
        high=stats.get("max", ()),
        middle=stats.get("q50") or stats.get("mean", ()),
        cameras=tuple(
            key.removeprefix(IMAGES)
            for key, value in features.items()
            if value.get("dtype") in ("video", "image")
        ),
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise DataError(f"{path} is not a table", where=str(path))
    return data


def _names(feature: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Names of a feature's channels: a list, a nested list, or a table of lists."""
    names = feature.get("names")
    if isinstance(names, Mapping):
        names = [n for part in names.values() for n in (part if isinstance(part, list) else [part])]
    if isinstance(names, list) and names and isinstance(names[0], list):
        names = names[0]
    width = (feature.get("shape") or [0])[0]
    if not isinstance(names, list) or len(names) != width:
        names = [f"channel_{i}" for i in range(width)]
    if not names:
        raise DataError(f"{path} does not say how many channels a state has", where=str(path))
    return tuple(str(n) for n in names)


def _statistics(root: Path) -> dict[str, tuple[float, ...]]:
    """Statistics of the state over the whole dataset, as far as they are there."""
    whole, parts = root / "meta/stats.json", root / "meta/episodes_stats.jsonl"
    if whole.is_file():
        own = _json(whole).get(STATE) or {}
        return {key: tuple(map(float, value)) for key, value in own.items() if len(value) > 1}
    if not parts.is_file():
        return {}
    try:
        lines = parts.read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line)["stats"][STATE] for line in lines if line.strip()]
        counts = [row["count"][0] for row in rows]
        columns = {
            key: list(zip(*(row[key] for row in rows), strict=True))
            for key in ("min", "max", "mean")
        }
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {parts}: {error}", where=str(parts)) from error
    sums = [sum(map(operator.mul, counts, column)) for column in columns["mean"]]
    return {
        "min": tuple(map(min, columns["min"])),
        "max": tuple(map(max, columns["max"])),
        "mean": tuple(total / sum(counts) for total in sums),
    }


def _grippers(facts: Metadata, given: tuple[str, ...] | None) -> tuple[str, ...]:
    if given is None:
        return tuple(n for n in facts.names if "gripper" in n.lower())
    for name in given:
        if name not in facts.names:
            raise UsageError(
                f"{facts.root.name} has no channel '{name}'", hint=nearest(name, facts.names)
            )
    return given


def _sides(
    facts: Metadata, side: Side | None, spans: Mapping[str, str] | None
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Side -> names of its channels, and what has to be asked."""
    if spans is not None:
        if side is not None and set(spans) != {side}:
            raise _against(side, "--arm", spans)
        return {s: _between(facts, spans[s]) for s in _SIDES if s in spans}, {}
    told = {s: [n for n in facts.names if s in re.split(r"[^a-z]+", n.lower())] for s in _SIDES}
    if side is not None and all(told.values()):
        raise _against(side, f"the channels of {facts.root.name}", told)
    if side is None and any(told.values()):
        return {s: members for s, members in told.items() if members}, {}
    if side is not None:
        return {side: list(facts.names)}, {}
    return {}, {
        "side": "left or right, if all channels are one arm's",
        "arm": f"or SIDE=FIRST:LAST for each arm, of the channels {', '.join(facts.names)}",
    }


def _against(side: Side, what: str, arms: Mapping[str, object]) -> UsageError:
    return UsageError(
        f"--side says that there is one arm, {side}, and {what} that there is {' and '.join(arms)}",
        hint=f"leave out --side; for one arm of several give --arm {side}=FIRST:LAST alone",
    )


def _between(facts: Metadata, span: str) -> list[str]:
    found = _SPAN.match(span)
    ends = [found["first"], found["last"] or found["first"]] if found else [span]
    for name in ends:
        if name not in facts.names:
            raise UsageError(
                f"{facts.root.name} has no channel '{name}'", hint=nearest(name, facts.names)
            )
    first, last = (facts.names.index(name) for name in ends)
    return list(facts.names[first : last + 1])


def _unit_question(facts: Metadata, angles: list[str]) -> str:
    """Statistics can rule radians out; nothing can rule degrees out."""
    low = min((facts.span(n)[0] for n in angles), default=0.0)
    high = max((facts.span(n)[1] for n in angles), default=0.0)
    is_large = math.isfinite(low) and max(-low, high) > _TURNS
    choices = "deg, as they are too large for rad" if is_large else "rad or deg"
    return f"{choices}: values span {_short(low)} to {_short(high)}"


def _arm(
    facts: Metadata,
    side: str,
    joints: list[str],
    hands: tuple[str, ...],
    members: list[str],
    unit: str | None,
    values: tuple[float, float] | None,
) -> dict[str, Any]:
    own = [n for n in members if n in hands]
    if len(own) > 1:
        raise UsageError(
            f"the {side} arm would have {len(own)} grippers: {', '.join(own)}",
            hint="name the one that is, with --gripper",
        )
    arm: dict[str, Any] = {"side": side, "joints": [_joint(facts, n, unit) for n in joints]}
    if own:
        closed, opened = values or (UNKNOWN, UNKNOWN)
        arm["gripper"] = {"name": own[0], "closed": closed, "open": opened}
    return arm


def _joint(facts: Metadata, name: str, unit: str | None) -> dict[str, Any]:
    middle = facts.middle[facts.names.index(name)] if facts.middle else 0.0
    home = math.radians(middle) if unit == "deg" else middle
    return {"name": name, "unit": unit or UNKNOWN, "home": round(home, 4)}


def _cameras(facts: Metadata, given: Mapping[str, Role]) -> list[dict[str, Any]]:
    for name in given:
        if name not in facts.cameras:
            raise UsageError(
                f"{facts.root.name} has no camera '{name}'", hint=nearest(name, facts.cameras)
            )
    return [{"name": name, "role": role} for name, role in given.items()]


def _orders(facts: Metadata, table: Mapping[str, Any], action: str | None) -> dict[str, Any]:
    """The recordings' order of channels, where it is not the card's."""
    names: list[str] = []
    for arm in table["arms"]:
        names += [joint["name"] for joint in arm["joints"]]
        names += [arm["gripper"]["name"]] if "gripper" in arm else []
    names += [joint["name"] for joint in table["joints"]]
    orders: dict[str, Any] = {}
    if tuple(names) != facts.names:
        orders["state_order"] = list(facts.names)
    if action == "joint_position" and set(facts.actions) == set(names):
        if facts.actions != tuple(names):
            orders["action_order"] = list(facts.actions)
    elif "state_order" in orders and action == "joint_position":
        orders["action_order"] = list(facts.names)
    return orders


def _notes(facts: Metadata) -> str:
    spans = [
        f"{n} {_short(low)} to {_short(high)}" for n in facts.names for low, high in [facts.span(n)]
    ]
    text = (
        "Made from a dataset: there is no robot model, so nothing is rendered, and limits are "
        "unknown, so values are not checked against them."
    )
    if facts.low:
        text += f" Recorded values span, in the recordings' units: {'; '.join(spans)}."
    return text


def _short(value: float) -> str:
    return f"{value:.4g}"
