"""`motus inspect`: what is in a recording, a folder of recordings, or a dataset."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Embodiment, Force, Format, Mapping, Workers
from motus_embodiments import MismatchError, UsageError

Health = Annotated[
    bool, Option("--health", help="Read the dataset whole and judge it; exit 1 if a check fails")
]
MapOut = Annotated[
    Path | None, Option("--map-out", help="YAML to write the proposed mapping to, with remarks")
]
Page = Annotated[Path | None, Option("--out", help="PNG to draw the health on, one page")]


def inspect(
    console: Console,
    path: Annotated[Path, Argument(help="Recording, folder of recordings, or unified dataset")],
    source_format: Format = "auto",
    embodiment: Embodiment = None,
    mapping: Mapping = None,
    map_out: MapOut = None,
    force: Force = False,
    health: Health = False,
    page: Page = None,
    workers: Workers = 0,
) -> Outcome:
    """Say what is in recordings or in a dataset.

    Example: motus inspect recordings/
    """
    from motus_adapters import inspect_dataset, inspect_source

    if page is not None and not health:
        raise UsageError("--out draws the health; --health is missing")
    if health:
        return _health(console, path, page, workers)
    if (path / "meta" / "motus.json").exists():
        if mapping or map_out:
            raise UsageError(f"{path} is a dataset already: a mapping is for recordings")
        return Outcome(inspect_dataset(path), next="motus train --recipe full")
    report = inspect_source(
        path, source_format, mapping=mapping, card=embodiment, map_out=map_out, force=force
    )
    # Of the mapping, the columns' part is a table of its own; --json has it whole.
    shown = tuple(field for field in vars(report) if field != "mapping")
    return Outcome(report, show=shown)


def _health(console: Console, path: Path, page: Path | None, workers: int) -> Outcome:
    from motus_adapters import check_health, draw_health

    if page is not None and page.suffix != ".png":
        raise UsageError(f"{page} does not end in .png", hint="the page is a PNG")
    with console.progress("inspect") as on_progress:
        report = check_health(path, workers=workers, on_progress=on_progress)
    if page is not None:
        console.note(f"drawn: {draw_health(report, page)}")
    problem = None
    if report.failed:
        failed = ", ".join(report.failed)
        problem = MismatchError(f"{path} fails {len(report.failed)} of its checks: {failed}")
    shown = ("path", "embodiment", "episodes", "frames", "rate", "checks", "views", "channels")
    return Outcome(report, show=shown, next="motus train --recipe full", problem=problem)
