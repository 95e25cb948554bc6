"""`motus sample`: let a model imagine, in any of the five modes, and look at the result."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Device, Force, Mode, Seed, Steps


def sample(
    console: Console,
    bundle: Annotated[Path, Argument(help="Exported policy, or run folder")],
    dataset: Annotated[Path, Option("--dataset", help="Unified dataset to start from")],
    episode: Annotated[int, Option("--episode", min=0, help="Episode of the dataset")] = 0,
    mode: Mode = "joint",
    out: Annotated[Path, Option("--out", help="Folder for the film and the plots")] = Path(
        "samples"
    ),
    steps: Steps = 10,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
) -> Outcome:
    """Let a model imagine, in any of five modes.

    Writes a film and plots of sampled frames and actions beside the recorded ones.

    Example: motus sample policies/franka --dataset data/pick --mode joint
    """
    from motus_recipes import sample as sample_model

    report = sample_model(
        bundle, dataset, episode, mode, out, seed=seed, steps=steps, device=device, force=force
    )
    return Outcome(report)
