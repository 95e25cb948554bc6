"""What one episode shows of a dataset's health: small sums that add up over all episodes."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq

from motus_adapters.conversion.canvas import Box
from motus_adapters.unified.assemble import data_path, video_path
from motus_adapters.unified.manifest import ACTION, STATE
from motus_adapters.unified.reading import UnifiedDataset
from motus_adapters.unified.video import probe_video
from motus_embodiments import ActionAdapter, DataError, MissingError

BINS = 10  # of a gripper's histogram, from 0 closed to 1 open
REACH = 1.0  # s, the largest lag that is looked for

_BLOCK = 8  # pixels; a view is compared with itself in averages over such blocks
_CHANGE = 2.0  # grey levels of the block that changed most; less is noise and encoding
_DARK, _DARKEST = 10.0, 25.0  # mean of a black view, and of its brightest block
_EQUAL = 1e-6  # of an action and a state that are the same number
_SHARP_EVERY = 10  # frames between two looks at sharpness
_MOVED = 0.3  # of a channel's range over the dataset: no camera misses that


@dataclass
class View:
    """One camera's view over one episode.

    Attributes:
        static: Frames that are the one before, noise aside.
        black: Frames without light.
        frozen: Longest run of frames in which the robot moved far and the view did not change.
        frozen_from: First frame of that run.
        sharpness: Variance of the Laplacian, the median of every tenth frame.
    """

    static: int = 0
    black: int = 0
    frozen: int = 0
    frozen_from: int = 0
    sharpness: float = 0.0


@dataclass(frozen=True)
class EpisodeHealth:
    """What was found in one episode.

    Attributes:
        index: Number of the episode.
        frames: Rows that could be read.
        problem: Why it could not be read to its end, or "".
        hint: What to do about that.
        ranges: Feature -> (least, most), each [n]; numbers that are not finite left out.
        bad: Places (feature, channel, frame) of the first number of each channel that is not
            finite.
        beyond: (kind, message) of a value outside the card's limits.
        drift: Largest distance of a time stamp from frame_index / rate, in s.
        video_rate: Frames a second as the video file says.
        numbers: Hash over states and actions; "" where there are none.
        pictures: Hash over the video file.
        views: Role -> its view.
        lags: float64 [3, k, n]: sums of products, of squared actions and of squared states of
            the increments, at lags -r..r; None without both.
        idle: Rows whose action is the state of the same frame, -1 where it cannot be told.
        grippers: "feature channel" -> counts of its openings.
    """

    index: int
    frames: int
    problem: str = ""
    hint: str = ""
    ranges: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    bad: tuple[tuple[str, str, int], ...] = ()
    beyond: tuple[tuple[str, str], ...] = ()
    drift: float = 0.0
    video_rate: float = 0.0
    numbers: str = ""
    pictures: str = ""
    views: dict[str, View] = field(default_factory=dict)
    lags: np.ndarray | None = None
    idle: int = -1
    grippers: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Look:
    """One episode to look at, as sent to a worker."""

    path: Path
    index: int


def look(task: Look) -> EpisodeHealth:
    """Read an episode whole; damage is part of the finding."""
    dataset, index = _opened(task.path), task.index
    video = dataset.path / video_path(index)
    try:
        columns = dataset.columns(index)
        drift = _drift(dataset, index)
        rate = probe_video(video)[3]
        views = _views(dataset, index, columns)
    except DataError as error:
        return EpisodeHealth(index, 0, problem=error.message, hint=error.hint or "")
    numbers = [columns[name] for name in (STATE, ACTION) if name in columns]
    lags, idle = _lags(dataset, columns)
    with video.open("rb") as file:
        pictures = hashlib.file_digest(file, "sha256").hexdigest()
    return EpisodeHealth(
        index=index,
        frames=len(next(iter(columns.values()))),
        ranges={name: _range(values) for name, values in columns.items()},
        bad=tuple(_not_finite(dataset, columns)),
        beyond=tuple(_beyond(dataset, columns, index)),
        drift=drift,
        video_rate=rate,
        numbers=_hash(numbers) if numbers else "",
        pictures=pictures,
        views=views,
        lags=lags,
        idle=idle,
        grippers=dict(_grippers(dataset, columns)),
    )


@lru_cache(maxsize=1)
def _opened(path: Path) -> UnifiedDataset:
    """One table of episodes a process, however many episodes it looks at."""
    return UnifiedDataset(path)


def reach(rate: float) -> int:
    """The largest lag that is looked for, in frames."""
    return int(np.clip(round(REACH * rate), 3, 50))


def lag_sums(action: np.ndarray, state: np.ndarray, most: int) -> np.ndarray:
    """What the cross-correlation of increments is made of.

    At lag k the action's step from t to t+1 meets the state's step from t+k to t+k+1: the states
    follow the actions by k frames where that correlates best. An action made from the following
    state has a lag of 1.

    Args:
        action: [T, n].
        state: What the same numbers are of the state, [T, n].
        most: Largest lag in frames, either way.

    Returns:
        float64 [3, 2 * most + 1, n]: sums of x y, x x and y y.
    """
    x, y = (np.diff(values.astype(np.float64), axis=0) for values in (action, state))
    sums = np.zeros((3, 2 * most + 1, x.shape[1]))
    for place, k in enumerate(range(-most, most + 1)):
        if abs(k) < len(x):
            a, b = x[max(0, -k) : len(x) - max(0, k)], y[max(0, k) : len(y) - max(0, -k)]
            sums[:, place] = (a * b).sum(0), (a * a).sum(0), (b * b).sum(0)
    return sums


def _lags(dataset: UnifiedDataset, columns: dict[str, np.ndarray]) -> tuple[np.ndarray | None, int]:
    """The sums of `lag_sums`, and the rows whose action is the state of the same frame."""
    state, action = columns.get(STATE), columns.get(ACTION)
    if state is None or action is None or not len(state):
        return None, -1
    state, action = np.nan_to_num(state), np.nan_to_num(action)
    try:
        command = ActionAdapter(dataset.meta.card).command(state).astype(np.float32)
    except MissingError:  # poses cannot be had of the states without the robot's model
        return None, -1
    idle = int((np.abs(action - command) < _EQUAL).all(1).sum())
    return lag_sums(action, command, reach(dataset.meta.rate)), idle


def _range(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    finite = np.isfinite(values)
    low = np.where(finite, values, np.inf).min(0, initial=np.inf)
    return low, np.where(finite, values, -np.inf).max(0, initial=-np.inf)


def _not_finite(
    dataset: UnifiedDataset, columns: dict[str, np.ndarray]
) -> Iterator[tuple[str, str, int]]:
    for feature, values in columns.items():
        finite = np.isfinite(values)
        for channel in np.flatnonzero(~finite.all(0)):
            name = dataset.meta.channels[feature][channel]
            yield feature, name, int(np.flatnonzero(~finite[:, channel])[0])


def _beyond(
    dataset: UnifiedDataset, columns: dict[str, np.ndarray], index: int
) -> Iterator[tuple[str, str]]:
    """What conversion refuses, unless it was allowed to let it through."""
    adapter = ActionAdapter(dataset.meta.card)
    for kind, feature in (("state", STATE), ("action", ACTION)):
        values = columns.get(feature)
        if values is None or not np.isfinite(values).all():
            continue
        try:
            adapter.check(values, "state" if kind == "state" else "action", f"episode {index}")
        except DataError as error:
            yield kind, error.message


def _drift(dataset: UnifiedDataset, index: int) -> float:
    table = pq.read_table(dataset.path / data_path(index), columns=["timestamp", "frame_index"])
    stamps, frames = (table[name].to_numpy().astype(np.float64) for name in table.column_names)
    wanted = (frames / dataset.meta.rate).astype(np.float32)
    off = np.abs(stamps - wanted).max(initial=0.0)
    return float(max(off, np.abs(frames - np.arange(len(frames))).max(initial=0.0)))


def _grippers(
    dataset: UnifiedDataset, columns: dict[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    card = dataset.meta.card
    for feature, channels in ((STATE, card.state_channels), (ACTION, card.action_channels)):
        for column, channel in enumerate(channels):
            if channel.kind == "gripper" and feature in columns:
                opening = np.clip(np.nan_to_num(columns[feature][:, column]), 0, 1)
                counts, _ = np.histogram(opening, BINS, (0, 1))
                yield f"{feature} {channel.name}", counts


def _hash(arrays: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _views(dataset: UnifiedDataset, index: int, columns: dict[str, np.ndarray]) -> dict[str, View]:
    state = columns.get(STATE)
    watchers = {
        role: _Watcher(box, _movement(dataset, role, state))
        for role, box in dataset.meta.layout.boxes.items()
    }
    for frame, canvas in enumerate(dataset.frames(index)):
        for watcher in watchers.values():
            watcher.push(frame, canvas)
    return {role: watcher.result() for role, watcher in watchers.items()}


def _movement(dataset: UnifiedDataset, role: str, state: np.ndarray | None) -> np.ndarray | None:
    """The states that a view must show, in shares of their range: float [T, m].

    A wrist camera sees its own arm move, the head camera every arm; what carries no side (legs,
    neck, fingers of a hand) may be out of sight.
    """
    if state is None:
        return None
    sides = {"left_wrist": {"left"}, "right_wrist": {"right"}}.get(role, {"left", "right"})
    stats = dataset.stats[STATE]
    span = np.asarray(stats["max"]) - np.asarray(stats["min"])
    seen = [
        i
        for i, channel in enumerate(dataset.meta.card.state_channels)
        if channel.side in sides and channel.kind == "joint" and span[i] > 0.01
    ]
    moved: np.ndarray = np.nan_to_num(state[:, seen]) / span[seen]
    return moved


class _Watcher:
    """Follows one view through an episode."""

    def __init__(self, box: Box, movement: np.ndarray | None) -> None:
        self._box, self._movement = box, movement
        self._previous: np.ndarray | None = None
        self._changed: np.ndarray | None = None  # the frame at which the view last changed
        self._changed_at = 0
        self._low = self._high = np.zeros(0)  # of the movement since then
        self._sharpness: list[float] = []
        self._view = View()

    def push(self, frame: int, canvas: np.ndarray) -> None:
        x, y, w, h = self._box
        grey = cv2.cvtColor(canvas[y : y + h, x : x + w], cv2.COLOR_RGB2GRAY)
        size = (max(1, w // _BLOCK), max(1, h // _BLOCK))
        blocks = cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        self._view.black += bool(blocks.mean() < _DARK and blocks.max() < _DARKEST)
        self._view.static += self._previous is not None and _same(self._previous, blocks)
        if frame % _SHARP_EVERY == 0:
            self._sharpness.append(float(cv2.Laplacian(grey, cv2.CV_32F).var()))
        if self._movement is not None and frame < len(self._movement):
            self._follow(frame, blocks, self._movement[frame])
        self._previous = blocks

    def _follow(self, frame: int, blocks: np.ndarray, place: np.ndarray) -> None:
        if self._changed is None or not _same(self._changed, blocks):
            self._changed, self._changed_at = blocks, frame
            self._low = self._high = place
            return
        self._low, self._high = np.minimum(self._low, place), np.maximum(self._high, place)
        run = frame - self._changed_at
        if run > self._view.frozen and (self._high - self._low > _MOVED).any():
            self._view.frozen, self._view.frozen_from = run, self._changed_at

    def result(self) -> View:
        self._view.sharpness = float(np.median(self._sharpness)) if self._sharpness else 0.0
        return self._view


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() < _CHANGE)
