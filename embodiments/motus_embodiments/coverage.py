"""How evenly end-effectors visit the space that they can reach."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

CELL = 0.05  # m


@dataclass(frozen=True)
class Coverage:
    """Evenness of visits over reachable cells.

    Attributes:
        cells: Reachable cells.
        hit: Cells visited at least once.
        entropy: Entropy of the visits over that of even visits to every cell; 1 is even.
        peak: Most visits to a cell over the mean.
    """

    cells: int
    hit: int
    entropy: float
    peak: float

    @property
    def share(self) -> float:
        """Share of the reachable cells that were visited."""
        return self.hit / max(1, self.cells)


class Grid:
    """Cells of 5 cm in an arm's base frame, those that random poses reach."""

    def __init__(
        self,
        points: Float[ndarray, "s 3"],
        low: Float[ndarray, " 3"] | None = None,
        high: Float[ndarray, " 3"] | None = None,
    ) -> None:
        """Lay the grid over the points; `low` and `high` (m) bound it where the card does."""
        self.low = points.min(axis=0) if low is None else np.asarray(low, np.float64)
        high = points.max(axis=0) if high is None else np.asarray(high, np.float64)
        self._shape = np.maximum(1, np.ceil((high - self.low) / CELL - 1e-9).astype(int))
        self._high = high
        cells = self._cells(points)
        self.reachable: Int[ndarray, " c"] = np.unique(cells[cells >= 0])

    def __len__(self) -> int:
        return len(self.reachable)

    def draw(self, index: int, rng: np.random.Generator) -> Float[ndarray, " 3"]:
        """A point drawn evenly from the reachable cell `index` (counted around)."""
        cell = np.unravel_index(self.reachable[index % len(self)], self._shape)
        corner = self.low + np.array(cell) * CELL
        return rng.uniform(corner, np.minimum(corner + CELL, self._high))

    def visits(self, points: Float[ndarray, "s 3"]) -> Int[ndarray, " c"]:
        """How many points lie in each reachable cell."""
        cells = self._cells(points)
        cells = cells[np.isin(cells, self.reachable)]
        return np.bincount(np.searchsorted(self.reachable, cells), minlength=len(self))

    def coverage(self, visits: Int[ndarray, " c"]) -> Coverage:
        """Evenness of visits as `visits` counts them."""
        total = int(visits.sum())
        if total == 0:
            return Coverage(len(self), 0, 0.0, 0.0)
        shares = visits[visits > 0] / total
        entropy = float(-(shares * np.log(shares)).sum()) / math.log(max(2, len(self)))
        return Coverage(
            cells=len(self),
            hit=int((visits > 0).sum()),
            entropy=entropy,
            peak=float(visits.max() * len(self) / total),
        )

    def _cells(self, points: Float[ndarray, "s 3"]) -> Int[ndarray, " s"]:
        """Number of each point's cell, -1 outside the grid."""
        at = np.floor((points - self.low) / CELL).astype(int)
        inside = ((at >= 0) & (at < self._shape) & (points <= self._high)).all(axis=1)
        return np.where(inside, np.ravel_multi_index(tuple(at.T), self._shape, mode="clip"), -1)
