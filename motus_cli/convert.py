"""`motus convert`: recordings of any known format to one unified dataset, and out of it again."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import (
    SLOWEST,
    Device,
    DryRun,
    Embodiment,
    Engine,
    Flow,
    Force,
    Format,
    Mapping,
    Resume,
    Workers,
)
from motus_cli.train import train_on
from motus_embodiments import UsageError

Codec = Annotated[
    str, Option("--codec", help="Codec for latent actions: shipped, its folder, a run, or none")
]
CanvasWidth = Annotated[
    int, Option("--canvas-width", min=16, help="Widest canvas to store, in pixels")
]
Level = Annotated[int, Option("--level", min=1, max=6, help="Level of the data pyramid")]
Task = Annotated[str | None, Option("--task", help="Instruction; what was recorded if left out")]
Rate = Annotated[
    float | None,
    Option("--rate", min=SLOWEST, help="Frames a second; as recorded if left out, else the card's"),
]
Allow = Annotated[
    list[str] | None,
    Option("--allow", help="Let through: limits, pairs or motion; may be repeated"),
]
To = Annotated[
    Literal["lerobot-v2.1", "robomimic", "replay-buffer"] | None,
    Option(
        "--to", help="Write a dataset in another tool's layout, with the robot's native numbers"
    ),
]
SkipBad = Annotated[bool, Option("--skip-bad", help="Leave bad recordings out and list them")]


def convert(
    console: Console,
    source: Annotated[Path, Argument(help="Recording, or folder of recordings")],
    out: Annotated[Path, Argument(help="Folder of the new dataset")],
    embodiment: Embodiment = None,
    source_format: Format = "auto",
    mapping: Mapping = None,
    codec: Codec = "shipped",
    flow: Flow = None,
    canvas_width: CanvasWidth = 320,
    level: Level = 6,
    task: Task = None,
    rate: Rate = None,
    allow: Allow = None,
    skip_bad: SkipBad = False,
    to: To = None,
    device: Device = "auto",
    workers: Workers = 0,
    engine: Engine = "local",
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Turn recordings into one unified dataset.

    Actions and states become canonical; motion, canvas and latent actions are added.

    With --to it goes the other way, from such a dataset to another tool's layout.

    Example: motus convert recordings/ data/pick --embodiment franka
    """
    if to is not None:
        meant_for_recordings = {
            "--embodiment": embodiment,
            "--format": source_format != "auto",
            "--map": mapping,
            "--codec": codec != "shipped",
            "--flow": flow,
            "--canvas-width": canvas_width != 320,
            "--level": level != 6,
            "--task": task,
            "--rate": rate,
            "--allow": allow,
            "--skip-bad": skip_bad,
            "--resume": resume,
        }
        return _convert_out(console, source, out, to, force, dry_run, meant_for_recordings)
    from motus_adapters import convert as convert_recordings

    with console.progress("convert") as on_progress:
        report = convert_recordings(
            source,
            out,
            card=embodiment or only_own_embodiment(source),
            format=source_format,
            mapping=mapping,
            canvas_width=canvas_width,
            codec=None if codec == "none" else codec,
            flow=flow,
            device=device,
            level=level,
            task=task,
            rate=rate,
            workers=workers,
            engine=engine,
            resume=resume,
            force=force,
            dry_run=dry_run,
            skip_bad=skip_bad,
            allow=tuple(allow or ()),
            on_progress=on_progress,
        )
    return Outcome(report, next=None if dry_run else train_on(out, level))


def _convert_out(
    console: Console,
    dataset: Path,
    out: Path,
    layout: str,
    force: bool,
    dry_run: bool,
    meant_for_recordings: dict[str, Any],
) -> Outcome:
    given = next((name for name, value in meant_for_recordings.items() if value), None)
    if given is not None:
        raise UsageError(
            f"{given} is about recordings; with --to the source is a finished dataset",
            hint=f"leave {given} out",
        )
    from motus_adapters import convert_out

    with console.progress("convert") as on_progress:
        report = convert_out(
            dataset, out, layout, force=force, dry_run=dry_run, on_progress=on_progress
        )
    return Outcome(report, next=None if dry_run else f"motus inspect {quote(str(out))}")


def only_own_embodiment(source: Path) -> str:
    """The user's robot, where there is just one card in ./embodiments.

    Raises:
        UsageError: There are none or several.
    """
    own = sorted(path.stem for path in Path("embodiments").glob("*.yaml"))
    if len(own) == 1:
        return own[0]
    hint = (
        f"one of {', '.join(own)}"
        if own
        else f"`motus inspect {quote(str(source))}` says which known ones fit; "
        "motus add-embodiment NAME describes another"
    )
    raise UsageError("which robot was recorded? --embodiment is missing", hint=hint)
