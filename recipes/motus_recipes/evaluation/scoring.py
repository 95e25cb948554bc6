"""Scores of a real robot: a sheet says what to reach, a person says what was reached."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from motus_adapters import read_bundle, weights_hash
from motus_embodiments import MismatchError, UsageError, load_card, nearest
from motus_recipes.evaluation.closed_loop import (
    EvalReport,
    read_evaluation_file,
    summarize,
    write_evaluation,
)
from motus_recipes.evaluation.driving import Episode
from motus_recipes.evaluation.protocol_card import ProtocolCard, protocol_differences
from motus_recipes.provenance import code_version

Words = Annotated[str, Field(min_length=1)]


class Sheet(BaseModel):
    """What a trial is, and what counts.

    Attributes:
        task: Its name.
        embodiment: The robot's card.
        instruction: What the policy is told.
        split: Whether it was trained on these words.
        subgoals: What has to be reached, in this order; all of them are success.
        trials: How many. Trial i starts from the same place for every policy, so that two
            policies are compared in pairs.
        rate: Control rate, Hz.
        limit: Seconds after which a trial has failed.
        setup: Whatever else has to be alike: table, light, cameras.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Words
    embodiment: str
    instruction: Words
    split: Literal["seen", "unseen"]
    subgoals: tuple[Words, ...] = Field(min_length=1)
    trials: int = Field(ge=1)
    rate: float = Field(gt=0)
    limit: float = Field(gt=0)
    setup: str = ""


@dataclass(frozen=True)
class Form:
    """The questions to the person at the robot.

    Attributes:
        reached: Trial and sub-goal to whether it was reached.
        seconds: Trial to the time until the last one, in s.
    """

    reached: Callable[[int, str], bool]
    seconds: Callable[[int], float]


def read_sheet(path: Path) -> Sheet:
    """Read a sheet.

    Raises:
        UsageError: It cannot be read, or a key is unknown, missing or wrong.
    """
    try:
        sheet = Sheet.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read the sheet {path}: {error}", where=str(path)) from error
    except ValidationError as error:
        # A misspelt key is missing as well: its wrong name says more.
        found = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")[0]
        key = ".".join(map(str, found["loc"]))
        unknown = found["type"] == "extra_forbidden"
        raise UsageError(
            f"{path}: {key or 'the sheet'}: {found['msg']}",
            hint=nearest(key, Sheet.model_fields) if unknown else None,
            where=str(path),
        ) from error
    load_card(sheet.embodiment)
    return sheet


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
    wanted = read_sheet(sheet)
    protocol, weights = _protocol(wanted, policy)
    done: list[Episode] = []
    if out.exists() and resume:
        begun = read_evaluation_file(out)
        binding, free = protocol_differences(begun.protocol, protocol)
        changed = binding + [row for row in free if row[0] != "code"]
        if changed or begun.policy != policy:
            key = changed[0][0] if changed else "policy"
            raise MismatchError(f"{out} was begun with another {key}", where=str(out))
        done = list(begun.results)
    elif out.exists() and not force:
        hint = "--resume goes on with it, --force starts anew"
        raise UsageError(f"{out} exists", hint=hint, where=str(out))
    for trial in range(len(done) + 1, wanted.trials + 1):
        done.append(_trial(wanted, trial, form))
        write_evaluation(out, _report(policy, done, protocol, weights))
    return _report(policy, done, protocol, weights)


def _report(
    policy: str, done: list[Episode], protocol: ProtocolCard, weights: str | None
) -> EvalReport:
    return summarize(policy, [(episode, [], {}) for episode in done], protocol, None, weights)


def _trial(sheet: Sheet, trial: int, form: Form) -> Episode:
    reached = tuple(goal for goal in sheet.subgoals if form.reached(trial, goal))
    success = reached == sheet.subgoals
    seconds = form.seconds(trial) if success else sheet.limit
    if seconds > sheet.limit:
        success, seconds = False, sheet.limit
    return Episode(trial, success, round(seconds * sheet.rate), reached)


def _protocol(sheet: Sheet, policy: str) -> tuple[ProtocolCard, str | None]:
    is_bundle = (Path(policy) / "contract.json").is_file()
    card = ProtocolCard(
        env=f"robot:{sheet.task}",
        versions={},
        tasks=(sheet.task,),
        embodiment=load_card(sheet.embodiment).name,
        instructions=(sheet.instruction,),
        split=sheet.split,
        subgoals=sheet.subgoals,
        horizon=round(sheet.limit * sheet.rate),
        rate=sheet.rate,
        rendering={"setup": sheet.setup},
        seeds=(1, sheet.trials),
        episodes=sheet.trials,
        contract=read_bundle(policy).digest if is_bundle else None,
        code=code_version(),
    )
    return card, weights_hash(Path(policy)) if is_bundle else None
