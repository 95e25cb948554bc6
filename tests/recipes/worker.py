"""What another process of a test runs: recipe `full` by the overrides of its command line."""

import os
import signal
import sys
from pathlib import Path

import torch

from motus_recipes import load_recipe, train


def go_on(run: str | Path, data: str | Path, *overrides: str, dies_at: Path | None = None) -> None:
    """Train from where the run stands; killed when a file stands."""

    def die(*_: object) -> None:
        if dies_at is not None and dies_at.exists():
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    recipe = load_recipe("full", overrides=overrides)
    target = {"target": Path(data)}
    train(recipe, run=Path(run), data=target, resume=True, device="cpu", on_progress=die)


if __name__ == "__main__":
    go_on(*sys.argv[1:])
