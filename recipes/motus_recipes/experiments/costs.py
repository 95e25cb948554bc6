"""CPU time of the parts of an experiment, added up over all runs of its command."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from motus_adapters import write_json


class Costs:
    """CPU seconds by part, children included, kept in a file.

    Args:
        path: The file; what it holds is added to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add what happens inside to a part, also when it is interrupted."""
        before = cpu_seconds()
        try:
            yield
        finally:
            costs = self.read()
            costs[part] = round(costs.get(part, 0.0) + cpu_seconds() - before, 1)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, costs)

    def read(self) -> dict[str, float]:
        """What was spent so far."""
        found: dict[str, float] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found

    def __str__(self) -> str:
        parts = [f"{part} {seconds / 60:.1f}" for part, seconds in self.read().items()]
        return f"CPU minutes: {', '.join(parts)}."


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def tell(what: str, every: float = 20.0) -> Callable[[int, int, str], None]:
    """A plain line to stderr now and then."""
    last = time.monotonic()

    def on_progress(done: int, total: int, note: str) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > every:
            last = time.monotonic()
            sys.stderr.write(f"{what}: {done}/{total} {note}\n")

    return on_progress
