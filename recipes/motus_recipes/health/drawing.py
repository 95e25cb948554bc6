"""The health of a codec as one page that stands alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from motus_embodiments import UsageError
from motus_recipes.health.report import CodecHealth
from motus_recipes.reports.charts import COLOURS, latent_chart
from motus_recipes.reports.markup import drawing, figure, table, write_html

_WHOSE = {"base": "arm's base", "camera": "head camera", "wrist": "arm's own wrist camera"}


def draw_codec_health(health: CodecHealth, path: Path) -> Path:
    """Write the page.

    Raises:
        UsageError: The name does not end in .html.
    """
    if path.suffix != ".html":
        raise UsageError(f"{path} does not end in .html", hint="the page of a codec is HTML")
    probes = drawing(_bars(_by_dataset(health, "linear"), "R² of true twists"), "probes")
    epe = drawing(_bars(_errors(health), "flow error / zero flow"), "flow error")
    kl = drawing(latent_chart({row.dataset: row.kl for row in health.datasets}), "KL")
    sections = [
        f"<p>Codec {health.hash}, labels along the axes of the {_WHOSE[health.frame]}. "
        "All figures are of episodes that the codec never trained on.</p>",
        "<h2>What is read from 14 numbers</h2>",
        figure(
            probes,
            "Linear probe, or what a network or head says as it stands: share of the variation of "
            "true twists that it explains, along the axes of the arm's base.",
        )
        if health.probes
        else "",
        table(_rounded(health.probes), "probes"),
        table(_rounded(health.twists), "twists"),
        "<h2>Flow drawn from 14 numbers</h2>",
        figure(epe, "End-point error over that of zero flow, by view; less is better."),
        table(_rounded(health.reconstruction), "reconstruction"),
        figure(kl, "KL of each dimension in nats; above 0.1 it carries something."),
        table(_rounded([_plain(row) for row in health.datasets]), "datasets"),
        "<h2>The same motion on other robots</h2>",
        table(_rounded(health.crossings), "crossings")
        or "<p>It takes datasets of two robots with twists.</p>",
        "<h2>The same motion under other looks</h2>",
        table(_rounded(health.appearance), "appearance")
        or "<p>It takes two datasets of <code>motus anchor</code> with the same seed and another "
        "<code>--appearance</code>.</p>",
    ]
    return write_html(path, "Health of a latent-action codec", sections)


def _by_dataset(health: CodecHealth, key: str) -> dict[str, dict[str, float]]:
    bars: dict[str, dict[str, float]] = {}
    for row in health.probes:
        if row.axes != "base":
            continue
        bars.setdefault(row.code, {})[row.dataset] = getattr(row, key)
    return bars


def _errors(health: CodecHealth) -> dict[str, dict[str, float]]:
    bars: dict[str, dict[str, float]] = {"14 components": {}, "codec": {}, "best drawn": {}}
    for row in health.reconstruction:
        place = f"{row.dataset}\n{row.view}"
        bars["14 components"][place] = row.components
        bars["codec"][place] = row.codec
        if row.ceiling is not None:
            bars["best drawn"][place] = row.ceiling
    return bars


def _bars(groups: Mapping[str, Mapping[str, float]], label: str) -> Figure:
    """Bars side by side, a group a place; below -0.2 they are cut off."""
    places = list(dict.fromkeys(place for group in groups.values() for place in group))
    plot = Figure(figsize=(max(5, 1.2 * len(places) + 2), 3.6), layout="constrained")
    panel = plot.subplots()
    width = 0.8 / max(1, len(groups))
    for number, (name, group) in enumerate(groups.items()):
        at = [places.index(place) + number * width for place in group]
        heights = [max(-0.2, value) for value in group.values()]
        colour = COLOURS[number % len(COLOURS)]
        hatch = ("", "//", "..", "xx", "--")[number % 5]
        panel.bar(at, heights, width, label=name, color=colour, hatch=hatch, edgecolor="white")
    panel.set_xticks([i + 0.4 - width / 2 for i in range(len(places))], places, fontsize=7)
    panel.set_ylabel(label)
    panel.grid(axis="y", alpha=0.3)
    plot.legend(fontsize=7, ncols=2, loc="outside upper left")
    return plot


def _plain(row: Any) -> dict[str, Any]:
    return {key: value for key, value in asdict(row).items() if key != "kl"}


def _rounded(rows: Sequence[Any]) -> list[dict[str, Any]]:
    named = [dict(row) if isinstance(row, Mapping) else asdict(row) for row in rows]
    return [{key.replace("_", " "): _told(value) for key, value in row.items()} for row in named]


def _told(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else value
