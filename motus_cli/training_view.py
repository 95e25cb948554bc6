"""What a training looks like on a terminal: how far, how well, how fast, and of what."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from motus_cli.plain import duration
from motus_cli.progress import OnProgress, Pace

if TYPE_CHECKING:
    from rich.console import Console as Screen
    from rich.table import Table

LEVELS = "▁▂▃▄▅▆▇█"
POINTS = 12  # of the curve of losses, at least, once there are so many steps
REDRAWN = 4  # times a second


@contextmanager
def training_view(screen: "Screen", title: str) -> Iterator[OnProgress]:
    """A few lines, redrawn in place."""
    from rich.live import Live

    view = TrainingView(title)
    with Live(
        console=screen, transient=True, refresh_per_second=REDRAWN, get_renderable=view.drawing
    ):
        yield view.update


class TrainingView:
    """The latest of a training."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.title = title
        self._run, self._stage = Pace(clock), Pace(clock)
        self._note: Any = ""
        self._curve = Curve()

    def update(self, done: int, total: int, note: object = "") -> None:
        """Take in a report: a `StepNote` of the trainer's, or words."""
        self._run.update(done, total)
        if _is_step(note):
            step: Any = note
            if self._name() != step.stage:
                self._curve = Curve()
            self._stage.update(step.done, step.steps)
            self._curve.add(step.losses["loss"])
        self._note = note

    def drawing(self) -> "Table":
        """The lines."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        def progress(pace: Pace) -> Table:
            row = Table.grid(padding=(0, 2))
            if pace.total:
                bar = ProgressBar(total=pace.total, completed=pace.done, width=30)
                left = "" if pace.left is None else f"{duration(pace.left)} left"
                share = f"{100 * pace.done / pace.total:.0f} %"
                row.add_row(bar, f"{pace.done}/{pace.total}", share, left)
            return row

        lines = Table.grid(padding=(0, 2))
        lines.add_column(style="bold", no_wrap=True)
        lines.add_row(self.title, progress(self._run))
        if not _is_step(self._note):
            if self._note:
                lines.add_row("", str(self._note))
            return lines
        lines.add_row(self._name(), progress(self._stage))
        for name, told in self._told(self._note).items():
            lines.add_row(f"  {name}", told)
        return lines

    def _name(self) -> str:
        return self._note.stage if _is_step(self._note) else ""

    def _told(self, note: Any) -> dict[str, str]:
        parts = [f"{k} {v:.4f}" for k, v in note.losses.items() if k != "loss"]
        rate = self._stage.rate
        speed = (
            [] if rate is None else [f"{rate:.3g} steps/s", f"{rate * note.batch:.3g} windows/s"]
        )
        speed += [f"gradient {note.gradient_norm:.3g}", f"learning rate {note.learning_rate:.2g}"]
        return {
            "loss": "  ".join([f"{note.losses['loss']:.4f}", str(self._curve), *parts]),
            "speed": "  ".join(speed),
            "mixture": _mixture(note.drawn, note.asked),
        }


class Curve:
    """Losses of a stage as a line of blocks: means over ever longer spans."""

    def __init__(self) -> None:
        self._means: list[float] = []
        self._span, self._sum, self._count = 1, 0.0, 0

    def add(self, value: float) -> None:
        """The next step's."""
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count < self._span:
            return
        self._means.append(self._sum / self._span)
        self._sum, self._count = 0.0, 0
        if len(self._means) == 2 * POINTS:
            pairs = zip(self._means[::2], self._means[1::2], strict=True)
            self._means, self._span = [(a + b) / 2 for a, b in pairs], 2 * self._span

    def __str__(self) -> str:
        low, high = (min(self._means), max(self._means)) if self._means else (0.0, 0.0)
        scale = (len(LEVELS) - 1) / (high - low) if high > low else 0.0
        return "".join(LEVELS[round((mean - low) * scale)] for mean in self._means)


def _is_step(note: object) -> bool:
    return hasattr(note, "losses")


def _mixture(drawn: Mapping[str, float], asked: Mapping[str, float]) -> str:
    """Each source's share of the windows so far, and what the recipe asks for."""
    return "  ".join(f"{n} {s:.1%} (asked {asked[n]:.1%})" for n, s in drawn.items())
