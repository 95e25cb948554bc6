"""`motus inspect`: what is in a recording, a folder of recordings, or a dataset."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from motus_cli.console import Console, Outcome
from motus_cli.options import Format


def inspect(
    console: Console,
    path: Annotated[Path, Argument(help="Recording, folder of recordings, or unified dataset")],
    source_format: Format = "auto",
) -> Outcome:
    """Say what is in recordings or in a dataset.

    Example: motus inspect recordings/
    """
    from motus_adapters import inspect_dataset, inspect_source

    if (path / "meta" / "motus.json").exists():
        return Outcome(inspect_dataset(path), next="motus train --recipe full")
    return Outcome(inspect_source(path, source_format))
