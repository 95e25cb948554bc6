"""`motus record`: recordings of a simulator's expert, written as a user's recorder would."""

from pathlib import Path
from shlex import quote
from typing import Annotated

from typer import Option

from motus_cli.console import Console, Outcome
from motus_cli.options import DryRun, Force, ImageSize, Seed, Workers
from motus_embodiments import UsageError


def record(
    console: Console,
    env: Annotated[str, Option("--env", help="Simulator and task, as in gym-hil:PandaPickCube")],
    out: Annotated[Path, Option("--out", help="File (hdf5) or folder (lerobot) to write")],
    expert: Annotated[bool, Option("--expert", help="Let the task's own expert drive")] = False,
    episodes: Annotated[int, Option("--episodes", min=1, help="Episodes to record")] = 200,
    layout: Annotated[
        str, Option("--format", help="hdf5, robomimic's layout; or lerobot, written by LeRobot")
    ] = "hdf5",
    instruction: Annotated[
        str | None, Option("--instruction", help="Words in place of the simulator's own")
    ] = None,
    image_size: ImageSize = 128,
    workers: Workers = 0,
    seed: Seed = 0,
    force: Force = False,
    dry_run: DryRun = False,
) -> Outcome:
    """Record the expert of a simulated task.

    Pictures of an hdf5 file are without loss. Only solved episodes are written.

    Example: motus record --env gym-hil:PandaPickCube --expert --out recordings/pick.hdf5
    """
    if not expert:
        raise UsageError("nothing was named to drive the robot", hint="add --expert")
    plan = {"env": env, "out": out, "format": layout, "episodes": episodes, "seed": seed}
    from motus_adapters import check_record
    from motus_adapters import record as record_episodes

    if dry_run:
        check_record(env, out, layout, force=force)
        return Outcome(plan | {"written": False})
    with console.progress("record") as on_progress:
        report = record_episodes(
            env,
            out,
            episodes=episodes,
            seed=seed,
            image_size=image_size,
            workers=workers,
            layout=layout,
            instruction=instruction,
            force=force,
            on_progress=on_progress,
        )
    if (Path("embodiments") / f"{report.card}.yaml").exists():
        return Outcome(report, next=f"motus convert {quote(str(out))} data/{quote(out.stem)}")
    return Outcome(report, next=f"motus add-embodiment {report.card}")
