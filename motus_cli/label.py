"""`motus label`: write latent actions into a dataset, with any codec."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import DryRun, Engine, Force, Resume, Workers


def label(
    console: Console,
    dataset: Annotated[Path, Argument(help="Unified dataset to label")],
    codec: Annotated[str, Option("--codec", help="shipped, or the folder of a codec")] = "shipped",
    workers: Workers = 0,
    engine: Engine = "local",
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Write latent actions into a dataset, with any codec.

    Example: motus label data/pick --codec runs/full/codec --force
    """
    from motus_adapters import label_dataset

    with console.progress("label") as on_progress:
        report = label_dataset(
            dataset,
            codec=codec,
            workers=workers,
            engine=engine,
            resume=resume,
            force=force,
            dry_run=dry_run,
            on_progress=on_progress,
        )
    return Outcome(report, next=f"motus inspect {dataset}")
