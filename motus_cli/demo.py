"""`motus demo`: the whole chain on one small robot task, from recordings to a policy that works."""

from pathlib import Path
from typing import Annotated

from typer import Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Force, Resume


def demo(
    console: Console,
    out: Annotated[Path, Option("--out", help="Folder for everything the demo makes")] = Path(
        "demo"
    ),
    quick: Annotated[
        bool, Option("--quick", help="A few steps of everything: does it run, not does it work")
    ] = False,
    resume: Resume = False,
    force: Force = False,
) -> Outcome:
    """Show the whole chain on a small simulated task.

    Records, converts, trains, exports and evaluates; 13 to 33 minutes on two cores.

    Example: motus demo --json
    """
    from motus_recipes import demo as run_demo

    with console.progress("demo") as on_progress:
        report = run_demo(out, quick, resume=resume, force=force, on_progress=on_progress)
    return Outcome(report)
