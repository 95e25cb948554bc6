"""Which windows a batch holds: a pure function of seed, step and the sources' sizes.

Each source is walked through in a fresh random order every epoch, without replacement; the
sources take their turns so that realised shares never stray from the weights by more than one
window. Nothing is kept between steps, so a resumed run draws what it would have drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Source:
    """One dataset of a mixture: how many windows it has and how often it is drawn from."""

    name: str
    windows: int
    weight: float


@dataclass(frozen=True)
class Mixture:
    """Windows by step.

    Attributes:
        sources: At least one, each with windows and a positive weight.
        batch: Windows a step.
        seed: Of the order.
    """

    sources: tuple[Source, ...]
    batch: int
    seed: int

    def draw(self, step: int) -> list[tuple[str, int]]:
        """The (source, window) pairs of a step, in a random order."""
        before, after = self._taken(step), self._taken(step + 1)
        rows = []
        for index, source in enumerate(self.sources):
            for position in range(before[index], after[index]):
                epoch, place = divmod(position, source.windows)
                order = _order(self.seed, index, epoch, source.windows)
                rows.append((source.name, int(order[place])))
        shuffle = np.random.default_rng((self.seed, 1, step)).permutation(len(rows))
        return [rows[i] for i in shuffle]

    def shares(self) -> Mapping[str, float]:
        """The share of each source."""
        total = sum(source.weight for source in self.sources)
        return {source.name: source.weight / total for source in self.sources}

    def _taken(self, step: int) -> Sequence[int]:
        """Windows that each source has given before a step; they add up to step * batch."""
        drawn = step * self.batch
        edges = np.cumsum([0.0, *self.shares().values()])
        marks = np.floor(edges * drawn + 0.5).astype(int)
        marks[-1] = drawn
        return [int(count) for count in np.diff(marks)]


@lru_cache(maxsize=64)
def _order(seed: int, source: int, epoch: int, windows: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, source, epoch)).permutation(windows)
