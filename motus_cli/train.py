"""`motus train`: run a recipe: codec, then stage 1, 2 and 3."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from typer import Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Data, Device, DryRun, Force, Recipe, Resume, Set, Size
from motus_cli.training_view import training_view
from motus_embodiments import UsageError

TARGET = 6  # level of the data pyramid that a policy is trained on last


def train(
    console: Console,
    recipe: Recipe = "full",
    size: Size = "tiny",
    data: Data = None,
    run: Annotated[
        Path | None, Option("--run", help="Folder of the run; runs/RECIPE if left out")
    ] = None,
    seed: Annotated[
        int | None, Option("--seed", min=0, help="Seed; the recipe's own if left out")
    ] = None,
    device: Device = "auto",
    changes: Set = None,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Train a policy as a recipe says.

    Example: motus train --recipe full --data target=data/pick --run runs/pick
    """
    sources = parse_data(data or [])
    from motus_recipes import load_recipe
    from motus_recipes import train as train_recipe

    own = [] if seed is None else [f"seed={seed}"]
    loaded = load_recipe(recipe, size=size, overrides=[*(changes or []), *own])
    with console.progress("train", training_view) as on_progress:
        report = train_recipe(
            loaded,
            run=run or Path("runs") / Path(recipe).stem,
            data=sources or None,
            resume=resume,
            force=force,
            dry_run=dry_run,
            device=device,
            on_progress=on_progress,
        )
    return Outcome(report)


def train_on(dataset: Path, level: int) -> str:
    """The command that trains on a dataset, which need not be the only one under ./data."""
    is_target = level == TARGET
    named = f" --data {quote(f'target={dataset}')}" if is_target else ""
    return f"motus train --recipe full{named}"


def parse_data(given: list[str]) -> dict[str, Path]:
    """`SOURCE=PATH` pairs as a dict; a pair without a part is a UsageError."""
    sources = {}
    for pair in given:
        source, _, path = pair.partition("=")
        if not source or not path:
            raise UsageError(
                f"--data '{pair}' is not SOURCE=PATH",
                hint="name the recipe's source and a dataset, as in --data target=data/pick",
            )
        sources[source] = Path(path).expanduser()
    return sources
