"""Which windows a batch holds: a pure function of seed, step and the sources' sizes.

Each source is walked through in a fresh random order every epoch, without replacement; the
sources take their turns along the golden-ratio sequence, so that realised shares stray from the
weights by a few windows at most, however long the run. Nothing is kept between steps, so a
resumed run draws what it would have drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from motus_embodiments import DataError


class Row(NamedTuple):
    """One window of a batch.

    Attributes:
        source: Its dataset.
        window: Its number there.
        slot: Its place in the whole batch, over all processes.
        seed: Of all that is drawn for it.
    """

    source: str
    window: int
    slot: int
    seed: int


@dataclass(frozen=True)
class Source:
    """One dataset of a mixture: how many windows it has and how often it is drawn from.

    Raises:
        DataError: When it has none.
    """

    name: str
    windows: int
    weight: float

    def __post_init__(self) -> None:
        if not self.windows:
            raise DataError(
                f"dataset '{self.name}' has nothing to learn from: all of its episodes that are "
                "not held out are too short",
                hint="an episode needs two frames at least",
            )


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

    def draw(self, step: int) -> list[Row]:
        """The rows of a step, in a random order."""
        slots = np.arange(step * self.batch, (step + 1) * self.batch)
        turns = _turns(self._edges(), slots)
        taken = self._taken(step * self.batch)
        pairs = []
        for index, source in enumerate(self.sources):
            for position in range(taken[index], taken[index] + int((turns == index).sum())):
                epoch, place = divmod(position, source.windows)
                order = _order(self.seed, index, epoch, source.windows)
                pairs.append((source.name, int(order[place])))
        shuffle = np.random.default_rng((self.seed, 1, step)).permutation(len(pairs))
        return number([pairs[i] for i in shuffle], (self.seed, 2, step))

    def shares(self) -> Mapping[str, float]:
        """The share of each source."""
        total = sum(source.weight for source in self.sources)
        return {source.name: source.weight / total for source in self.sources}

    def taken(self, step: int) -> dict[str, int]:
        """Windows that each source has given before a step."""
        counts = self._taken(step * self.batch)
        return {source.name: count for source, count in zip(self.sources, counts, strict=True)}

    def _edges(self) -> tuple[float, ...]:
        """Where each source's part of [0, 1) ends."""
        return tuple(np.cumsum(list(self.shares().values()))[:-1].tolist())

    def _taken(self, slots: int) -> list[int]:
        """Windows that each source has given in the first `slots` ones."""
        blocks, rest = divmod(slots, BLOCK)
        count = np.zeros(len(self.sources), int)
        for block in range(blocks):
            count += _block_counts(self._edges(), block)
        turns = _turns(self._edges(), np.arange(blocks * BLOCK, blocks * BLOCK + rest))
        return [int(c) for c in count + np.bincount(turns, minlength=len(count))]


@dataclass(frozen=True)
class ChosenMixture(Mixture):
    """A mixture whose windows are only those one may train on.

    Attributes:
        windows: By source, the numbers of its windows.
    """

    windows: Mapping[str, np.ndarray] = field(default_factory=dict)

    def draw(self, step: int) -> list[Row]:
        """See `Mixture.draw`."""
        return [
            row._replace(window=int(self.windows[row.source][row.window]))
            for row in super().draw(step)
        ]


def number(pairs: Sequence[tuple[str, int]], entropy: tuple[int, ...]) -> list[Row]:
    """(source, window) pairs as rows, each with a seed of its own."""
    return [
        Row(source, window, slot, seed)
        for slot, ((source, window), seed) in enumerate(
            zip(pairs, seeds(entropy, len(pairs)), strict=True)
        )
    ]


def seeds(entropy: tuple[int, ...], count: int) -> list[int]:
    """Seeds that have nothing to do with each other, nor with those of other entropy."""
    drawn = np.random.SeedSequence(entropy).generate_state(count, np.uint64) >> np.uint64(1)
    return [int(seed) for seed in drawn]


GOLDEN = (5**0.5 - 1) / 2  # its multiples fill [0, 1) as evenly as any
BLOCK = 65536  # slots that are counted once and remembered


def _turns(edges: tuple[float, ...], slots: np.ndarray) -> np.ndarray:
    """Which source's turn it is in each slot."""
    turns: np.ndarray = np.searchsorted(edges, (slots + 0.5) * GOLDEN % 1.0, side="right")
    return turns


@cache
def _block_counts(edges: tuple[float, ...], block: int) -> np.ndarray:
    slots = np.arange(block * BLOCK, (block + 1) * BLOCK)
    return np.bincount(_turns(edges, slots), minlength=len(edges) + 1)


@lru_cache(maxsize=64)
def _order(seed: int, source: int, epoch: int, windows: int) -> np.ndarray:
    return np.random.default_rng((seed, 0, source, epoch)).permutation(windows)
