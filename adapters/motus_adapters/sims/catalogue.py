"""Which simulators and tasks there are: simulators.yaml, read and looked up by name."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

from motus_embodiments import UsageError, nearest

FILE = Path(__file__).with_name("simulators.yaml")


class Family(BaseModel):
    """Tasks of one package.

    Attributes:
        title: One line for people.
        module: Module of this package that runs it in this process.
        package: What that module needs to be importable.
        host: Script beside hosts/serve.py that runs it in an environment of its own.
        check: Python that shows that such an environment is whole.
        requirements: What that environment is built from, pinned.
        robots: Robot -> embodiment card; then a task's name is `TASK-ROBOT`.
        pairs: The same of robots with two arms, and of two robots, for `pair_tasks`.
        card: Embodiment card of the robot, where a host knows one only.
        experts: What has a scripted expert: a task, or one with one robot, as `TASK-ROBOT`.
        unskilled: The robots that no expert can drive.
        tasks: Task -> what the robot is told.
        pair_tasks: The same for tasks that want two arms.
        suites: Suite -> number of its tasks, named `SUITE/NUMBER`; they say themselves what to do.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    module: str | None = None
    package: str | None = None
    host: str | None = None
    check: str = ""
    requirements: tuple[str, ...] = ()
    robots: dict[str, str] = {}
    pairs: dict[str, str] = {}
    card: str = ""
    experts: tuple[str, ...] | Literal["all"] = ()
    unskilled: tuple[str, ...] = ()
    tasks: dict[str, str] = {}
    pair_tasks: dict[str, str] = {}
    suites: dict[str, int] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.module is None) == (self.host is None):
            raise ValueError("give either module, for this process, or host")
        return self

    @property
    def names(self) -> list[str]:
        """Task names as given after the colon."""
        if self.suites:
            return [f"{suite}/{n}" for suite, count in self.suites.items() for n in range(count)]
        if not self.robots:
            return list(self.tasks)
        kinds = ((self.tasks, self.robots), (self.pair_tasks, self.pairs))
        return [f"{task}-{robot}" for tasks, robots in kinds for task in tasks for robot in robots]

    @property
    def is_importable(self) -> bool:
        """Whether the package of a family of this process is installed."""
        return self.package is not None and find_spec(self.package) is not None


@dataclass(frozen=True)
class Entry:
    """One task as asked for on the command line.

    Attributes:
        name: The whole name.
        key: Its family.
        family: What the catalogue says of it.
        task: The task without the robot.
        robot: The robot, "" where the family has one only.
    """

    name: str
    key: str
    family: Family
    task: str
    robot: str

    @property
    def instruction(self) -> str:
        """What the robot is told; "" where only the simulator knows."""
        return (self.family.tasks | self.family.pair_tasks).get(self.task, "")

    @property
    def card(self) -> str:
        """The embodiment card of its robot, "" where only the simulator's module knows."""
        return (self.family.robots | self.family.pairs).get(self.robot, self.family.card)

    @property
    def has_expert(self) -> bool:
        """Whether a scripted expert knows how to do it."""
        names = {self.task, f"{self.task}-{self.robot}"}
        known = self.family.experts == "all" or not names.isdisjoint(self.family.experts)
        return known and self.robot not in self.family.unskilled


@cache
def families(file: Path = FILE) -> dict[str, Family]:
    """Family name -> family."""
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {key: Family.model_validate(value) for key, value in told.items()}


def simulator_names() -> Iterator[str]:
    """Every task of every family, installed or not."""
    for key, family in families().items():
        yield from (f"{key}:{name}" for name in family.names)


def find_family(key: str) -> Family:
    """A family by name.

    Raises:
        UsageError: There is none.
    """
    if key not in families():
        raise UsageError(f"no family of simulators named '{key}'", hint=nearest(key, families()))
    return families()[key]


def find_entry(name: str) -> Entry:
    """A task by its whole name.

    Raises:
        UsageError: There is none.
    """
    key, _, rest = name.partition(":")
    family = families().get(key)
    if family is None or rest not in family.names:
        known = simulator_names() if family is None else (f"{key}:{n}" for n in family.names)
        raise UsageError(f"no simulator named '{name}'", hint=nearest(name, known))
    task, robot = (rest.rsplit("-", 1)) if family.robots else (rest, "")
    return Entry(name, key, family, task, robot)
