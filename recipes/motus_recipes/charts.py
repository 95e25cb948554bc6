"""Plots of a report: losses over steps, success with its intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from motus_recipes.evaluation import EvalReport

POINTS = 300  # of a curve; more than a screen shows is averaged
# Readable in grey as well: every colour has a dash of its own.
STYLES = (("#1864ab", "-"), ("#d9480f", "--"), ("#2b8a3e", "-."), ("#862e9c", ":"))
SPREAD = 20.0  # a curve that falls by more is drawn on a logarithmic axis


def loss_chart(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Losses over steps, a curve a run.

    Args:
        curves: Name of the run to pairs of step and loss.
    """
    figure = Figure(figsize=(5, 3), layout="constrained")
    panel = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        steps, losses = thinned(points)
        colour, dash = STYLES[number % len(STYLES)]
        panel.plot(steps, losses, label=name, linewidth=1.4, color=colour, linestyle=dash)
    values = [loss for points in curves.values() for _, loss in points]
    if values and min(values) > 0 and max(values) > SPREAD * min(values):
        panel.set_yscale("log")
    panel.set_xlabel("step")
    panel.set_ylabel("loss")
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
    return figure


def success_chart(results: Sequence[tuple[str, EvalReport]]) -> Figure:
    """Success rates with their 95 % intervals, a line a result."""
    figure = Figure(figsize=(6, 0.8 + 0.35 * len(results)), layout="constrained")
    panel = figure.subplots()
    for row, (_, result) in enumerate(results):
        panel.plot([result.low, result.high], [row, row], color="#495057", linewidth=2)
        panel.plot([result.rate], [row], "o", color="#1864ab")
    panel.set_yticks(range(len(results)), [name for name, _ in results], fontsize=8)
    panel.set_xlim(-0.02, 1.02)
    panel.set_xlabel("success, 95 % interval")
    panel.grid(axis="x", alpha=0.3)
    panel.invert_yaxis()
    return figure


def thinned(points: Sequence[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """At most POINTS means of neighbouring points."""
    parts = np.array_split(np.asarray(points, float), min(POINTS, len(points)))
    means = np.array([part.mean(0) for part in parts])
    return means[:, 0].tolist(), means[:, 1].tolist()
