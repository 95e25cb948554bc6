"""Statistics of a dataset, streamed: one small record an episode, whatever the number of episodes.

Channels get exact moments and quantiles from a histogram between the exact minimum and maximum,
so an error is at most 1/4096 of the range. LeRobot averages the quantiles of the episodes
instead, which is not a quantile of anything; the keys and shapes here are LeRobot's.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
BINS = 4096

Stats = dict[str, list[Any]]


def episode_stats(values: np.ndarray) -> Stats:
    """Exact statistics of one episode's channels, values [T, n]."""
    wide = values.astype(np.float64)
    stats: Stats = {
        "min": wide.min(0).tolist(),
        "max": wide.max(0).tolist(),
        "mean": wide.mean(0).tolist(),
        "std": wide.std(0).tolist(),
        "count": [len(wide)],
    }
    for key, share in QUANTILES.items():
        stats[key] = np.quantile(wide, share, axis=0).tolist()
    return stats


class Channels:
    """Statistics over all episodes: first `add` every record, then `fill` every array."""

    def __init__(self) -> None:
        self._count = 0
        empty: np.ndarray = np.zeros(0)
        self._low = self._high = self._sum = self._squares = empty
        self._bins = np.zeros((0, BINS))

    def add(self, stats: Mapping[str, list[Any]]) -> None:
        """First pass: one episode's `episode_stats`."""
        count = int(stats["count"][0])
        mean, std = np.asarray(stats["mean"]), np.asarray(stats["std"])
        low, high = np.asarray(stats["min"]), np.asarray(stats["max"])
        if self._count == 0:
            self._low, self._high = low, high
            self._sum = self._squares = np.zeros_like(mean)
            self._bins = np.zeros((len(mean), BINS))
        self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)
        self._sum = self._sum + count * mean
        self._squares = self._squares + count * (std**2 + mean**2)
        self._count += count

    def fill(self, values: np.ndarray) -> None:
        """Second pass: the values [T, n] behind a record."""
        span = np.where(self._high > self._low, self._high - self._low, 1.0)
        places = ((values.astype(np.float64) - self._low) / span * BINS).astype(np.int64)
        for channel, place in enumerate(np.clip(places, 0, BINS - 1).T):
            self._bins[channel] += np.bincount(place, minlength=BINS)

    def result(self) -> Stats:
        """LeRobot's keys: min, max, mean, std, count, q01, q10, q50, q90, q99."""
        mean = self._sum / self._count
        variance = np.maximum(self._squares / self._count - mean**2, 0.0)
        stats: Stats = {
            "min": self._low.tolist(),
            "max": self._high.tolist(),
            "mean": mean.tolist(),
            "std": np.sqrt(variance).tolist(),
            "count": [self._count],
        }
        for key, share in QUANTILES.items():
            places = [_histogram_quantile(row, share) for row in self._bins]
            stats[key] = (self._low + np.asarray(places) * (self._high - self._low)).tolist()
        return stats


class Pixels:
    """Colour statistics of an episode's frames, from a 256-bin histogram a colour."""

    def __init__(self, counts: np.ndarray | None = None, frames: int = 0) -> None:
        self.counts = np.zeros((3, 256), np.int64) if counts is None else counts
        self.frames = frames

    def add(self, frame: np.ndarray) -> None:
        """Count one uint8 frame [h, w, 3], every fourth row and column of it."""
        for colour, plane in enumerate(np.moveaxis(frame[::4, ::4], -1, 0)):
            self.counts[colour] += np.bincount(plane.ravel(), minlength=256)
        self.frames += 1

    def merge(self, other: "Pixels") -> None:
        """Add another episode's counts."""
        self.counts = self.counts + other.counts
        self.frames += other.frames

    def result(self) -> Stats:
        """LeRobot's image statistics: shape (3, 1, 1), values 0..1."""
        levels = np.arange(256) / 255.0
        total = self.counts.sum(1)
        mean = (self.counts * levels).sum(1) / total
        std = np.sqrt(np.maximum((self.counts * levels**2).sum(1) / total - mean**2, 0.0))
        seen = [np.flatnonzero(row) for row in self.counts]
        stats: Stats = {
            "min": _pixel([levels[s[0]] for s in seen]),
            "max": _pixel([levels[s[-1]] for s in seen]),
            "mean": _pixel(mean.tolist()),
            "std": _pixel(std.tolist()),
            "count": [self.frames],
        }
        for key, share in QUANTILES.items():
            ranks = [np.searchsorted(row.cumsum(), share * row.sum()) for row in self.counts]
            stats[key] = _pixel([levels[min(int(rank), 255)] for rank in ranks])
        return stats


def _pixel(values: list[float]) -> list[Any]:
    return [[[float(value)]] for value in values]


def _histogram_quantile(row: np.ndarray, share: float) -> float:
    """Where in 0..1 of the range the quantile lies, linear within its bin."""
    cumulative = row.cumsum()
    target = share * cumulative[-1]
    place = int(np.searchsorted(cumulative, target))
    before = cumulative[place - 1] if place else 0.0
    inside = (target - before) / row[place] if row[place] else 0.0
    return float((place + inside) / len(row))
