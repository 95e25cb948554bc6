"""A sheet: the sub-goals of a task, in YAML. A simulator's signals answer them, or a person."""

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from motus_adapters import Simulator
from motus_embodiments import UsageError, load_card, nearest

SHIPPED = Path(__file__).with_name("sheets")
ANY = "*"
_SIGNS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_TERM = re.compile(r"([\w.,()-]+)(?:\s*(<=|>=|<|>)\s*([-+]?[\d.]+(?:e[-+]?\d+)?))?")

Words = Annotated[str, Field(min_length=1)]


class Robot(BaseModel):
    """What a trial on a real robot is; a simulator knows this itself.

    Attributes:
        embodiment: Its card.
        instruction: What the policy is told.
        split: Whether it was trained on these words.
        trials: How many. Trial i starts from the same place for every policy, so that two
            policies are compared in pairs.
        rate: Control rate, Hz.
        limit: Seconds after which a trial has failed.
        setup: Whatever else has to be alike: table, light, cameras.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    embodiment: str
    instruction: Words
    split: Literal["seen", "unseen"]
    trials: int = Field(ge=1)
    rate: float = Field(gt=0)
    limit: float = Field(gt=0)
    setup: str = ""


def _names(told: object) -> object:
    """A list of sub-goals: each is its own condition."""
    return {goal: goal for goal in told} if isinstance(told, list) else told


def _tuple(told: object) -> object:
    return [told] if isinstance(told, str) else told


class Sheet(BaseModel):
    """What has to be reached on the way.

    Attributes:
        task: Its name; simulated ones as `motus eval --env` has them, where `*` is anything.
        subgoals: Each with its condition. A list has the conditions only; a person is asked them
            as they are.
        robot: The trials, where it is a real one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Annotated[tuple[Words, ...], BeforeValidator(_tuple), Field(min_length=1)]
    subgoals: Annotated[dict[Words, Words], BeforeValidator(_names), Field(min_length=1)]
    robot: Robot | None = None

    @property
    def digest(self) -> str:
        """Of all that it says; remarks don't count."""
        return sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def covers(self, env: str) -> bool:
        """Whether it is for a task."""
        return any(fnmatchcase(env, pattern) for pattern in self.task)


@dataclass(frozen=True)
class Subgoal:
    """A sub-goal that a simulator's signals answer.

    Attributes:
        name: Its name.
        line: Name and condition, as the sheet has them.
        terms: Signal, sign and bound; all have to hold at one time.
    """

    name: str
    line: str
    terms: tuple[tuple[str, str, float], ...]

    def holds(self, measured: Mapping[str, float]) -> bool:
        """Whether it is reached now; what was not measured yet holds no condition."""
        return all(_SIGNS[sign](measured[signal], bound) for signal, sign, bound in self.terms)


def measure(simulator: Simulator) -> dict[str, float]:
    """Everything that a sub-goal may ask for: the signals, and `success`."""
    return {**simulator.signals, "success": float(simulator.success)}


def subgoals_of(sheet: Sheet | None, simulator: Simulator) -> tuple[Subgoal, ...]:
    """The sub-goals of a simulator that was reset; none without a sheet.

    Raises:
        UsageError: A condition cannot be read, or names no signal of this simulator.
    """
    goals: list[Subgoal] = []
    for name, condition in sheet.subgoals.items() if sheet else ():
        told = {name: condition}
        if ANY in condition:  # each signal that fits is a sub-goal of its own
            told = {s: s for s in simulator.signals if fnmatchcase(s, condition)}
        if not told:
            raise _unknown(name, condition, simulator)
        for goal, text in told.items():
            line = goal if goal == text else f"{goal}: {text}"
            goals.append(Subgoal(goal, line, _terms(goal, text, simulator)))
    return tuple(goals)


def _terms(name: str, condition: str, simulator: Simulator) -> tuple[tuple[str, str, float], ...]:
    found = []
    for term in condition.split(" and "):
        read = _TERM.fullmatch(term.strip())
        if read is None:
            raise UsageError(
                f"the sub-goal '{name}' has no condition for {simulator.name}: '{condition}'",
                hint="SIGNAL > NUMBER, with <, <=, > or >=; several with `and`; "
                "a SIGNAL alone is above 0",
            )
        signal, sign, bound = read.groups()
        if signal not in measure(simulator):
            raise _unknown(name, signal, simulator)
        found.append((signal, sign or ">", float(bound or 0)))
    return tuple(found)


def _unknown(name: str, signal: str, simulator: Simulator) -> UsageError:
    known = measure(simulator)
    return UsageError(
        f"the sub-goal '{name}' asks for '{signal}'; signals of {simulator.name}: "
        f"{', '.join(known)}",
        hint=nearest(signal, known),
    )


def read_sheets(path: Path) -> list[Sheet]:
    """The sheets of a file: one, or several with `---` between them.

    Raises:
        UsageError: It cannot be read, or a key is unknown, missing or wrong.
    """
    try:
        told = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read the sheet {path}: {error}", where=str(path)) from error
    sheets = [_check(path, one) for one in told]
    if not sheets:
        raise UsageError(f"{path} holds no sheet", where=str(path))
    return sheets


def _check(path: Path, told: Any) -> Sheet:
    try:
        sheet = Sheet.model_validate(told)
    except ValidationError as error:
        # A misspelt key is missing as well: its wrong name says more.
        found = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")[0]
        key = ".".join(map(str, found["loc"]))
        within = Robot if found["loc"][:1] == ("robot",) else Sheet
        unknown = found["type"] == "extra_forbidden"
        raise UsageError(
            f"{path}: {key or 'the sheet'}: {found['msg']}",
            hint=nearest(str(found["loc"][-1]), within.model_fields) if unknown else None,
            where=str(path),
        ) from error
    if sheet.robot is not None:
        load_card(sheet.robot.embodiment)
    return sheet


def sheet_for(env: str, path: Path | None = None) -> Sheet | None:
    """The sheet of a simulated task: of a file, or the shipped one; None where none ships.

    Raises:
        UsageError: The file cannot be read, or has no sheet for this task.
    """
    shipped = SHIPPED / f"{env.partition(':')[0]}.yaml"
    if path is None and not shipped.is_file():
        return None
    for sheet in read_sheets(path or shipped):
        if sheet.covers(env):
            return sheet
    if path is None:
        return None
    tasks = [task for sheet in read_sheets(path) for task in sheet.task]
    raise UsageError(
        f"{path} has no sheet for {env}, but for {', '.join(tasks)}",
        hint="its `task` names the simulated task, where `*` is anything",
        where=str(path),
    )
