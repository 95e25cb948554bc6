"""Table and plot of the pretraining experiment, from the cells that are measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from motus_recipes.evaluation.closed_loop import EvalReport
from motus_recipes.evaluation.intervals import mcnemar, newcombe_paired, wilson
from motus_recipes.experiments.grid import STARTS, Cell
from motus_recipes.experiments.sections import write_part
from motus_recipes.reports.charts import style

MODES = {"vla": "VLA", "joint": "joint"}


@dataclass(frozen=True)
class Row:
    """Cells that differ in their seeds only, taken together.

    Attributes:
        seeds: Solved episodes and all episodes, by seed.
        solved: Whether an episode was solved, by seed of the cell and of the episode.
        heldout: Mean error of the actions on held-out demonstrations; None without a policy.
    """

    start: str
    demonstrations: int
    mode: str
    seeds: Mapping[int, tuple[int, int]]
    solved: Mapping[tuple[int, int], bool]
    heldout: float | None

    @property
    def successes(self) -> int:
        """Solved episodes of all seeds."""
        return sum(self.solved.values())

    @property
    def episodes(self) -> int:
        """Episodes of all seeds."""
        return len(self.solved)


def rows_of(
    results: Mapping[Cell, Sequence[EvalReport]], heldout: Mapping[Cell, float]
) -> list[Row]:
    """One row for each start, number of demonstrations and mode that has a measured cell."""
    groups: dict[tuple[str, int, str], list[Cell]] = {}
    for cell in sorted(results):
        groups.setdefault((cell.start, cell.demonstrations, cell.mode), []).append(cell)
    rows = []
    for key, cells in groups.items():
        solved = {
            (cell.seed, episode.seed): episode.success
            for cell in cells
            for report in results[cell]
            for episode in report.results
        }
        seeds = {}
        for cell in cells:
            own = [success for (seed, _), success in solved.items() if seed == cell.seed]
            seeds[cell.seed] = (sum(own), len(own))
        errors = [heldout[cell] for cell in cells if cell in heldout]
        rows.append(Row(*key, seeds, solved, float(np.mean(errors)) if errors else None))
    places = {name: place for place, name in enumerate(STARTS)}
    modes = list(MODES)
    return sorted(rows, key=lambda r: (modes.index(r.mode), r.demonstrations, places[r.start]))


def table(rows: Sequence[Row]) -> str:
    """Success with its 95 % Wilson interval, and what it is more than without pretraining."""
    lines = [
        "| mode | demonstrations | stage 3 starts from | solved | 95 % interval | by seed "
        "| against no pretraining | held-out action error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    plain = {(r.mode, r.demonstrations): r for r in rows if r.start == "none"}
    for row in rows:
        low, high = wilson(row.successes, row.episodes)
        other = plain.get((row.mode, row.demonstrations))
        lines.append(
            f"| {'' if row.heldout is None else MODES[row.mode]} | {row.demonstrations} "
            f"| {STARTS[row.start].title} "
            f"| {row.successes} of {row.episodes} ({row.successes / row.episodes:.0%}) "
            f"| {low:.0%} to {high:.0%} "
            f"| {', '.join(f'{s}/{n}' for s, n in row.seeds.values())} "
            f"| {_against(row, other)} "
            f"| {'' if row.heldout is None else f'{row.heldout:.3f}'} |"
        )
    return "\n".join(lines)


def _against(row: Row, plain: Row | None) -> str:
    """Difference over the episodes that both met, with interval and p-value."""
    shared = [] if plain is None or plain is row else sorted({*row.solved} & {*plain.solved})
    if plain is None or not shared:
        return ""
    pairs = [(plain.solved[key], row.solved[key]) for key in shared]
    only_plain, only_row = pairs.count((True, False)), pairs.count((False, True))
    low, high = newcombe_paired(
        pairs.count((True, True)), only_plain, only_row, pairs.count((False, False))
    )
    more = (only_row - only_plain) / len(pairs)
    p = mcnemar(only_plain, only_row)
    told = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"{100 * more:+.0f} points ({100 * low:+.0f} to {100 * high:+.0f}), {told}"


def chart(rows: Sequence[Row]) -> Figure:
    """Success over demonstrations, a curve for each start, a panel for each mode."""
    modes = [mode for mode in MODES if any(row.mode == mode for row in rows)]
    figure = Figure(figsize=(4.2 * len(modes) + 0.8, 3.2), layout="constrained")
    panels = figure.subplots(1, len(modes), sharey=True, squeeze=False)[0]
    for panel, mode in zip(panels, modes, strict=True):
        for place, (start, about) in enumerate(STARTS.items()):
            own = [row for row in rows if row.mode == mode and row.start == start]
            if not own:
                continue
            # Side by side, so that intervals do not hide each other.
            at = [row.demonstrations * (1 + 0.03 * (place - 2)) for row in own]
            shares = [row.successes / row.episodes for row in own]
            limits = [wilson(row.successes, row.episodes) for row in own]
            below = [s - low for s, (low, _) in zip(shares, limits, strict=True)]
            above = [high - s for s, (_, high) in zip(shares, limits, strict=True)]
            colour, dash, marker = style(place)
            panel.errorbar(
                at,
                shares,
                [below, above],
                label=about.title,
                color=colour,
                linestyle=dash,
                marker=marker,
                markersize=4,
                capsize=2,
            )
        panel.set_xscale("log")
        counts = sorted({row.demonstrations for row in rows})
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.minorticks_off()
        panel.set_xlim(counts[0] / 1.4, counts[-1] * 1.4)
        panel.set_ylim(-0.02, 1.02)
        panel.set_xlabel("demonstrations of the new arm")
        panel.set_title(f"mode {mode}", fontsize=9)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("success, 95 % interval")
    panels[0].legend(fontsize=7)
    return figure


def write_section(
    results: Mapping[Cell, Sequence[EvalReport]],
    heldout: Mapping[Cell, float],
    protocol: str,
    page: Path,
) -> None:
    """Put table and plot into a page; what stands around them there stays.

    Args:
        results: Measured cells.
        heldout: Held-out action error of each that has a policy.
        protocol: Sentences that say how it was measured.
        page: The file; the plot is written beside it.
    """
    rows = rows_of(results, heldout)
    picture = page.with_suffix(".png")
    body = f"{protocol}\n\n{table(rows)}\n\n![Success over demonstrations]({picture.name})"
    write_part(page, "make experiment", body)
    chart(rows).savefig(picture, dpi=110)
