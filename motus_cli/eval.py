"""`motus eval`: how often a policy succeeds in a simulator."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Device, Seed, Workers


def evaluate(
    console: Console,
    policy: Annotated[str, Argument(help="Exported policy, or `expert`, or `random`")],
    env: Annotated[str, Option("--env", help="Simulator and task, as in gym-hil:PandaPickCube")],
    episodes: Annotated[int, Option("--episodes", min=1, help="Episodes to run")] = 50,
    film: Annotated[Path | None, Option("--film", help="File for a film of one episode")] = None,
    workers: Workers = 0,
    seed: Seed = 0,
    device: Device = "auto",
) -> Outcome:
    """Measure the success of a policy in simulation.

    Runs it in closed loop and gives the success rate with its 95 % interval.

    Example: motus eval policies/franka --env gym-hil:PandaPickCube --episodes 50
    """
    from motus_recipes import evaluate as evaluate_policy

    with console.progress("eval") as on_progress:
        report = evaluate_policy(
            policy if policy in ("expert", "random") else Path(policy),
            env,
            episodes,
            seed,
            device=device,
            workers=workers,
            film=film,
            on_progress=on_progress,
        )
    shown = ("policy", "env", "rate", "low", "high", "successes", "episodes", "mean_steps", "film")
    return Outcome(report, show=shown)
