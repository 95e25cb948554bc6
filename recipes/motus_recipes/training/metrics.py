"""Where the numbers of a run go: metrics.jsonl and TensorBoard always, other trackers by option."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter

from motus_adapters import replacing
from motus_recipes.training.trackers import close_tracker, open_tracker

FLUSH_EVERY = 100  # steps
FEW = 50  # steps that a loss is compared with
EXPLODED = 50.0  # times the median of those


class Metrics:
    """The metrics of one stage; only the main process writes them.

    `metrics.jsonl` is the truth: a line a step, and what lies beyond the resumed step is cut off.
    """

    def __init__(self, folder: Path, step: int, trackers: Sequence[str], *, main: bool) -> None:
        self.path = folder / "metrics.jsonl"
        self._main = main
        self._others: list[Any] = []
        if not main:
            return
        folder.mkdir(parents=True, exist_ok=True)
        lines = self.path.read_text().splitlines()[:step] if step else []
        with replacing(self.path) as temporary:  # a kill leaves the lines of the steps before
            temporary.write_text("".join(f"{line}\n" for line in lines))
        self._others = [open_tracker(name, folder) for name in trackers]
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step)

    def __enter__(self) -> Self:
        if self._main:
            self._file = self.path.open("a")
        return self

    def __exit__(self, *error: object) -> None:
        if not self._main:
            return
        self._file.close()
        self._board.close()
        for tracker in self._others:
            close_tracker(tracker)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One step's numbers."""
        if not self._main:
            return
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._track(step, values)
        if (step + 1) % FLUSH_EVERY == 0:
            self.flush()

    def heldout(self, step: int, losses: Mapping[str, Mapping[str, float]]) -> None:
        """Held-out losses by source, for TensorBoard and trackers; results keep the last ones."""
        if self._main:
            named = {f"heldout/{s}/{key}": v for s, own in losses.items() for key, v in own.items()}
            self._track(step, named)

    def _track(self, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self._board.add_scalar(key, value, step)
        for tracker in self._others:
            tracker.log(values, step=step)

    def flush(self) -> None:
        """Put the lines so far on disk."""
        if self._main:
            self._file.flush()

    def ends(self) -> tuple[dict[str, float], dict[str, float]]:
        """Mean losses over the first and the last tenth of the steps."""
        rows = [json.loads(line) for line in self.path.read_text().splitlines()]
        tenth = max(1, len(rows) // 10)
        return _mean(rows[:tenth]), _mean(rows[-tenth:])


class Explosion:
    """Tells a loss that has left all bounds, by the median of the steps before it.

    Args:
        recent: Losses of the last steps; a resumed run goes on with those of its checkpoint.
    """

    def __init__(self, recent: Sequence[float] = ()) -> None:
        self.recent = list(recent)

    def seen(self, loss: float) -> bool:
        """Take up a step's loss; whether it is far above those before."""
        full = len(self.recent) == FEW
        exploded = full and loss > EXPLODED * statistics.median(self.recent)
        self.recent = [*self.recent[-FEW + 1 :], loss]
        return exploded


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    keys = [key for key in rows[0] if key not in ("step", "gradient_norm")] if rows else []
    return {key: sum(row[key] for row in rows) / len(rows) for key in keys}
