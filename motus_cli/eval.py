"""`motus eval`: how often a policy succeeds in a simulator."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Device, Force, Seed, Workers
from motus_embodiments import MismatchError


def evaluate(
    console: Console,
    policy: Annotated[
        str, Argument(help="Exported policy, or `expert`, `random` or `replay:DATASET`")
    ],
    env: Annotated[str, Option("--env", help="Simulator and task, as in gym-hil:PandaPickCube")],
    episodes: Annotated[int, Option("--episodes", min=1, help="Episodes to run")] = 50,
    instruction: Annotated[
        str | None, Option("--instruction", help="Words in place of the simulator's own")
    ] = None,
    film: Annotated[Path | None, Option("--film", help="File for a film of one episode")] = None,
    out: Annotated[
        Path | None, Option("--out", help="File for the result; see motus compare")
    ] = None,
    workers: Workers = 0,
    seed: Seed = 0,
    device: Device = "auto",
    force: Force = False,
) -> Outcome:
    """Measure the success of a policy in simulation.

    Runs it in closed loop and gives the success rate with its 95 % interval.

    Example: motus eval policies/franka --env gym-hil:PandaPickCube --episodes 50
    """
    from motus_recipes import evaluate as evaluate_policy

    with console.progress("eval") as on_progress:
        report = evaluate_policy(
            policy,
            env,
            episodes,
            seed,
            instruction=instruction,
            device=device,
            workers=workers,
            film=film,
            out=out,
            force=force,
            on_progress=on_progress,
        )
    names = ("policy", "env", "rate", "low", "high", "successes", "episodes")
    shown = (
        *names,
        "crashed",
        "partial",
        "mean_steps",
        "time_to_success",
        "counts",
        "latency",
        "film",
    )
    crashes = [episode for episode in report.results if episode.crash]
    problem = None
    if crashes:
        first = crashes[0]
        problem = MismatchError(
            f"{len(crashes)} of {report.episodes} episodes crashed and count as failures; "
            f"the first, of seed {first.seed}: {first.crash}",
            hint="--json lists them all",
        )
    return Outcome(report, show=shown, problem=problem)
