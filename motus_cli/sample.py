"""`motus sample`: let a model imagine, in any of the five modes, and look at the result."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Device, Force, ModeName, Rerun, Seed, Steps
from motus_embodiments import UsageError


def sample(
    console: Console,
    policy: Annotated[Path, Argument(help="Exported policy")],
    dataset: Annotated[Path, Option("--dataset", help="Unified dataset to start from")],
    episode: Annotated[
        str,
        Option("--episode", help="Of the dataset: 3; or score several: 10-19, heldout, all"),
    ] = "0",
    mode: Annotated[
        ModeName | None,
        Option("--mode", help="What is given and what is solved for; joint if left out"),
    ] = None,
    all_modes: Annotated[
        bool, Option("--all-modes", help="All five in place of --mode, and a page of them")
    ] = False,
    out: Annotated[Path, Option("--out", help="Folder for the film and the plots")] = Path(
        "samples"
    ),
    lpips_weights: Annotated[
        Path | None,
        Option("--lpips-weights", help="AlexNet of torchvision as safetensors: adds LPIPS"),
    ] = None,
    fid_weights: Annotated[
        Path | None,
        Option("--fid-weights", help="InceptionV3 of torch-fidelity as safetensors: adds FID"),
    ] = None,
    fvd_weights: Annotated[
        Path | None, Option("--fvd-weights", help="I3D as TorchScript: adds FVD")
    ] = None,
    baselines: Annotated[
        Path | None,
        Option("--baselines", help="Run of `motus train --recipe idm`, to hold mode idm against"),
    ] = None,
    rerun: Rerun = None,
    steps: Steps = 10,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
) -> Outcome:
    """Let a model imagine, in any of five modes.

    Writes a film and plots of sampled frames and actions beside the recorded ones, of the first
    episode that is named; scores are of all that are.

    Example: motus sample policies/franka --dataset data/pick --mode joint
    """
    from motus_recipes import MetricWeights, sample_all
    from motus_recipes import sample as sample_model

    options: dict[str, Any] = {
        "seed": seed,
        "steps": steps,
        "device": device,
        "weights": MetricWeights(lpips_weights, fid_weights, fvd_weights),
        "baselines": baselines,
        "rerun": rerun,
        "force": force,
    }
    if all_modes and mode:
        raise UsageError(f"--mode {mode} and --all-modes contradict each other", hint="give one")
    if all_modes:
        report = sample_all(policy, dataset, episode, out, **options)
        return Outcome(report, show=("page", "samples"))
    one = sample_model(policy, dataset, episode, mode or "joint", out, **options)
    names = ("mode", "episode", "episodes", "windows", "film", "plot", "video", "still")
    return Outcome(one, show=(*names, "action_mae", "action_mse", "inverse_dynamics"))
