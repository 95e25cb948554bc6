"""Plots of a report: losses over steps, latent actions, success with its intervals."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from motus_recipes.evaluation.closed_loop import EvalReport

POINTS = 300  # of a curve; more than a screen shows is averaged
SMOOTHED = 20  # a running mean is over this part of a curve
Dash = str | tuple[int, tuple[int, ...]]
COLOURS = ("#1864ab", "#d9480f", "#2b8a3e", "#862e9c", "#212529", "#e8a100")
DASHES: tuple[Dash, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
SPREAD = 20.0  # a curve that falls by more is drawn on a logarithmic axis
LETTERS = 8  # points


class Style(NamedTuple):
    """Of a curve. Readable in grey as well: every colour has a dash and a marker of its own."""

    colour: str
    dash: Dash
    marker: str


def style(number: int) -> Style:
    """The first six differ in everything, the first thirty-six in colour or dash."""
    turn = number + number // len(COLOURS)
    return Style(
        COLOURS[number % len(COLOURS)],
        DASHES[turn % len(DASHES)],
        MARKERS[number % len(MARKERS)],
    )


def loss_chart(
    curves: Mapping[str, Sequence[tuple[int, float]]], heldout: Mapping[str, float]
) -> Figure:
    """Losses over steps, a curve a run: every step pale, their running mean in full.

    Args:
        curves: Name of the run to pairs of step and loss.
        heldout: Name of the run to its held-out loss at the end, a cross.
    """
    figure, panel = _panel(5, 3)
    for number, (name, points) in enumerate(curves.items()):
        steps, losses = thinned(points)
        colour, dash, _ = style(number)
        panel.plot(steps, losses, linewidth=0.7, alpha=0.35, color=colour)
        panel.plot(
            *smoothed(steps, losses), label=name, linewidth=1.4, color=colour, linestyle=dash
        )
        if name in heldout:
            label = f"{name}, held out"
            panel.plot(steps[-1:], [heldout[name]], "x", label=label, color=colour)
    values = [loss for points in curves.values() for _, loss in points]
    if values and min(values) > 0 and max(values) > SPREAD * min(values):
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("step")
    panel.set_ylabel("loss")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=LETTERS)
    return figure


def latent_chart(divergences: Mapping[str, Sequence[float]]) -> Figure:
    """KL of each latent dimension, a curve a run and dataset; one that is not used lies at 0.

    Args:
        divergences: Name of the curve to the KL of every dimension, nats.
    """
    figure, panel = _panel(5, 3)
    for number, (name, values) in enumerate(divergences.items()):
        colour, dash, marker = style(number)
        dimensions = range(1, len(values) + 1)
        panel.plot(
            *(dimensions, values),
            label=name,
            color=colour,
            linestyle=dash,
            linewidth=1,
            marker=marker,
            markersize=3,
        )
    panel.set_ylim(bottom=0)
    panel.set_xlabel("latent dimension")
    panel.set_ylabel("KL (nats)")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=LETTERS)
    return figure


def success_chart(results: Sequence[tuple[str, EvalReport]]) -> Figure:
    """Success rates with their 95 % intervals, a line a result."""
    figure, panel = _panel(5, 0.9 + 0.5 * len(results))
    for row, (_, result) in enumerate(results):
        panel.plot([result.low, result.high], [row, row], color="#495057", linewidth=2)
        panel.plot([result.rate], [row], "o", color=COLOURS[0])
    panel.set_yticks(
        range(len(results)), [name.replace(", ", "\n") for name, _ in results], fontsize=LETTERS
    )
    panel.set_xlim(-0.02, 1.02)
    panel.set_ylim(len(results) - 0.5, -0.5)
    panel.set_xlabel("success, 95 % interval")
    panel.grid(axis="x", alpha=0.3)
    return figure


def thinned(points: Sequence[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """At most POINTS means of neighbouring points."""
    parts = np.array_split(np.asarray(points, float), min(POINTS, len(points)))
    means = np.array([part.mean(0) for part in parts])
    return means[:, 0].tolist(), means[:, 1].tolist()


def smoothed(steps: Sequence[float], losses: Sequence[float]) -> tuple[list[float], list[float]]:
    """The running mean over a part of SMOOTHED; nothing but what it was where points are few."""
    width = max(1, len(losses) // SMOOTHED)
    kernel = np.full(width, 1 / width)
    means = [np.convolve(row, kernel, "valid").tolist() for row in (steps, losses)]
    return means[0], means[1]


def _panel(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
