"""What a recording's columns and cameras mean: said by its layout, or by a user's YAML file."""

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from motus_embodiments import UsageError, nearest

Role = Literal["head", "left_wrist", "right_wrist"]
ActionKind = Literal["joint_position", "joint_delta", "ee_pose", "ee_position", "ee_delta"]
Unit = Literal["rad", "deg", "m", "cm", "mm"]

# Native unit to rad or m.
FACTORS: Mapping[str, float] = {"rad": 1, "deg": math.pi / 180, "m": 1, "cm": 0.01, "mm": 0.001}
ROLES: tuple[str, ...] = get_args(Role)

_CUT = re.compile(r"^(?P<name>.*?)\[(?P<start>\d+)(:(?P<stop>\d+))?\]$")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Part(_Frozen):
    """Some channels of a state or an action, and what their numbers mean.

    With a unit, a scale, or the values of a gripper the numbers are brought to rad, m, or 0
    closed to 1 open here, and the card's own units are not applied to them. Without, they are
    in whatever the card calls native.

    Attributes:
        column: A column, or a cut of one: `name`, `name[3]`, `name[0:7]`.
        unit: Unit of the numbers.
        sign: -1 where they count the other way round.
        scale: Numbers to rad or m, instead of a unit.
        closed: Number of a closed gripper.
        open: Number of an open gripper.
    """

    column: str
    unit: Unit | None = None
    sign: Literal[1, -1] | None = None
    scale: Annotated[float, Field(gt=0)] | None = None
    closed: float | None = None
    open: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.closed is None) != (self.open is None):
            raise ValueError("closed and open belong together")
        if self.closed is not None:
            if self.closed == self.open:
                raise ValueError(f"closed and open are both {self.closed}")
            if self.unit or self.scale or self.sign:
                raise ValueError("a gripper has closed and open, no unit, scale or sign")
        if self.unit and self.scale:
            raise ValueError("give a unit or a scale, not both")
        if self.sign and not (self.unit or self.scale):
            raise ValueError("sign needs the unit as well")
        return self

    @property
    def canonical(self) -> bool:
        """Whether the numbers are canonical after `line`."""
        return self.closed is not None or self.unit is not None or self.scale is not None

    @property
    def line(self) -> tuple[float, float]:
        """(factor, offset) of `(number - offset) * factor`."""
        if self.closed is not None and self.open is not None:
            return 1 / (self.open - self.closed), self.closed
        scale = FACTORS[self.unit] if self.unit else self.scale or 1.0
        return (self.sign or 1) * scale, 0.0

    def span(self) -> tuple[str, int | None, int | None]:
        """(name, start, stop) of a cut; a whole column has no start and stop."""
        cut = _CUT.match(self.column)
        if cut is None:
            return self.column, None, None
        start = int(cut["start"])
        return cut["name"], start, int(cut["stop"]) if cut["stop"] else start + 1


class View(_Frozen):
    """A camera whose pictures have to be put right.

    Attributes:
        camera: Its name in the recording.
        upside_down: Turn the pictures' rows round.
        swap_colours: Exchange red and blue.
    """

    camera: str
    upside_down: bool = False
    swap_colours: bool = False


