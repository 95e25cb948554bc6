"""`motus inspect`: what a source or a dataset holds, without converting it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motus_adapters.dataset import UnifiedDataset
from motus_adapters.readers import Recording, open_source
from motus_embodiments import Card, DataError, list_cards

_LOOKED_AT = 50  # recordings whose numbers are read for the ranges


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
        rate: Frames a second, None where not stored.
        task: Of the first recording, None where not stored.
        cameras: Camera -> (height, width).
        columns: Numeric columns with the ranges of up to 50 recordings.
        action_kind: What the actions are, None where not stored.
        warnings: Where metadata and files contradict each other.
        bad: (recording, reason) of what cannot be read.
        embodiments: Cards whose channels and cameras fit, the best first.
        next: The command that would convert it.
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
    next: str


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


def inspect_source(path: Path | str, format: str = "auto") -> SourceReport:  # noqa: A002
    """Look at recordings: format, episodes, cameras, channels with ranges, robots that fit.

    Raises:
        DataError: The source is missing, not recognised or wholly unreadable.
    """
    path = Path(path)
    bad: list[tuple[str, str]] = []
    reader, recordings = open_source(
        path, format, on_bad=lambda name, error: bad.append((name, error.message))
    )
    first = recordings[0]
    fitting = tuple(card.name for card in _fitting(first))
    robot = fitting[0] if fitting else "ROBOT"
    return SourceReport(
        path=path,
        format=reader.name,
        episodes=len(recordings),
        frames=sum(r.num_frames for r in recordings),
        rate=first.rate,
        task=first.task,
        cameras={name: _size(first, name) for name in first.cameras},
        columns=tuple(_columns(recordings, bad)),
        action_kind=first.action_kind,
        warnings=tuple(dict.fromkeys(w for r in recordings for w in r.episode.warnings)),
        bad=tuple(bad),
        embodiments=fitting,
        next=f"motus convert {path} data/{path.resolve().stem} --embodiment {robot}",
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


def _columns(recordings: list[Recording], bad: list[tuple[str, str]]) -> list[ColumnReport]:
    first = recordings[0]
    step = -(-len(recordings) // _LOOKED_AT)
    reports = []
    for name in first.episode.columns:
        lows, highs = [], []
        for recording in recordings[::step]:
            try:
                values = np.asarray(recording.episode.column(name), np.float64)
            except DataError as error:
                bad.append((recording.name, error.message))
                continue
            flat = values.reshape(len(values), -1)
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
        chosen = getattr(recording.mapping, role) or ()
        if any(column == name or column.startswith(f"{name}[") for column in chosen):
            return role
    return ""


def _size(recording: Recording, camera: str) -> tuple[int, int]:
    view = next(recording.frames(camera), None)
    return (0, 0) if view is None else (view.shape[0], view.shape[1])


def _fitting(recording: Recording) -> list[Card]:
    """Cards with as many channels as the recording; those that know its cameras come first."""
    state, action = recording.state, recording.action
    fitting = []
    for card, _ in list_cards():
        widths = {len(card.action_channels), len(card.state_channels)}
        if state is not None and state.shape[1] != len(card.state_channels):
            continue
        if action is not None and action.shape[1] not in widths:
            continue
        known = sum(card.camera(name) is not None for name in recording.cameras)
        if state is not None or action is not None or known:
            fitting.append((-known, card.name, card))
    return [card for _, _, card in sorted(fitting, key=lambda item: item[:2])]
