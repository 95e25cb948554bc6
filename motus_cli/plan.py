"""`motus plan`: what a recipe costs, and the script that starts it on a cluster."""

from pathlib import Path
from shlex import join
from typing import Annotated

from typer import Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Data, Force, Recipe, Set, Size
from motus_cli.train import parse_data


def plan(
    console: Console,
    recipe: Recipe = "full",
    size: Size = "tiny",
    devices: Annotated[
        str | None,
        Option(
            "--devices",
            help="Number and kind, as 64xH100; if left out, as many of 8xH100 as divide each batch",
        ),
    ] = None,
    utilisation: Annotated[
        float, Option("--utilisation", min=0.01, max=1, help="Share of the peak FLOPS reached")
    ] = 0.4,
    launch: Annotated[
        str | None,
        Option("--launch", help="Write a script for torchrun, accelerate, slurm or skypilot"),
    ] = None,
    per_node: Annotated[int, Option("--per-node", min=1, help="Devices of a full node")] = 8,
    data: Data = None,
    run: Annotated[
        Path | None, Option("--run", help="Folder of the run; runs/RECIPE if left out")
    ] = None,
    out: Annotated[
        Path | None,
        Option("--out", "-o", help="File of the script; motus-LAUNCH.sh or .yaml if left out"),
    ] = None,
    changes: Set = None,
    force: Force = False,
) -> Outcome:
    """Say what a recipe costs before anything starts: memory, FLOPs, hours.

    Example: motus plan --recipe full --size motus-8b --devices 64xH100
    """
    from motus_recipes import choose_devices, load_recipe, write_launch_script
    from motus_recipes import plan as plan_recipe

    loaded = load_recipe(recipe, size=size, overrides=changes or [])
    chosen = choose_devices(loaded, devices)
    train = ["--recipe", recipe, "--size", size]
    for name, path in parse_data(data or []).items():
        train += ["--data", f"{name}={path}"]
    for change in changes or []:
        train += ["--set", change]
    if launch is None:
        report = plan_recipe(loaded, chosen, utilisation)
        return Outcome(report, next=join(["motus", "train", *train]))
    train += ["--run", str(run or Path("runs") / Path(recipe).stem)]
    return Outcome(
        write_launch_script(launch, train, chosen, out=out, per_node=per_node, force=force)
    )
