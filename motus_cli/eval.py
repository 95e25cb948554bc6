"""`motus eval`: how often a policy succeeds in a simulator."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from motus_cli.console import Console, Outcome
from motus_cli.options import Device, Force, Seed, Workers
from motus_embodiments import MismatchError, UsageError

LEAST = 16  # pixels


def evaluate(
    console: Console,
    policy: Annotated[
        str,
        Argument(help="Exported policy, `lerobot:FOLDER`, `expert`, `random` or `replay:DATASET`"),
    ],
    env: Annotated[str, Option("--env", help="Simulator and task, as in gym-hil:PandaPickCube")],
    episodes: Annotated[int, Option("--episodes", min=1, help="Episodes to run")] = 50,
    instruction: Annotated[
        str | None, Option("--instruction", help="Words in place of the simulator's own")
    ] = None,
    sheet: Annotated[
        Path | None,
        Option("--sheet", help="YAML with the sub-goals; the shipped one if left out"),
    ] = None,
    image_size: Annotated[
        str | None,
        Option(
            "--image-size", metavar="SIZE", help="Width and height of the pictures: 128, or 640x480"
        ),
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
            sheet=sheet,
            image_size=None if image_size is None else _picture_size(image_size),
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


def _picture_size(text: str) -> int | tuple[int, int]:
    """A square's side, or (height, width), in pixels."""
    numbers = text.split("x")
    if not all(n.isdecimal() and int(n) >= LEAST for n in numbers) or len(numbers) > 2:
        raise UsageError(
            f"'{text}' is no size of a picture",
            hint=f"as 128 or 640x480, width first, no side under {LEAST}",
        )
    return int(text) if len(numbers) == 1 else (int(numbers[1]), int(numbers[0]))
