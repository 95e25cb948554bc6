"""`motus compare`: what one policy reaches more than another, and how sure that is."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from motus_cli.console import Console, Outcome


def compare(
    console: Console,
    a: Annotated[Path, Argument(help="File that `motus eval --out` wrote, or a folder of them")],
    b: Annotated[Path, Argument(help="Another")],
) -> Outcome:
    """Compare two results of `motus eval`.

    Gives the difference of success (b less a) with its 95 % interval, by pairs of episodes where
    the seeds are the same. Results of unlike protocols are refused.

    Example: motus compare results/old.json results/new.json
    """
    from motus_recipes import compare as compare_results

    return Outcome(compare_results(a, b))
