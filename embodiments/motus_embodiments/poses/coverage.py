"""How evenly end-effectors visit the space that they can reach."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        share: Share of the reachable cells that were visited.
        entropy: Entropy of the visits over that of even visits to every cell; 1 is even.
        peak: Most visits to a cell over the mean.
    """

    cells: int
    hit: int
    share: float
    entropy: float
    peak: float


class Grid:
    """Cells of 5 cm in an arm's base frame, those that some poses reach."""

    def __init__(
        self,
        points: Float[ndarray, "s 3"],
        low: Float[ndarray, " 3"] | None = None,
        high: Float[ndarray, " 3"] | None = None,
    ) -> None:
        """Lay the grid over the points; `low` and `high` (m) bound it where they are given."""
        self.low = points.min(axis=0) if low is None else np.asarray(low, np.float64)
        self.high = points.max(axis=0) if high is None else np.asarray(high, np.float64)
        self._shape = np.maximum(1, np.ceil((self.high - self.low) / CELL - 1e-9).astype(int))
        cells = self.cells(points)
        self.reachable: Int[ndarray, " c"] = np.unique(cells[cells >= 0])

    def __len__(self) -> int:
        return len(self.reachable)

    def draw(self, index: int, rng: np.random.Generator) -> Float[ndarray, " 3"]:
        """A point drawn evenly from the reachable cell `index` (counted around)."""
        corner = self.corners()[index % len(self)]
        return rng.uniform(corner, np.minimum(corner + CELL, self.high))

    def corners(self) -> Float[ndarray, "c 3"]:
        """The lowest corner of each reachable cell, in m."""
        return self.low + np.stack(np.unravel_index(self.reachable, self._shape), axis=1) * CELL

    def visits(self, points: Float[ndarray, "s 3"]) -> Int[ndarray, " c"]:
        """How many points lie in each reachable cell."""
        cells = self.cells(points)
        cells = cells[np.isin(cells, self.reachable)]
        return np.bincount(np.searchsorted(self.reachable, cells), minlength=len(self))

    def coverage(self, visits: Int[ndarray, " c"]) -> Coverage:
        """Evenness of visits as `visits` counts them."""
        total, hit = int(visits.sum()), int((visits > 0).sum())
        shares = visits[visits > 0] / max(1, total)
        return Coverage(
            cells=len(self),
            hit=hit,
            share=hit / max(1, len(self)),
            entropy=float((shares * np.log(1 / shares)).sum()) / math.log(max(2, len(self))),
            peak=float(visits.max(initial=0) * len(self) / max(1, total)),
        )

    def cells(self, points: Float[ndarray, "s 3"]) -> Int[ndarray, " s"]:
        """Number of each point's cell, -1 outside the grid."""
        at = np.floor((points - self.low) / CELL).astype(int)
        inside = ((at >= 0) & (at < self._shape) & (points <= self.high)).all(axis=1)
        return np.where(inside, np.ravel_multi_index(tuple(at.T), self._shape, mode="clip"), -1)


def draw_coverage(
    path: Path,
    title: str,
    visits: Mapping[Any, tuple[Grid, Int[ndarray, " c"]]],
    rejected: Mapping[str, float],
) -> None:
    """A picture: for each arm where its end-effector was, seen along y and z; why targets fell.

    Args:
        path: The PNG, replaced whole or not at all; the same numbers give the same bytes.
        title: Its heading.
        visits: Side -> the arm's grid and the visits to each of its cells.
        rejected: Reason -> share of the targets tried.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6 * len(visits)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    axes = figure.subplots(len(visits), 3, squeeze=False, width_ratios=(1, 1, 0.7))
    for row, (side, (grid, seen)) in zip(axes, visits.items(), strict=True):
        found = grid.coverage(seen)
        label = f"{side} arm: {found.hit} of {found.cells} cells, entropy {found.entropy:.3f}"
        for axis, (across, up) in zip(row, (("x", "y"), ("x", "z")), strict=False):
            _draw_view(axis, grid, seen, across, up)
        row[0].set_title(label, loc="left", fontsize="medium")
        row[2].set_axis_off()
    bars = axes[0, 2]
    bars.set_axis_on()
    bars.barh(list(rejected), [100 * share for share in rejected.values()], color="0.5")
    bars.set_title("targets rejected, %", loc="left", fontsize="medium")
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=80, metadata={"Software": None})
    part.replace(path)


def _draw_view(axis: Any, grid: Grid, seen: Int[ndarray, " c"], across: str, up: str) -> None:
    """Visits summed along the third axis; cells that nothing can reach stay white."""
    corners = grid.corners()
    a, b = (
        np.rint((corners[:, "xyz".index(n)] - grid.low["xyz".index(n)]) / CELL).astype(int)
        for n in (across, up)
    )
    total = np.full((b.max() + 1, a.max() + 1), np.nan)
    total[b, a] = 0
    np.add.at(total, (b, a), seen)
    low_a, low_b = grid.low["xyz".index(across)], grid.low["xyz".index(up)]
    extent = (low_a, low_a + CELL * total.shape[1], low_b, low_b + CELL * total.shape[0])
    image = axis.imshow(total, origin="lower", extent=extent, cmap="viridis", vmin=0)
    axis.set_xlabel(f"{across} (m)")
    axis.set_ylabel(f"{up} (m)")
    axis.figure.colorbar(image, ax=axis, label="frames", shrink=0.8)
