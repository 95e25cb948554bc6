"""The health of a dataset on one picture page."""

from pathlib import Path
from typing import Any

import numpy as np

from motus_adapters.files import replacing
from motus_adapters.health.examining import HealthReport
from motus_adapters.unified.manifest import ACTION, STATE
from motus_adapters.unified.reading import UnifiedDataset
from motus_embodiments import DataError

_COLOURS = {"pass": "tab:green", "warn": "tab:orange", "fail": "tab:red"}
_FEATURES = {STATE: "tab:blue", ACTION: "tab:orange"}
_SHOWN = 4  # canvases
_WIDE = 110  # letters of a line


def draw_health(report: HealthReport, path: Path | str) -> Path:
    """Draw checks, ranges, lags, lengths, grippers and four canvases to a PNG.

    Raises:
        DataError: The file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    path = Path(path)
    figure = Figure(figsize=(16, 12), layout="constrained")
    figure.suptitle(
        f"{report.path.name}: {report.embodiment}, {report.episodes} episodes, "
        f"{report.frames} frames at {report.rate:g} Hz",
        fontsize=16,
    )
    canvases = [f"canvas{i}" for i in range(_SHOWN)]
    rows = [
        ["checks", "checks", "checks", "checks"],
        ["ranges", "ranges", "lags", "lags"],
        ["lengths", "grippers", "views", "tasks"],
        canvases,
    ]
    panels: dict[str, Any] = figure.subplot_mosaic(rows, height_ratios=(3, 3.5, 2.5, 3))
    _checks(panels["checks"], report)
    _ranges(panels["ranges"], report)
    _lags(panels["lags"], report)
    _lengths(panels["lengths"], report)
    _grippers(panels["grippers"], report)
    _views(panels["views"], report)
    _tasks(panels["tasks"], report)
    _canvases([panels[name] for name in canvases], report)
    try:
        with replacing(path) as temporary:
            FigureCanvasAgg(figure).print_png(str(temporary))
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}", where=str(path)) from error
    return path


def _checks(panel: Any, report: HealthReport) -> None:
    panel.set_axis_off()
    for row, check in enumerate(report.checks):
        y = 1 - (row + 0.5) / len(report.checks)
        colour = _COLOURS[check.verdict]
        panel.text(0, y, check.verdict, color=colour, weight="bold", va="center")
        panel.text(0.04, y, check.name, va="center")
        panel.text(0.12, y, _short(check.found, 2 * _WIDE), va="center")


def _ranges(panel: Any, report: HealthReport) -> None:
    """Each channel's range as a share of what the card allows, or of itself where it says nothing.

    Lines at 0 and 1 are the limits.
    """
    names: list[str] = []
    for channel in report.channels:
        if channel.name not in names:
            names.append(channel.name)
        least = channel.low if channel.least is None else channel.least
        most = channel.high if channel.most is None else channel.most
        span = most - least or 1.0
        low, high = (channel.low - least) / span, (channel.high - least) / span
        y = names.index(channel.name) + (-0.2 if channel.feature == STATE else 0.2)
        panel.barh(y, high - low, 0.35, left=low, color=_FEATURES[channel.feature])
    panel.set_yticks(range(len(names)), names, fontsize=_size(names))
    for limit in (0, 1):
        panel.axvline(limit, color="black", linewidth=0.8)
    panel.set_xlim(-0.3, 1.3)
    panel.invert_yaxis()
    panel.set_title("range between the card's limits (state blue, action orange)")


def _lags(panel: Any, report: HealthReport) -> None:
    told = [c for c in report.channels if c.lag is not None and c.correlation is not None]
    names = [channel.name for channel in told]
    panel.barh(names, [c.lag for c in told], color=[str(1 - (c.correlation or 0)) for c in told])
    panel.tick_params(axis="y", labelsize=_size(names))
    panel.invert_yaxis()
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_title("frames by which states follow actions (the darker, the surer)")


def _lengths(panel: Any, report: HealthReport) -> None:
    panel.hist(report.lengths, bins=min(30, max(5, report.episodes)), color="tab:blue")
    panel.set_title("frames of an episode")


def _grippers(panel: Any, report: HealthReport) -> None:
    panel.set_title("gripper: closed to open")
    for name, shares in report.grippers.items():
        places = (np.arange(len(shares)) + 0.5) / len(shares)
        panel.plot(places, shares, marker=".", label=name.removeprefix("observation."))
    if report.grippers:
        panel.legend(fontsize=7)
    else:
        panel.text(0.5, 0.5, "none", ha="center")


def _views(panel: Any, report: HealthReport) -> None:
    places = np.arange(len(report.views))
    panel.bar(places - 0.2, [v.static for v in report.views], 0.4, label="static")
    panel.bar(places + 0.2, [v.black for v in report.views], 0.4, label="black")
    labels = [f"{v.role}\nsharpness {v.sharpness:.0f}\nleast {v.softest:.0f}" for v in report.views]
    panel.set_xticks(places, labels, fontsize=8)
    panel.set_ylim(0, 1)
    panel.legend(fontsize=7)
    panel.set_title("share of frames")


def _tasks(panel: Any, report: HealthReport) -> None:
    panel.set_axis_off()
    panel.set_title("instructions")
    for row, (task, episodes) in enumerate(report.tasks.items()):
        words = _short(task, 40) or "(none)"
        panel.text(0, 1 - (row + 0.5) / 10, f"{episodes} x {words}", va="center", fontsize=8)


def _canvases(panels: list[Any], report: HealthReport) -> None:
    """The middle frame of episodes spread over the dataset."""
    dataset = UnifiedDataset(report.path)
    chosen = np.unique(np.linspace(0, report.episodes - 1, len(panels)).astype(int))
    for panel in panels:
        panel.set_axis_off()
    for panel, index in zip(panels, chosen, strict=False):
        middle = dataset.episodes[index].length // 2
        try:
            canvas = next(c for i, c in enumerate(dataset.frames(int(index))) if i == middle)
        except (DataError, StopIteration):
            panel.set_title(f"episode {index} cannot be read", fontsize=9)
            continue
        panel.imshow(canvas)
        panel.set_title(f"episode {index}, frame {middle}", fontsize=9)


def _short(text: str, letters: int) -> str:
    """One line; a dollar sign would begin a formula."""
    line = " ".join(text.split()).replace("$", r"\$")
    return line if len(line) <= letters else line[: letters - 3] + "..."


def _size(names: list[str]) -> float:
    return float(np.clip(160 / max(1, len(names)), 3, 9))
