"""`motus convert`: recordings of any known format in, one unified dataset out."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import DryRun, Embodiment, Force, Format, Resume, Workers
from motus_embodiments import UsageError

Mapping = Annotated[
    Path | None, Option("--map", help="YAML that says which key holds what, for unusual files")
]
Codec = Annotated[
    str, Option("--codec", help="Codec for latent actions: shipped, a folder, or none")
]
CanvasWidth = Annotated[
    int, Option("--canvas-width", min=16, help="Widest canvas to store, in pixels")
]
Level = Annotated[int, Option("--level", min=1, max=6, help="Level of the data pyramid")]
Task = Annotated[str | None, Option("--task", help="Instruction, where none was recorded")]
Rate = Annotated[float | None, Option("--rate", help="Frames a second, where not recorded")]
Allow = Annotated[
    list[str] | None,
    Option("--allow", help="Let through: limits, pairs or motion; may be repeated"),
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
    canvas_width: CanvasWidth = 320,
    level: Level = 6,
    task: Task = None,
    rate: Rate = None,
    allow: Allow = None,
    skip_bad: SkipBad = False,
    workers: Workers = 0,
    resume: Resume = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Turn recordings into one unified dataset.

    Actions and states become canonical; motion, canvas and latent actions are added.

    Example: motus convert recordings/ data/pick --embodiment franka
    """
    from motus_adapters import convert as convert_recordings

    with console.progress("convert") as on_progress:
        report = convert_recordings(
            source,
            out,
            card=embodiment or only_own_embodiment(),
            format=source_format,
            mapping=mapping,
            canvas_width=canvas_width,
            codec=None if codec == "none" else codec,
            level=level,
            task=task,
            rate=rate,
            workers=workers,
            resume=resume,
            force=force,
            dry_run=dry_run,
            skip_bad=skip_bad,
            allow=tuple(allow or ()),
            on_progress=on_progress,
        )
    return Outcome(report, next=None if dry_run else "motus train --recipe full")


def only_own_embodiment() -> str:
    """The user's robot, where there is just one card in ./embodiments.

    Raises:
        UsageError: There are none or several.
    """
    own = sorted(path.stem for path in Path("embodiments").glob("*.yaml"))
    if len(own) == 1:
        return own[0]
    hint = f"one of {', '.join(own)}" if own else "describe it first: motus add-embodiment NAME"
    raise UsageError("which robot was recorded? --embodiment is missing", hint=hint)
