"""The mapping that `motus inspect` proposes: what is known, what is guessed, and why, as YAML."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np
import yaml

from motus_adapters.conversion.cameras import match_cameras
from motus_adapters.conversion.canonical import recorded_kind
from motus_adapters.readers import ColumnMap, Part, Recording, View, parts_of
from motus_embodiments import ActionAdapter, Card, Channel, MotusError

Ranges = Mapping[str, tuple[Sequence[float], Sequence[float]]]
What = Literal["state", "action"]

_STATE = re.compile(r"qpos|proprio|joint_?(pos|state)|(^|[./_])state($|[./_])|agent_pos", re.I)
_ACTION = re.compile(r"action|command|ctrl|target", re.I)
_DEGREE = np.pi / 180
_NONE = {
    "state": "# state: [COLUMN]  # none is known",
    "action": "action: []  # the following state is taken",
}
_HEADS = r"head|high|top|front|main|agent|exterior|third|scene|ego|base"
_WRIST = r"wrist|hand|gripper"


@dataclass(frozen=True)
class ProposedPart:
    """One line of a state or an action.

    Attributes:
        what: "state" or "action".
        channels: The card's channels that it fills, "" without a card that fits.
        column: A column, or a cut of one.
        told: What is said about its numbers, such as "unit deg"; "" where the card tells it.
        low: Smallest value, in native units.
        high: Largest value, in native units.
        remark: What to look at.
    """

    what: What
    channels: str
    column: str
    told: str
    low: float
    high: float
    remark: str


@dataclass(frozen=True)
class Proposal:
    """A mapping and why it is so.

    Attributes:
        mapping: As `--map` takes it.
        text: The same as YAML with remarks.
        parts: Its lines about states and actions.
    """

    mapping: ColumnMap
    text: str
    parts: tuple[ProposedPart, ...]


@dataclass(frozen=True)
class _Column:
    """One channel of a recording: where it stands, how it is told, and its range."""

    name: str
    index: int
    part: Part
    low: float
    high: float


@dataclass(frozen=True)
class _Told:
    """A channel as the mapping will tell it: the keys beside its column, and a remark."""

    column: _Column
    channel: str
    terms: Mapping[str, Any]
    remark: str
    is_gripper: bool


def propose(recordings: Sequence[Recording], ranges: Ranges, card: Card | None) -> Proposal:
    """A mapping of these recordings to a card's channels, or without a card to none's.

    Args:
        recordings: Of one source, under the mapping that holds now.
        ranges: Column -> (lowest, highest) of each of its channels, in native units.
        card: The robot.
    """
    first = recordings[0]
    robot = f"the card '{card.name}'" if card else "no card, since none fits"
    lines = [f"# Proposed by motus inspect, for {robot}. Edit it, then: motus convert --map FILE"]
    parts: list[ProposedPart] = []
    for what in ("state", "action"):
        columns = _parts_of(first, what, ranges)
        against = _cannot_be_made(first, card) if what == "action" and columns else None
        if not columns or against:
            none = f"{what}: []" if getattr(first.mapping, what) == () else _NONE[what]
            lines.append(none + (f": {against}" if against else ""))
            continue
        joints = what == "action" and first.action_kind == "joint_position"
        runs, remark = _runs(_told_as("state" if joints else what, columns, card), card)
        lines.append(f"{what}:{remark}")
        for run in runs:
            part, line = _line(what, run, ranges)
            parts.append(part)
            lines.append(line)
        if what == "action" and first.action_kind is not None:
            lines.append(f"action_kind: {first.action_kind}")
    most = max(recordings, key=lambda recording: len(recording.cameras))
    lines += [*_cameras(most, card), *_rest(recordings, card)]
    text = "\n".join(lines) + "\n"
    return Proposal(ColumnMap.read(yaml.safe_load(text) or {}), text, tuple(parts))


def _cannot_be_made(recording: Recording, card: Card | None) -> str | None:
    """Why the recorded actions cannot become the card's; None where they can, or may."""
    kind = recording.action_kind
    if card is None or kind in (None, "joint_position", recorded_kind(card)):
        return None
    return f"its actions are {kind}, the card has {recorded_kind(card)}"


