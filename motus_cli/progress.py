"""How far along a command is: a moving bar on a terminal, now and then a plain line elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, TextIO

from motus_cli.plain import duration

if TYPE_CHECKING:
    from rich.console import Console as Screen

OnProgress = Callable[[int, int, object], None]
View = Callable[["Screen", str], AbstractContextManager[OnProgress]]
SECONDS_BETWEEN_LINES = 5.0


class Pace:
    """Rate and time left, counted from where this run began (a resumed one begins late).

    A new total, or a count that falls, is a new piece of work and restarts the clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._restart(0, 0)

    def _restart(self, done: int, total: int) -> None:
        self._start, self._first, self.done, self.total = self._clock(), done, done, total

    def update(self, done: int, total: int) -> None:
        """Take in one report of a lower floor."""
        if total != self.total or done < self.done:
            self._restart(done, total)
        self.done = done

    @property
    def rate(self) -> float | None:
        """Items a second, None while nothing has been done."""
        elapsed = self._clock() - self._start
        worked = self.done - self._first
        return worked / elapsed if worked > 0 and elapsed > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds to go, None while the rate is unknown."""
        return (self.total - self.done) / self.rate if self.rate else None

    def __str__(self) -> str:
        parts = [f"{self.done}/{self.total}"] if self.total else [str(self.done)]
        if self.total:
            parts.append(f"{100 * self.done / self.total:.0f} %")
        if self.rate is not None and self.left is not None:
            parts += [f"{self.rate:.3g}/s", f"{duration(self.left)} left"]
        return "  ".join(parts)


@contextmanager
def lines(
    stream: TextIO, title: str, clock: Callable[[], float] = time.monotonic
) -> Iterator[OnProgress]:
    """One plain line every few seconds, and one for the end of each piece of work."""
    pace, last_line = Pace(clock), clock()

    def on_progress(done: int, total: int, note: object = "") -> None:
        nonlocal last_line
        pace.update(done, total)
        if clock() - last_line < SECONDS_BETWEEN_LINES and not (total and done == total):
            return
        last_line = clock()
        label = f"{title} ({note})" if note else title
        print(f"{label}: {pace}", file=stream, flush=True)

    yield on_progress


@contextmanager
def bar(screen: "Screen", title: str) -> Iterator[OnProgress]:
    """A bar with rate and time left, redrawn in place."""
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[pace]}"),
    )
    with Progress(*columns, console=screen, transient=True) as drawing:
        pace = Pace()
        task = drawing.add_task(title, total=None, pace="")

        def on_progress(done: int, total: int, note: object = "") -> None:
            pace.update(done, total)
            label = f"{title} ({note})" if note else title
            drawing.update(
                task, completed=done, total=total or None, description=label, pace=str(pace)
            )

        yield on_progress


@contextmanager
def silence() -> Iterator[OnProgress]:
    """Nothing at all, for --quiet."""

    def on_progress(done: int, total: int, note: object = "") -> None:
        """Say nothing."""

    yield on_progress
