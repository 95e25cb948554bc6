"""`motus inspect`: what is in recordings or in a dataset, and what a codec's numbers carry."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Embodiment, Force, Format, Mapping, Workers
from motus_cli.train import train_on
from motus_embodiments import MismatchError, UsageError

Health = Annotated[
    bool, Option("--health", help="Read the dataset whole and judge it; exit 1 if a check fails")
]
MapOut = Annotated[
    Path | None, Option("--map-out", help="YAML to write the proposed mapping to, with remarks")
]
Page = Annotated[
    Path | None,
    Option("--out", help="Page to draw the health on: PNG of a dataset, HTML of a codec"),
]
Data = Annotated[
    list[Path] | None, Argument(help="Datasets that the health of a codec is measured on")
]


def inspect(
    console: Console,
    path: Annotated[
        Path, Argument(help="Recording, folder of recordings, unified dataset, or codec")
    ],
    data: Data = None,
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

    With --health, judge a dataset; or measure what the latent actions of a codec carry, as in
    `motus inspect shipped --health data/ONE data/OTHER`.

    Example: motus inspect recordings/
    """
    from motus_adapters import inspect_dataset, inspect_source

    if not health and page is not None:
        raise UsageError("--out draws the health; --health is missing")
    if data and not health:
        raise UsageError("data are what a codec's health is measured on; --health is missing")
    if data or _is_codec(path):
        if not health:
            raise UsageError(
                f"{path} is a codec", hint=f"measure it: motus inspect {path} --health data/NAME"
            )
        return _codec_health(console, path, data or [], page)
    if health:
        return _health(console, path, page, workers)
    if (path / "meta" / "motus.json").exists():
        if mapping or map_out:
            raise UsageError(f"{path} is a dataset already: a mapping is for recordings")
        report = inspect_dataset(path)
        return Outcome(report, next=train_on(path, report.level))
    found = inspect_source(
        path, source_format, mapping=mapping, card=embodiment, map_out=map_out, force=force
    )
    # Of the mapping, the columns' part is a table of its own; --json has it whole.
    shown = tuple(field for field in vars(found) if field != "mapping")
    return Outcome(found, show=shown)


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


def _is_codec(path: Path) -> bool:
    if str(path) == "shipped" and not path.exists():
        return True
    return any((place / "codec.safetensors").is_file() for place in (path, path / "codec"))


def _codec_health(console: Console, path: Path, data: list[Path], page: Path | None) -> Outcome:
    from motus_recipes import draw_codec_health, inspect_codec

    if page is not None and page.suffix != ".html":
        raise UsageError(f"{page} does not end in .html", hint="the page of a codec is HTML")
    with console.progress("inspect") as on_progress:
        report = inspect_codec(path, data, on_progress)
    if page is not None:
        console.note(f"drawn: {draw_codec_health(report, page)}")
    codec = path if str(path) == "shipped" else report.codec  # of a run, the folder inside it
    return Outcome(report, next=f"motus label {quote(str(data[0]))} --codec {quote(str(codec))}")