def _parts_of(recording: Recording, what: What, ranges: Ranges) -> list[_Column]:
    """The channels that the mapping, else the columns' names, make the state or action of."""
    named = getattr(recording.mapping, what)
    if named is None:
        wanted, other = (_STATE, _ACTION) if what == "state" else (_ACTION, _STATE)
        found = [n for n in ranges if wanted.search(n) and not other.search(n)]
        named = found[:1] if what == "state" or recording.mapping.state is None else ()
    columns = []
    for part in parts_of(named):
        name, start, stop = (part.column, None, None) if part.column in ranges else part.span()
        low, high = ranges.get(name, ((), ()))
        for index in range(start or 0, min(stop or len(low), len(low))):
            columns.append(_Column(name, index, part, float(low[index]), float(high[index])))
    return columns


def _told_as(what: What, columns: list[_Column], card: Card | None) -> list[_Told]:
    """Each channel beside the card's of the same place, where there are as many."""
    names = _recorded(card, what) if card else ()
    if card is None or len(names) != len(columns):
        return [_told(column, "", None, True) for column in columns]
    known = {channel.name: channel for channel in _channels_of(card, what)}
    fits = _fitting(ActionAdapter(card), what, columns, names, known)
    beside = list(zip(columns, (known.get(name) for name in names), fits, strict=True))
    degrees = _in_degrees(beside)
    return [
        _told(column, name, channel, fit, degrees=degrees)
        for name, (column, channel, fit) in zip(names, beside, strict=True)
    ]


def _in_degrees(beside: list[tuple[_Column, Channel | None, bool]]) -> bool:
    """Whether the joints contradict the card, and would not in degrees: all of them, or none."""
    joints = [
        (column, channel, fit)
        for column, channel, fit in beside
        if channel is not None and (channel.kind, channel.unit) == ("joint", "rad")
        if not column.part.canonical
    ]
    return not all(fit for _, _, fit in joints) and all(
        _within(column, channel, _DEGREE) for column, channel, _ in joints
    )


def _runs(told: list[_Told], card: Card | None) -> tuple[list[list[_Told]], str]:
    """Neighbours that one line can tell, and a remark where the card has other channels."""
    keyed = groupby(enumerate(told), key=lambda item: _alike(*item))
    runs = [[entry for _, entry in run] for _, run in keyed]
    if card is None or told[0].channel:
        return runs, ""
    return runs, f"  # {len(told)} channels, which the card '{card.name}' has not"


def _alike(place: int, told: _Told) -> tuple[Any, ...]:
    """What channels have in common that one line tells; neighbours keep their distance."""
    step = told.column.index - place
    return told.column.name, step, str(told.terms), told.remark, told.is_gripper


def _line(what: What, run: list[_Told], ranges: Ranges) -> tuple[ProposedPart, str]:
    first, last = run[0], run[-1]
    name, start, stop = first.column.name, first.column.index, last.column.index + 1
    cut = f"{start}" if stop == start + 1 else f"{start}:{stop}"
    whole = (start, stop) == (0, len(ranges[name][0]))
    names = first.channel if len(run) == 1 else f"{first.channel} .. {last.channel}"
    part = ProposedPart(
        what=what,
        channels=names.strip(". "),
        column=name if whole else f"{name}[{cut}]",
        told=", ".join(f"{key} {value}" for key, value in first.terms.items()),
        low=min(t.column.low for t in run),
        high=max(t.column.high for t in run),
        remark=first.remark,
    )
    named = json.dumps(part.column)
    terms = "".join(f", {key}: {json.dumps(value)}" for key, value in first.terms.items())
    said = (part.channels, f"{part.low:.4g} to {part.high:.4g}", part.remark)
    line = f"- {f'{{column: {named}{terms}}}' if terms else named}"
    return part, f"{line}  # {'; '.join(words for words in said if words)}"


def _told(
    column: _Column, name: str, channel: Channel | None, fits: bool, *, degrees: bool = False
) -> _Told:
    """How one channel is told: as it is already, or as its range suggests."""
    terms: dict[str, Any] = column.part.model_dump(exclude_none=True, exclude={"column"})
    is_gripper = "closed" in terms or (channel is not None and channel.kind == "gripper")
    remark = ""
    if channel is not None and not terms:
        terms, remark = _guess(column, channel, fits, degrees)
    return _Told(column, name, terms, remark, is_gripper)


def _guess(
    column: _Column, channel: Channel, fits: bool, degrees: bool
) -> tuple[dict[str, Any], str]:
    """What a range says about numbers that nothing else tells, and a remark."""
    if degrees and (channel.kind, channel.unit) == ("joint", "rad"):
        return {"unit": "deg"}, ""
    if fits:
        return {}, ""
    if channel.kind == "gripper" and column.low != column.high:
        ends = {"closed": round(column.low, 4), "open": round(column.high, 4)}
        return ends, "guessed from the range: exchange the two if the larger one is closed"
    return {}, f"outside the card's {channel.low:.4g} to {channel.high:.4g}"


