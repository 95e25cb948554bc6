"""`motus score`: a form for the person at a real robot."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Force, Resume
from motus_embodiments import UsageError


def score(
    console: Console,
    sheet: Annotated[Path, Argument(help="YAML: task, sub-goals, trials")],
    policy: Annotated[str, Option("--policy", help="Exported policy, or any name of what drives")],
    out: Annotated[Path, Option("--out", help="File for the result; see motus compare")],
    resume: Resume = False,
    force: Force = False,
) -> Outcome:
    """Count what a policy reaches on a real robot, trial by trial.

    Asks in the terminal which sub-goals were reached. Each trial is kept at once.

    Example: motus score sheets/pick.yaml --policy policies/ur5e --out results/pick.json
    """
    from motus_recipes import Form
    from motus_recipes import score as fill

    def reached(question: str) -> bool:
        yes = ("y", "yes")
        told = _ask(f"{question} [y/n] ", lambda text: _one_of(text.lower(), yes, ("n", "no")))
        return told in yes

    def seconds(question: str) -> float:
        return _ask(f"{question} ", _positive)

    report = fill(sheet, policy, out, Form(reached, seconds), resume=resume, force=force)
    names = ("policy", "env", "rate", "low", "high", "successes", "episodes")
    return Outcome(report, show=(*names, "partial", "time_to_success"))


def _ask[T](question: str, read: Callable[[str], T]) -> T:
    """Ask until the answer can be read; on stderr, since stdout carries the result."""
    while True:
        sys.stderr.write(question)
        sys.stderr.flush()
        told = sys.stdin.readline()
        if not told:
            raise UsageError("the answers ended early", hint="--resume goes on with the next trial")
        try:
            return read(told.strip())
        except ValueError as error:
            sys.stderr.write(f"{error}\n")


def _one_of(told: str, *groups: tuple[str, ...]) -> str:
    if not any(told in group for group in groups):
        raise ValueError("answer y or n")
    return told


def _positive(told: str) -> float:
    try:
        value = float(told)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError("a number above 0, please")
    return value
