"""`motus inspect`: what a source or a dataset holds, without converting it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motus_adapters.conversion.canonical import numbers_of
from motus_adapters.conversion.proposal import ProposedPart, propose
from motus_adapters.files import check_free, replacing
from motus_adapters.readers import ColumnMap, Recording, open_source, parts_of
from motus_adapters.unified.reading import UnifiedDataset
from motus_embodiments import Card, DataError, MotusError, list_cards, load_card

_LOOKED_AT = 50  # recordings whose numbers are read for the ranges
_COLUMNS = 1000  # columns read for them; where recordings have many, fewer are looked at


@dataclass(frozen=True)
class ColumnReport:
    """One numeric column of a source.

    Attributes:
        name: Its name, as a mapping would give it.
        role: "state" or "action" if it is read as such without a mapping, else "".
        channels: Its width.
        low: Smallest value of each channel, in native units.
        high: Largest value of each channel.
    """

    name: str
    role: str
    channels: int
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class SourceReport:
    """What a source holds.

    Attributes:
        path: The source.
        format: The recognised format.
        episodes: Recordings that can be read.
        frames: Their frames.
        rate: Frames a second of the first recording, None where not stored.
        task: Of the first recording, None where not stored.
        cameras: Camera -> (width, height).
        columns: Numeric columns with the ranges of up to 50 recordings.
        action_kind: What the actions are, None where not stored.
        warnings: Where metadata and files contradict each other.
        bad: (recording, reason) of what cannot be read.
        embodiments: Cards whose channels and cameras fit, the best first.
        mapping: What `motus convert --map` would take for the best card: what is known about the
            columns and cameras, and guesses where nothing is.
        proposal: The parts of its state and action, with ranges and remarks.
        next: The command that would convert it; None where there are no pictures.
    """

    path: Path
    format: str
    episodes: int
    frames: int
    rate: float | None
    task: str | None
    cameras: Mapping[str, tuple[int, int]]
    columns: tuple[ColumnReport, ...]
    action_kind: str | None
    warnings: tuple[str, ...]
    bad: tuple[tuple[str, str], ...]
    embodiments: tuple[str, ...]
    mapping: Mapping[str, Any]
    proposal: tuple[ProposedPart, ...]
    next: str | None


@dataclass(frozen=True)
class DatasetReport:
    """What a unified dataset holds.

    Attributes:
        path: The dataset.
        embodiment: Name of its card.
        level: Rung of the data pyramid.
        source: Format and name of what it was made from.
        episodes: Number of episodes.
        frames: Number of frames.
        rate: Frames a second.
        seconds: Playing time.
        canvas: (width, height) in pixels.
        cameras: Roles with a view on the canvas.
        features: Feature -> number of channels.
        motion: How many of the 14 motion channels exist.
        codec: Hash of the codec of the latent actions, or None.
        flow: Flow estimator behind them, or None.
        contract: Contract hash.
        tasks: Task -> episodes, the most frequent ten.
        shortest: Frames of the shortest episode.
        longest: Frames of the longest episode.
        skipped: (recording, reason) of what was left out when it was made.
        allowed: What the conversion let through.
    """

    path: Path
    embodiment: str
    level: int
    source: str
    episodes: int
    frames: int
    rate: float
    seconds: float
    canvas: tuple[int, int]
    cameras: tuple[str, ...]
    features: Mapping[str, int]
    motion: int
    codec: str | None
    flow: str | None
    contract: str
    tasks: Mapping[str, int]
    shortest: int
    longest: int
    skipped: tuple[tuple[str, str], ...]
    allowed: tuple[str, ...]


def inspect_source(
    path: Path | str,
    format: str = "auto",  # noqa: A002
    *,
    mapping: ColumnMap | Mapping[str, Any] | Path | str | None = None,
    card: Card | str | None = None,
    map_out: Path | None = None,
    force: bool = False,
) -> SourceReport:
    """Look at recordings: format, episodes, cameras, channels with ranges, robots that fit.

    Args:
        path: A file or folder of recordings.
        format: One of `FORMATS`, or "auto".
        mapping: A mapping to look through, as `convert` takes it.
        card: The robot to propose a mapping for; None for the one that fits best.
        map_out: Write the proposed mapping there, with remarks.
        force: Replace the file `map_out`.

    Raises:
        DataError: The source is missing, not recognised or wholly unreadable.
        UsageError: The mapping or the card is wrong, or `map_out` is taken.
    """
    path = Path(path)
    if map_out is not None:
        check_free(map_out, force=force)
    bad: list[tuple[str, str]] = []
    reader, recordings = open_source(
        path, format, mapping=mapping, on_bad=lambda name, error: bad.append((name, error.message))
    )
    first = recordings[0]
    fitting = [load_card(card) if isinstance(card, str) else card] if card else _fitting(first)
    columns = tuple(_columns(recordings, bad))
    ranges = {column.name: (column.low, column.high) for column in columns}
    proposal = propose(recordings, ranges, fitting[0] if fitting else None)
    if map_out is not None:
        _write(map_out, proposal.text)
    robot = fitting[0].name if fitting else "ROBOT"
    words = ["motus", "convert", str(path), f"data/{path.resolve().stem}", "--embodiment", robot]
    words += ["--map", str(map_out)] if map_out else []
    return SourceReport(
        path=path,
        format=reader.name,
        episodes=len(recordings),
        frames=sum(r.num_frames for r in recordings),
        rate=first.rate,
        task=first.task,
        cameras={name: _size(first, name, bad) for name in first.cameras},
        columns=columns,
        action_kind=first.action_kind,
        warnings=tuple(dict.fromkeys(w for r in recordings for w in r.episode.warnings)),
        bad=tuple(bad),
        embodiments=tuple(card.name for card in fitting),
        mapping=proposal.mapping.to_dict(),
        proposal=proposal.parts,
        next=shlex.join(words) if first.cameras else None,
    )


def inspect_dataset(path: Path | str) -> DatasetReport:
    """Look at a unified dataset.

    Raises:
        DataError: There is none, or it is half written, or damaged.
    """
    dataset = UnifiedDataset(path)
    meta, lengths = dataset.meta, [episode.length for episode in dataset.episodes]
    counts: dict[str, int] = {}
    for episode in dataset.episodes:
        counts[episode.task] = counts.get(episode.task, 0) + 1
    frequent = sorted(counts.items(), key=lambda item: -item[1])[:10]
    return DatasetReport(
        path=dataset.path,
        embodiment=meta.card.name,
        level=meta.level,
        source=f"{meta.source.format} {meta.source.name}",
        episodes=len(lengths),
        frames=dataset.num_frames,
        rate=meta.rate,
        seconds=dataset.num_frames / meta.rate,
        canvas=(meta.layout.width, meta.layout.height),
        cameras=tuple(meta.layout.boxes),
        features={name: len(channels) for name, channels in meta.channels.items()},
        motion=sum(meta.motion_mask),
        codec=meta.codec,
        flow=meta.flow,
        contract=meta.contract,
        tasks=dict(frequent),
        shortest=min(lengths),
        longest=max(lengths),
        skipped=dataset.skipped,
        allowed=tuple(meta.options.get("allow", ())),
    )


def _write(path: Path, text: str) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}", where=str(path)) from error


def _columns(recordings: list[Recording], bad: list[tuple[str, str]]) -> list[ColumnReport]:
    first = recordings[0]
    names = first.episode.columns
    wanted = max(1, min(_LOOKED_AT, _COLUMNS // max(1, len(names))))
    looked_at = recordings[:: -(-len(recordings) // wanted)]
    reports = []
    for name in names:
        lows: list[np.ndarray] = []
        highs: list[np.ndarray] = []
        for recording in looked_at:
            try:
                values = np.asarray(recording.episode.column(name), np.float64)
            except DataError as error:
                bad.append((recording.name, error.message))
                continue
            flat = values.reshape(len(values), -1)
            same = not lows or len(lows[0]) == flat.shape[1]
            if same and flat.size and np.isfinite(flat).any(axis=0).all():
                lows.append(np.nanmin(flat, axis=0))
                highs.append(np.nanmax(flat, axis=0))
        if lows:
            low, high = np.min(lows, axis=0), np.max(highs, axis=0)
            role = _role(first, name)
            reports.append(
                ColumnReport(name, role, len(low), tuple(low.tolist()), tuple(high.tolist()))
            )
    return reports


def _role(recording: Recording, name: str) -> str:
    for role in ("state", "action"):
        used = [part.column for part in parts_of(getattr(recording.mapping, role))]
        if any(column == name or column.startswith(f"{name}[") for column in used):
            return role
    return ""


def _size(recording: Recording, camera: str, bad: list[tuple[str, str]]) -> tuple[int, int]:
    try:
        view = next(recording.frames(camera), None)
    except DataError as error:
        bad.append((recording.name, error.message))
        view = None
    return (0, 0) if view is None else (view.shape[1], view.shape[0])


def _fitting(recording: Recording) -> list[Card]:
    """Cards with as many channels as the recording; the best first.

    That is one that knows its cameras, and whose limits its numbers keep.
    """
    try:
        state, action = recording.state, recording.action
    except MotusError:
        return []
    fitting = []
    for card, _ in list_cards():
        widths = {len(card.recorded_action), len(card.recorded_state)}
        if state is not None and state.shape[1] != len(card.recorded_state):
            continue
        if action is not None and action.shape[1] not in widths:
            continue
        known = sum(card.camera(name) is not None for name in recording.cameras)
        if state is not None or action is not None or known:
            fitting.append((-known, not _agrees(recording, card), card.name, card))
    return [card for *_, card in sorted(fitting, key=lambda item: item[:3])]


def _agrees(recording: Recording, card: Card) -> bool:
    """Whether the numbers of a recording are what the card says."""
    try:
        numbers_of(recording, card)
    except MotusError:
        return False
    return True
