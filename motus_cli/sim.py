"""`motus sim`: the simulators there are, and the environments of those that need their own."""

from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option, Typer

from motus_cli.command import command
from motus_cli.console import Console, Outcome
from motus_cli.options import DryRun, Force, ImageSize
from motus_embodiments import MismatchError

group = Typer(help="List, check and install simulators, and write their scenes.")
Family = Annotated[str, Argument(help="Family of simulators, as in `motus sim list`")]


def list_simulators(
    console: Console,
    tasks: Annotated[
        bool, Option("--tasks", help="Every task, with what the robot is told")
    ] = False,
) -> Outcome:
    """List the simulators, where they run, and whether they are installed.

    Example: motus sim list
    """
    from motus_adapters import environment_state, families, simulator_names

    if tasks:
        rows = [_task_row(name) for name in simulator_names()]
        return Outcome({"tasks": rows}, next="motus sim check FAMILY:TASK")
    rows = []
    for name, family in families().items():
        if family.host is None:
            state = "installed" if family.is_importable else "missing"
        else:
            state = environment_state(name, family)
        rows.append(
            {
                "name": name,
                "title": family.title,
                "runs": "here" if family.host is None else "in its own environment",
                "state": state,
                "tasks": len(family.names),
            }
        )
    return Outcome({"simulators": rows}, next="motus sim list --tasks")


def _task_row(name: str) -> dict[str, Any]:
    from motus_adapters import find_entry

    entry = find_entry(name)
    told = entry.instruction or "its own words"
    return {"name": name, "expert": entry.has_expert, "instruction": told}


def check(
    console: Console,
    env: Annotated[str, Argument(help="Simulator and task, as in gym-hil:PandaPickCube")],
    image_size: ImageSize = 64,
) -> Outcome:
    """Check a simulator: cameras, state, seeds, signals; exit 1 if a promise is broken.

    Example: motus sim check metaworld:drawer-open-v3
    """
    from motus_adapters import check_simulator, open_simulator

    simulator = open_simulator(env, image_size)
    try:
        checks = check_simulator(simulator)
    finally:
        simulator.close()
    failed = [row.check for row in checks if not row.ok]
    problem = None
    if failed:
        problem = MismatchError(f"{env} fails: {', '.join(failed)}", where=env)
    report: dict[str, Any] = {
        "name": env,
        "embodiment": simulator.card,
        "rate": simulator.rate,
        "max_steps": simulator.max_steps,
        "expert": simulator.has_expert,
        "versions": simulator.versions,
        "signals": dict(simulator.signals),
        "checks": checks,
    }
    return Outcome(report, problem=problem)


def install(
    console: Console, family: Family, force: Force = False, dry_run: DryRun = False
) -> Outcome:
    """Build the environment of a simulator whose pins conflict with ours.

    It is made once, in $MOTUS_SIMS or ~/.cache/motus/sims, with uv and a package registry. An
    installation that is stopped half-way leaves nothing behind.

    Example: motus sim install robosuite
    """
    from motus_adapters import families
    from motus_adapters import install as install_family

    report = install_family(family, force=force, dry_run=dry_run, say=console.note)
    task = families()[family].names[0]
    shown = ("name", "folder", "requirements", "written")
    return Outcome(report, show=shown, next=f"motus sim check {family}:{task}")


def scene(
    console: Console,
    env: Annotated[str, Argument(help="Simulator and task, as in robosuite:Lift-Panda")],
    out: Annotated[Path, Option("--out", help="MJCF file to write")],
    force: Force = False,
) -> Outcome:
    """Write a task's scene as MJCF, to be the model of a card of your own.

    Anchoring data of that card then show the robot where the task is.

    Example: motus sim scene robosuite:Lift-Panda --out embodiments/scene.xml
    """
    from motus_adapters import check_free, scene_of

    check_free(out, force=force)
    text = scene_of(env)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    return Outcome({"name": env, "out": out, "bytes": len(text)}, next="motus anchor CARD")


group.command("check")(command(check))
group.command("install")(command(install))
group.command("list")(command(list_simulators))
group.command("scene")(command(scene))
