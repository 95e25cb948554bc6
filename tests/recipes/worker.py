"""What a process of a multi-process test runs: a recipe by the overrides of its command line."""

import sys
from pathlib import Path

import torch

from motus_recipes import load_recipe, train

if __name__ == "__main__":
    run, data, *overrides = sys.argv[1:]
    torch.set_num_threads(1)
    train(
        load_recipe("full", overrides=overrides),
        run=Path(run),
        data={"target": Path(data)},
        resume=True,
        device="cpu",
    )