def _fitting(
    adapter: ActionAdapter,
    what: What,
    columns: list[_Column],
    names: Sequence[str],
    known: Mapping[str, Channel],
) -> list[bool]:
    """Whether each channel's range, read as the card says, lies within the card's limits.

    Changes, and orientations, say nothing about limits.
    """
    fits = [True] * len(columns)
    if what == "action" and adapter.card.action.delta is not None:
        return fits
    encode = adapter.encode_state if what == "state" else adapter.encode_action
    found = encode(np.array([[c.low for c in columns], [c.high for c in columns]]))
    for i, channel in enumerate(known.values()):
        if channel.kind != "rotation":
            spare = 0.25 if channel.kind == "gripper" else _spare(channel)
            low, high = sorted(found[:, i])
            fits[list(names).index(channel.name)] = bool(
                channel.low - spare <= low and high <= channel.high + spare
            )
    return fits


def _within(column: _Column, channel: Channel, factor: float) -> bool:
    low, high = sorted((column.low * factor, column.high * factor))
    spare = _spare(channel)
    return channel.low - spare <= low and high <= channel.high + spare


def _spare(channel: Channel) -> float:
    """How far encoders and controllers overshoot."""
    span = channel.high - channel.low
    return 0.05 * span if np.isfinite(span) else 0.0


def _cameras(recording: Recording, card: Card | None) -> list[str]:
    """Roles as the mapping or the card gives them, else guessed from the cameras' names."""
    remark = ""
    found: Mapping[Any, str] = recording.mapping.camera_names
    if card is not None:
        try:
            found, _ = match_cameras(recording, card)
        except MotusError:
            found = {}
    if not found:
        found = _guessed(recording.cameras)
        remark = "  # guessed from the names"
    if not found:
        names = ", ".join(recording.cameras) or "none"
        return [f"# cameras: {{head: CAMERA}}  # there is {names}"]
    views: Mapping[Any, str | View] = recording.mapping.cameras
    told = ", ".join(f"{role}: {_view(name, views.get(role))}" for role, name in found.items())
    unused = [n for n in recording.cameras if n not in found.values()]
    if unused:
        remark += f"  # not used: {', '.join(unused)}"
    return [f"cameras: {{{told}}}{remark}"]


def _view(name: str, stated: str | View | None) -> str:
    """A camera, with what the mapping says to put right in its pictures."""
    if isinstance(stated, View) and stated.camera == name:
        return json.dumps(stated.model_dump(exclude_defaults=True))
    return json.dumps(name)


def _guessed(cameras: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in cameras:
        wrist = re.search(_WRIST, name, re.I)
        side = "right" if re.search(r"right|(^|_)r($|_)", name, re.I) else "left"
        role = f"{side}_wrist" if wrist else "head" if re.search(_HEADS, name, re.I) else ""
        if role:
            found.setdefault(role, name)
    if "head" not in found and len(cameras) == 1:
        return {"head": cameras[0]}
    return found if "head" in found else {}


def _rest(recordings: Sequence[Recording], card: Card | None) -> list[str]:
    """Rate and task: what differs between recordings is theirs, and not the mapping's to say."""
    lines = []
    rates = sorted({r.rate for r in recordings if r.rate is not None})
    if len(rates) == 1:
        lines.append(f"rate: {rates[0]:.12g}")
    elif rates:
        told = ", ".join(f"{rate:g}" for rate in rates)
        lines.append(f"# rate: recordings differ ({told} Hz); each rate is a dataset of its own")
    elif card is not None:
        lines.append(f"rate: {card.rate:g}  # not stored; the card's")
    else:
        lines.append("# rate: not stored")
    tasks = sorted({r.task or "" for r in recordings})
    if len(tasks) > 1:
        lines.append(f"# task: each recording tells its own, {len(tasks)} in all")
    elif tasks == [""]:
        lines.append("# task: not stored")
    else:
        lines.append(f"task: {json.dumps(tasks[0], ensure_ascii=False)}")
    return lines


def _recorded(card: Card, what: What) -> tuple[str, ...]:
    """Names of the recorded numbers in the recordings' order."""
    if what == "state":
        return card.state_order or card.recorded_state
    return card.action_order or card.recorded_action


def _channels_of(card: Card, what: What) -> tuple[Channel, ...]:
    return card.state_channels if what == "state" else card.action_channels
