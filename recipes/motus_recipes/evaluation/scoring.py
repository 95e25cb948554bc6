"""Scores of a real robot: a person answers the sub-goals of a sheet."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from motus_adapters import check_free, read_bundle
from motus_adapters.deployment.bundle import Bundle
from motus_embodiments import MismatchError, UsageError, load_card
from motus_recipes.evaluation.closed_loop import (
    EvalReport,
    read_evaluation_file,
    summarize,
    write_evaluation,
)
from motus_recipes.evaluation.driving import Episode, Solving
from motus_recipes.evaluation.protocol_card import ProtocolCard, protocol_differences
from motus_recipes.evaluation.sheet import Robot, Sheet, read_sheets
from motus_recipes.provenance import code_version


@dataclass(frozen=True)
class Form:
    """The questions to the person at the robot.

    Attributes:
        reached: Whether a sub-goal was reached.
        seconds: The time until the last one, in s.
    """

    reached: Callable[[str], bool]
    seconds: Callable[[str], float]


def read_robot_sheet(path: Path) -> tuple[Sheet, Robot]:
    """The one sheet of a file, and the robot that it is for.

    Raises:
        UsageError: It cannot be read, is not the only one, or is for a simulator.
    """
    sheet, *others = read_sheets(path)
    if others or len(sheet.task) > 1:
        raise UsageError(f"{path} is for several tasks", hint="one is scored at a time")
    if sheet.robot is None:
        raise UsageError(
            f"{path} says nothing of a robot",
            hint=f"robot: with {', '.join(Robot.model_fields)}; `motus eval --sheet` takes it",
            where=str(path),
        )
    return sheet, sheet.robot


def score(
    sheet: Path, policy: str, out: Path, form: Form, *, resume: bool = False, force: bool = False
) -> EvalReport:
    """Fill a sheet, trial by trial; each is on disk before the next one is asked for.

    Args:
        sheet: The YAML.
        policy: What drives: a bundle's folder, or any name.
        out: The result, of the same form as a simulator's.
        form: Asks the person.
        resume: Go on after the trials that `out` holds.
        force: Replace `out`.

    Raises:
        UsageError: The sheet is wrong, or `out` is there already.
        MismatchError: `out` was begun with another sheet or policy.
    """
    wanted, robot = read_robot_sheet(sheet)
    bundle = read_bundle(policy) if (Path(policy) / "contract.json").is_file() else None
    protocol = _protocol(wanted, robot, bundle)
    done: list[Episode] = []
    if out.exists() and resume:
        begun = read_evaluation_file(out)
        binding, free = protocol_differences(begun.protocol, protocol)
        changed = binding + [row for row in free if row[0] != "code"]
        if changed or begun.policy != policy:
            key = changed[0][0] if changed else "policy"
            raise MismatchError(f"{out} was begun with another {key}", where=str(out))
        done = list(begun.results)
    else:
        check_free(out, force=force, resumable=True)
    for trial in range(len(done) + 1, robot.trials + 1):
        done.append(_trial(wanted, robot, trial, form))
        write_evaluation(out, _report(policy, done, protocol, bundle))
    return _report(policy, done, protocol, bundle)


def _report(
    policy: str, done: list[Episode], protocol: ProtocolCard, bundle: Bundle | None
) -> EvalReport:
    return summarize(
        policy,
        [(episode, [], {}) for episode in done],
        protocol,
        weights=bundle.weights_hash if bundle else None,
        solving=Solving.of(bundle.config) if bundle else None,
    )


def _trial(sheet: Sheet, robot: Robot, trial: int, form: Form) -> Episode:
    which = f"trial {trial} of {robot.trials}"
    reached = tuple(goal for goal in sheet.subgoals if form.reached(f"{which}: {goal}?"))
    success = len(reached) == len(sheet.subgoals)
    seconds = form.seconds(f"{which}: seconds until then?") if success else robot.limit
    if seconds > robot.limit:
        success, seconds = False, robot.limit
    return Episode(trial, success, round(seconds * robot.rate), reached)


def _protocol(sheet: Sheet, robot: Robot, bundle: Bundle | None) -> ProtocolCard:
    return ProtocolCard(
        env=f"robot:{sheet.task[0]}",
        versions={},
        tasks=sheet.task,
        embodiment=load_card(robot.embodiment).name,
        instructions=(robot.instruction,),
        split=robot.split,
        subgoals=tuple(sheet.subgoals),
        horizon=round(robot.limit * robot.rate),
        rate=robot.rate,
        rendering={"setup": robot.setup},
        seeds=(1, robot.trials),
        episodes=robot.trials,
        contract=bundle.digest if bundle else None,
        code=code_version(),
        sheet=sheet.digest,
    )
