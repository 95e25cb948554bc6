"""`motus label`: write latent actions into a dataset, with any codec."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Device, DryRun, Engine, Flow, Force, Resume, Workers

Rates = Annotated[
    list[float] | None,
    Option(
        "--rate",
        help="Latent actions a second, from composed flow where slower than the frames; "
        "one a frame if left out; may be repeated",
    ),
]


def label(
    console: Console,
    dataset: Annotated[Path, Argument(help="Unified dataset to label")],
    codec: Annotated[
        str, Option("--codec", help="Codec for latent actions: shipped, its folder, or a run")
    ] = "shipped",
    flow: Flow = None,
    rates: Rates = None,
    device: Device = "auto",
    workers: Workers = 0,
    engine: Engine = "local",
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Write latent actions into a dataset, with any codec.

    Example: motus label data/pick --codec runs/full --force
    """
    from motus_adapters import label_dataset

    with console.progress("label") as on_progress:
        report = label_dataset(
            dataset,
            codec=codec,
            flow=flow,
            rates=tuple(rates or ()),
            device=device,
            workers=workers,
            engine=engine,
            resume=resume,
            force=force,
            dry_run=dry_run,
            on_progress=on_progress,
        )
    return Outcome(report, next=f"motus inspect {quote(str(dataset))}")
