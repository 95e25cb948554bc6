"""`motus import`: other people's checkpoints in, none of their keys lost from sight."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import DryRun, Embodiment, Force, Seed
from motus_embodiments import DataError, MismatchError, UsageError

if TYPE_CHECKING:
    from motus_model.importing import KeyRow


def import_(
    console: Console,
    source: Annotated[
        Path, Argument(help="Official checkpoint, Wan folder, Qwen3-VL folder, or one of ours")
    ],
    out: Annotated[Path, Option("--out", "-o", help="Folder to write")],
    embodiment: Embodiment = None,
    action_steps: Annotated[
        int | None,
        Option(
            "--action-steps", min=1, help="Length of the action chunk; the checkpoint's if left out"
        ),
    ] = None,
    text_tokens: Annotated[
        int, Option("--text-tokens", min=1, help="Text length of an official checkpoint")
    ] = 512,
    layout: Annotated[
        Literal["motus", "official"], Option("--layout", help="Layout to write")
    ] = "motus",
    skip_unexpected: Annotated[
        bool, Option("--skip-unexpected", help="Write although some keys mean nothing here")
    ] = False,
    seed: Seed = 0,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Read a checkpoint of another layout and say what became of each of its keys.

    With an embodiment, the network is made ready for stage 3 on that robot: what reads and
    writes its numbers begins anew.

    Example: motus import pretrained/Motus --out models/motus -e aloha
    """
    from motus_model.importing import Robot, import_checkpoint
    from motus_model.official import WeightsError

    robot = None
    if embodiment is not None:
        from motus_embodiments import load_card

        card = load_card(embodiment)
        robot = Robot(len(card.state_channels), len(card.action_channels))
    try:
        report = import_checkpoint(
            source,
            out,
            robot=robot,
            action_steps=action_steps,
            text_tokens=text_tokens,
            layout=layout,
            skip_unexpected=skip_unexpected,
            seed=seed,
            force=force,
            dry_run=dry_run,
        )
    except WeightsError as error:
        raise DataError(str(error), where=str(source)) from error
    except FileExistsError as error:
        raise UsageError(str(error), hint="or name another folder", where=str(out)) from error
    show = ("source", "kind", "out", "written", "parameters", "table")
    return Outcome(report, show=show, problem=_problem(report.problems))


def _problem(problems: "list[KeyRow]") -> MismatchError | None:
    """What is refused, as one error."""
    if not problems:
        return None
    first = problems[0]
    missing = sum(row.status == "missing" for row in problems)
    return MismatchError(
        f"{missing} keys are missing and {len(problems) - missing} unexpected; "
        f"the first: '{first.key}'" + (f" {first.why}" if first.why else ""),
        hint="the table names them, and nothing was written"
        if missing
        else "--skip-unexpected writes without them",
        where=first.key,
    )