class ColumnMap(_Frozen):
    """Which columns of a recording are the state, the action and the camera views.

    Where a column's name alone is given its numbers are taken as they are; see `Part`. What is
    None is left to the layout.

    Attributes:
        state: What makes up the state, in the card's order of channels; () for none.
        action: The same for the action; () has the action made from the following state.
        cameras: Role (head, left_wrist, right_wrist) -> camera of the recording.
        action_kind: joint_position, ee_pose, ee_position, joint_delta or ee_delta; the last two
            where the card's actions are changes.
        rate: Frames a second.
        task: What the robot is told.
    """

    state: tuple[str | Part, ...] | None = None
    action: tuple[str | Part, ...] | None = None
    cameras: Mapping[Role, str | View] = {}
    action_kind: ActionKind | None = None
    rate: Annotated[float, Field(gt=0)] | None = None
    task: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_or_many(cls, data: Any) -> Any:
        """A single column need not be a list."""
        if not isinstance(data, Mapping):
            return data
        single = {k: (data[k],) for k in ("state", "action") if isinstance(data.get(k), str | dict)}
        return {**data, **single}

    @property
    def camera_names(self) -> dict[Role, str]:
        """Role -> camera."""
        views = self.cameras.items()
        return {role: v.camera if isinstance(v, View) else v for role, v in views}

    @staticmethod
    def read(given: "ColumnMap | Mapping[str, Any] | Path | str | None") -> "ColumnMap":
        """From a dict or a YAML file.

        Raises:
            UsageError: The file is missing, or a key or value is not known.
        """
        if given is None:
            return ColumnMap()
        if isinstance(given, ColumnMap):
            return given
        where = "the mapping"
        if isinstance(given, Path | str):
            where = f"the mapping {given}"
            try:
                given = yaml.safe_load(Path(given).read_text(encoding="utf-8")) or {}
            except (OSError, ValueError, yaml.YAMLError) as error:
                line = str(error).replace("\n", " ")
                raise UsageError(f"cannot read {where}: {line}", where=where) from error
        if not isinstance(given, Mapping):
            raise UsageError(f"{where} is not a table of keys", where=where)
        try:
            return ColumnMap.model_validate(dict(given))
        except ValidationError as error:
            raise _explain(error, where) from error

    def over(self, defaults: "ColumnMap") -> "ColumnMap":
        """This map, with what it leaves open taken from `defaults`."""
        stated = {k: v for k, v in vars(self).items() if v is not None and v != {}}
        return defaults.model_copy(update=stated)

    def to_dict(self) -> dict[str, Any]:
        """As noted in the dataset: every key, and of its parts what is said."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        return dict.fromkeys(ColumnMap.model_fields) | {"cameras": {}} | values


def parts_of(named: tuple[str | Part, ...] | None) -> list[Part]:
    """State or action of a mapping, each column as a part."""
    return [name if isinstance(name, Part) else Part(column=name) for name in named or ()]


def cameras_among(roles: Mapping[Role, str], cameras: Collection[str]) -> dict[Role, str]:
    """Of the cameras that a layout gives roles to, those that a recording has."""
    return {role: camera for role, camera in roles.items() if camera in cameras}


def _explain(error: ValidationError, where: str) -> UsageError:
    """The first thing that is wrong, as one line that names key and file."""
    problems = error.errors()
    # A part may be a name or a table; what is wrong with the table says more.
    first = next((p for p in problems if p["type"] == "extra_forbidden"), None)
    first = first or next((p for p in problems if "str" not in p["loc"]), problems[0])
    tables: dict[str, type[BaseModel]] = {"Part": Part, "View": View}
    place: list[str] = []
    model: type[BaseModel] = ColumnMap
    for step in map(str, first["loc"]):
        # pydantic names the model on the way, alone or as function-after[..., Part].
        table = tables.get(step.removesuffix("]").rpartition(" ")[2])
        model = table or model
        place += [] if table or step == "[key]" else [step]
    if first["type"] == "extra_forbidden":
        inside = f" in {'.'.join(place[:-1])}" if place[:-1] else ""
        return UsageError(
            f"unknown key '{place[-1]}'{inside} of {where}",
            hint=nearest(place[-1], model.model_fields),
            where=where,
        )
    if first["loc"][:1] == ("cameras",) and first["loc"][-1] == "[key]":
        return UsageError(
            f"unknown camera role '{place[1]}' in {where}",
            hint=nearest(place[1], ROLES),
            where=where,
        )
    message = first["msg"].removeprefix("Value error, ")
    return UsageError(
        f"{where}: {'.'.join(place) or 'it'}: {message}",
        hint="docs/guides/convert.md shows a mapping",
        where=where,
    )
