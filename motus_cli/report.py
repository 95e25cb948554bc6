"""`motus report`: training runs side by side on one page."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Force, Rerun


def report(
    console: Console,
    runs: Annotated[list[Path], Argument(help="Folders of training runs")],
    out: Annotated[Path, Option("--out", help="HTML file to write")] = Path("report.html"),
    rerun: Rerun = None,
    force: Force = False,
) -> Outcome:
    """Show training runs on one page that opens from disk.

    Losses, mixture and latent actions; also the results in a run's `evaluations` folder and what
    `motus sample --all-modes` wrote into its `samples`.

    Example: motus report runs/pick runs/other --out report.html
    """
    from motus_recipes import report as write_report

    return Outcome(write_report(runs, out, rerun=rerun, force=force))
