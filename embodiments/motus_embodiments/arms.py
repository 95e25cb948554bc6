"""The parts of an arm: joints, a gripper, the frame that they move."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from motus_embodiments.numbers.orientations import Orientation

Side = Literal["left", "right"]
Kind = Literal["joint", "position", "rotation", "gripper"]
Vector3 = tuple[float, float, float]

_FACTORS = {"rad": 1.0, "m": 1.0, "deg": math.pi / 180}


@dataclass(frozen=True)
class Channel:
    """One number of a state or an action, in canonical form.

    Attributes:
        name: Unique within its state or action.
        unit: "rad", "m" or "1" (gripper opening).
        low: Smallest allowed value in `unit`, -inf where unknown.
        high: Largest allowed value in `unit`, inf where unknown.
        kind: What the number means.
        side: The arm it belongs to, None for joints of no arm.
    """

    name: str
    unit: str
    low: float
    high: float
    kind: Kind
    side: Side | None


class Frozen(BaseModel):
    """A table of a card: cannot change, refuses unknown keys and what only looks like a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `yes` for a number, which pydantic would take for 1."""
        values = value if isinstance(value, list | tuple) else (value,)
        is_meant = cls.model_fields[info.field_name or ""].annotation is bool
        if not is_meant and any(isinstance(v, bool) for v in values):
            raise ValueError("yes, no, on, off, true and false are no numbers, and no names either")
        return value


class Joint(Frozen):
    """One joint. canonical = native * factor + zero, with factor = sign * scale.

    Attributes:
        name: The joint's name in the robot model.
        unit: Unit of the recordings; "px" (a length) and "percent" (an angle) need a `scale`.
        low: Lower limit in rad or m, None where unknown.
        high: Upper limit in rad or m, None where unknown.
        home: Rest position in rad or m.
        sign: -1 where the recordings count the other way round than the model.
        scale: Native unit to SI; taken from `unit` where left out.
        zero: Position in rad or m where the recordings read 0.
        velocity: Largest speed in rad/s or m/s, None where unknown.
        slack: How far recordings may leave the limits, in rad or m; 2 % of the range if left out.
        axis: Only for a robot without a model: this joint moves the end-effector along the axis.
    """

    name: str
    unit: Literal["rad", "m", "deg", "px", "percent"]
    low: float | None = None
    high: float | None = None
    home: float = 0.0
    sign: Literal[1, -1] = 1
    scale: Annotated[float, Field(gt=0)] | None = None
    zero: float = 0.0
    velocity: Annotated[float, Field(gt=0)] | None = None
    slack: Annotated[float, Field(ge=0)] | None = None
    axis: Literal["x", "y", "z"] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.unit not in _FACTORS and self.scale is None:
            raise ValueError(f"joint '{self.name}': unit '{self.unit}' needs a scale to rad or m")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"joint '{self.name}': low {self.low} is not below high {self.high}")
        low, high = self.limits
        if not low <= self.home <= high:
            raise ValueError(f"joint '{self.name}': home {self.home} is outside {low} .. {high}")
        return self

    @property
    def factor(self) -> float:
        """What a native number is multiplied with to become canonical."""
        scale = _FACTORS[self.unit] if self.scale is None else self.scale
        return self.sign * scale

    @property
    def si(self) -> str:
        """Canonical unit."""
        return "m" if self.unit in ("m", "px") else "rad"

    @property
    def limits(self) -> tuple[float, float]:
        """Canonical limits, infinite where unknown."""
        return (
            -math.inf if self.low is None else self.low,
            math.inf if self.high is None else self.high,
        )


class Gripper(Frozen):
    """One opening between 0 (closed) and 1 (open), however many joints the model has for it.

    Attributes:
        name: Name of the channel; `<side>_gripper` where left out.
        joints: The model joints that are driven; joints coupled to them follow by themselves.
        closed: Native value of the recorded state when closed.
        open: Native value of the recorded state when open.
        action_closed: Native value of the recorded action when closed, if it differs.
        action_open: Native value of the recorded action when open, if it differs.
        model_closed: Position of each of `joints` in rad or m when closed.
        model_open: Position of each of `joints` in rad or m when open.
        slack: How far recordings may leave 0..1, as a share of the stroke.
        home: Opening at rest.
        seconds: Time of a full stroke in s, the gripper's speed limit.
    """

    name: str | None = None
    joints: tuple[str, ...] = ()
    closed: float = 0.0
    open: float = 1.0
    action_closed: float | None = None
    action_open: float | None = None
    model_closed: tuple[float, ...] = ()
    model_open: tuple[float, ...] = ()
    slack: Annotated[float, Field(ge=0)] = 0.02
    home: Annotated[float, Field(ge=0, le=1)] = 1.0
    seconds: Annotated[float, Field(gt=0)] = 0.5

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not len(self.joints) == len(self.model_closed) == len(self.model_open):
            raise ValueError("gripper: joints, model_closed and model_open differ in length")
        for kind in ("state", "action"):
            closed, opened = self.span(kind)
            if closed == opened:
                raise ValueError(f"gripper: closed and open of the {kind} are both {closed}")
        return self

    def span(self, kind: str) -> tuple[float, float]:
        """Native (closed, open) of a recorded "state" or "action"."""
        closed, opened = self.closed, self.open
        if kind == "action":
            closed = closed if self.action_closed is None else self.action_closed
            opened = opened if self.action_open is None else self.action_open
        return closed, opened


class Box(Frozen):
    """Axis-aligned box in an arm's base frame, in m."""

    low: Vector3
    high: Vector3

    @model_validator(mode="after")
    def _check(self) -> Self:
        for axis, low, high in zip("xyz", self.low, self.high, strict=True):
            if not low < high:
                raise ValueError(f"low {low} of {axis} is not below high {high}")
        return self


class Arm(Frozen):
    """One arm: its joints from base to wrist, its gripper, and the frame that it moves.

    Attributes:
        side: Which half of `motion` the arm fills.
        joints: From base to wrist; none where recordings state only the end-effector's pose.
        pose: Where recorded states hold the end-effector's pose (x y z in m, in the base frame),
            after the joints: how its orientation is written.
        gripper: None for an arm without one.
        end_effector: Site or body of the model, None without a model.
        base: Body of the model whose frame poses are told in; None means the world frame.
        workspace: Where the end-effector may be sent.
    """

    side: Side
    joints: tuple[Joint, ...] = ()
    pose: Orientation | None = None
    gripper: Gripper | None = None
    end_effector: str | None = None
    base: str | None = None
    workspace: Box | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.joints and self.pose is None:
            raise ValueError(f"the {self.side} arm needs joints, or a pose in its recordings")
        return self

    @property
    def gripper_name(self) -> str:
        """Name of the gripper's channel."""
        return (self.gripper and self.gripper.name) or f"{self.side}_gripper"
