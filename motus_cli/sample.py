"""`motus sample`: let a model imagine, in any of the five modes, and look at the result."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Device, Force, Mode, Seed, Steps


def sample(
    console: Console,
    bundle: Annotated[Path, Argument(help="Exported policy, or run folder")],
    dataset: Annotated[Path, Option("--dataset", help="Unified dataset to start from")],
    episode: Annotated[int, Option("--episode", min=0, help="Episode of the dataset")] = 0,
    mode: Mode = "joint",
    all_modes: Annotated[
        bool, Option("--all-modes", help="All five, with one page of everything")
    ] = False,
    out: Annotated[Path, Option("--out", help="Folder for the film and the plots")] = Path(
        "samples"
    ),
    lpips_weights: Annotated[
        Path | None,
        Option("--lpips-weights", help="AlexNet of torchvision as safetensors: adds LPIPS"),
    ] = None,
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
    from motus_recipes import sample_all

    options: dict[str, Any] = {
        "seed": seed,
        "steps": steps,
        "device": device,
        "lpips": lpips_weights,
        "force": force,
    }
    if all_modes:
        report = sample_all(bundle, dataset, episode, out, **options)
        return Outcome(report, show=("page", "samples"))
    one = sample_model(bundle, dataset, episode, mode, out, **options)
    return Outcome(one, show=("mode", "episode", "film", "plot", "video", "still", "action_mae"))
