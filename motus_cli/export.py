"""`motus export`: one folder that runs on the robot."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from typer import Option

from motus_cli.console import Console, Outcome
from motus_cli.options import DryRun, Force, Mode, Runs, Steps


def export(
    console: Console,
    target: Annotated[str, Option("--target", help="Embodiment that the policy is for")],
    run: Runs = None,
    out: Annotated[
        Path | None, Option("--out", help="Folder of the policy; policies/TARGET if left out")
    ] = None,
    mode: Mode = "vla",
    steps: Steps = 5,
    execute: Annotated[
        int | None,
        Option(
            "--execute",
            min=1,
            help="Actions of a chunk to carry out before asking again; 2 if left out, or all of a "
            "shorter chunk",
        ),
    ] = None,
    formats: Annotated[
        list[str] | None,
        Option("--format", help="onnx or torch-export too, in OUT-FORMAT; may be repeated"),
    ] = None,
    dataset: Annotated[
        Path | None,
        Option("--dataset", help="Whose windows a format is checked on; the run's own if left out"),
    ] = None,
    anchoring: Annotated[
        Path | None,
        Option("--anchoring", help="Anchoring data of a robot that the run has not seen"),
    ] = None,
    evaluation: Annotated[
        Path | None,
        Option("--evaluation", help="What `motus eval --out` wrote, for the model card"),
    ] = None,
    measure: Annotated[
        bool, Option("--measure", help="Time the policy on this machine, into measured.json")
    ] = False,
    untrained: Annotated[
        bool, Option("--untrained", help="Initial weights: the control of an evaluation")
    ] = False,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Write a run's policy as one folder for the robot.

    Example: motus export --target franka --run runs/full --out policies/franka
    """
    from motus_recipes import export as export_policy

    folder = out or Path("policies") / target
    report = export_policy(
        run,
        target,
        folder,
        mode=mode,
        steps=steps,
        execute=execute,
        formats=formats or [],
        dataset=dataset,
        anchoring=anchoring,
        evaluation=evaluation,
        measure=measure,
        untrained=untrained,
        force=force,
        dry_run=dry_run,
    )
    return Outcome(report, next=f"motus eval {quote(str(folder))} --env SIMULATOR:TASK")
