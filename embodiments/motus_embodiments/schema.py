"""The embodiment card: what a robot is, in one frozen value.

Canonical numbers are SI (rad, m), in the card's order: per arm its joints and then its gripper
(0 closed to 1 open), left arm first, then the joints that belong to no arm.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Side = Literal["left", "right"]
Role = Literal["head", "left_wrist", "right_wrist"]
Kind = Literal["joint", "position", "rotation", "gripper"]
Representation = Literal["joint_position", "ee_pose", "ee_position"]
Vector3 = tuple[float, float, float]

_FACTORS = {"rad": 1.0, "m": 1.0, "deg": math.pi / 180}
_HALF_TURN = 3.1416  # rad, pi rounded up so that pi stored as float32 is inside


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


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Joint(_Frozen):
    """One joint. canonical = native * factor, with factor = sign * scale.

    Attributes:
        name: The joint's name in the robot model.
        unit: Unit of the recordings; "px" needs a `scale`.
        low: Lower limit in rad or m, None where unknown.
        high: Upper limit in rad or m, None where unknown.
        home: Rest position in rad or m.
        sign: -1 where the recordings count the other way round than the model.
        scale: Native unit to SI; taken from `unit` where left out.
        velocity: Largest speed in rad/s or m/s, None where unknown.
        axis: Only for a robot without a model: this joint moves the end-effector along the axis.
    """

    name: str
    unit: Literal["rad", "m", "deg", "px"]
    low: float | None = None
    high: float | None = None
    home: float = 0.0
    sign: Literal[1, -1] = 1
    scale: Annotated[float, Field(gt=0)] | None = None
    velocity: Annotated[float, Field(gt=0)] | None = None
    axis: Literal["x", "y", "z"] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.unit == "px" and self.scale is None:
            raise ValueError(f"joint '{self.name}': unit 'px' needs a scale (metres per pixel)")
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


class Gripper(_Frozen):
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


class Box(_Frozen):
    """Axis-aligned box in an arm's base frame, in m."""

    low: Vector3
    high: Vector3


class Arm(_Frozen):
    """One arm: its joints from base to wrist, its gripper, and the frame that it moves.

    Attributes:
        side: Which half of `motion` the arm fills.
        joints: From base to wrist.
        gripper: None for an arm without one.
        end_effector: Site or body of the model, None without a model.
        base: Body of the model whose frame poses are told in; None means the world frame.
        workspace: Where the end-effector may be sent.
    """

    side: Side
    joints: tuple[Joint, ...] = Field(min_length=1)
    gripper: Gripper | None = None
    end_effector: str | None = None
    base: str | None = None
    workspace: Box | None = None

    @property
    def gripper_name(self) -> str:
        """Name of the gripper's channel."""
        return (self.gripper and self.gripper.name) or f"{self.side}_gripper"


class Mount(_Frozen):
    """Where a camera sits when the model has none: pose in the frame of `body`, OpenGL axes."""

    body: str | None = None
    position: Vector3
    quaternion: tuple[float, float, float, float]  # w x y z
    fovy: Annotated[float, Field(gt=0, lt=180)]  # degrees


class Camera(_Frozen):
    """A camera, its names in recordings, and how to render it."""

    name: str
    role: Role
    aliases: tuple[str, ...] = ()
    model_camera: str | None = None
    mount: Mount | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.model_camera is not None and self.mount is not None:
            raise ValueError(f"camera '{self.name}': give model_camera or mount, not both")
        return self


class RobotModel(_Frozen):
    """Where the robot model (MJCF or URDF) is found; the first source that is there is used.

    Attributes:
        file: A file; a relative path in a card is relative to the card.
        package: An installed pip package that carries the model at `path`.
        path: Path inside `package`.
        extra: The extra of motus-cli that installs `package`.
        menagerie: Path inside MuJoCo Menagerie, looked up under MENAGERIE_ROOT.
        licence: Licence of the model's meshes.
    """

    file: str | None = None
    package: str | None = None
    path: str | None = None
    extra: str | None = None
    menagerie: str | None = None
    licence: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.package is None) != (self.path is None):
            raise ValueError("model: package and path belong together")
        if self.file is None and self.package is None and self.menagerie is None:
            raise ValueError("model: give a file, a package with a path, or a menagerie path")
        return self


class ActionSpec(_Frozen):
    """What the recorded actions are.

    Attributes:
        representation: Absolute joint positions; or end-effector pose (m and rotation vector in
            rad) or position in the base frame. The gripper's opening follows in each case.
        relative: Whether the network learns them relative to the condition frame.
    """

    representation: Representation
    relative: bool = False


class Card(_Frozen):
    """An embodiment card. `load_card` reads one, `ActionAdapter` and `Kinematics` use it.

    Attributes:
        name: Short name, that of the file.
        title: One line for people.
        arms: Left arm first.
        joints: Joints of no arm (torso, legs, fingers of a hand), after the arms.
        cameras: At most one for each role.
        rate: Control and recording rate in Hz.
        model: None for a robot without one: no rendering, no inverse kinematics.
        action: What recorded actions are.
        state_order: Channel names in the recordings' order, where it is not the card's.
        action_order: The same for actions.
        sources: Where each number comes from.
        notes: What a user should know.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str
    arms: tuple[Arm, ...] = Field(min_length=1, max_length=2)
    joints: tuple[Joint, ...] = ()
    cameras: tuple[Camera, ...] = ()
    rate: Annotated[float, Field(gt=0)]
    model: RobotModel | None = None
    action: ActionSpec
    state_order: tuple[str, ...] = ()
    action_order: tuple[str, ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)
    notes: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        sides = [arm.side for arm in self.arms]
        if sides not in (["left"], ["right"], ["left", "right"]):
            raise ValueError(f"arms: sides are {sides}, must be one arm, or left and then right")
        _no_repeats("camera roles", [camera.role for camera in self.cameras])
        _no_repeats("camera names", [n for c in self.cameras for n in (c.name, *c.aliases)])
        for kind, order, channels in (
            ("state", self.state_order, self.state_channels),
            ("action", self.action_order, self.action_channels),
        ):
            names = [channel.name for channel in channels]
            _no_repeats(f"{kind} channels", names)
            if order and sorted(order) != sorted(names):
                odd = sorted(set(order) ^ set(names)) or "a repeated name"
                raise ValueError(f"{kind}_order: must name each channel once; look at {odd}")
        return self

    @property
    def state_channels(self) -> tuple[Channel, ...]:
        """Canonical layout of a state."""
        return (*(c for arm in self.arms for c in _joint_channels(arm)), *self._other_channels())

    @property
    def action_channels(self) -> tuple[Channel, ...]:
        """Canonical layout of an action."""
        if self.action.representation == "joint_position":
            return self.state_channels
        rotation = self.action.representation == "ee_pose"
        return tuple(c for arm in self.arms for c in _pose_channels(arm, rotation=rotation))

    def camera(self, name: str) -> Camera | None:
        """The camera that recordings call `name`; LeRobot's feature prefix is ignored."""
        short = name.removeprefix("observation.images.")
        return next((c for c in self.cameras if short in (c.name, *c.aliases)), None)

    def arm(self, side: str) -> Arm | None:
        """The arm of a side."""
        return next((arm for arm in self.arms if arm.side == side), None)

    def home(self) -> tuple[float, ...]:
        """Canonical state at rest."""
        values: list[float] = []
        for arm in self.arms:
            values += [joint.home for joint in arm.joints]
            values += [arm.gripper.home] if arm.gripper else []
        return (*values, *(joint.home for joint in self.joints))

    def _other_channels(self) -> Iterator[Channel]:
        for joint in self.joints:
            yield Channel(joint.name, joint.si, *joint.limits, kind="joint", side=None)


def _joint_channels(arm: Arm) -> Iterator[Channel]:
    for joint in arm.joints:
        yield Channel(joint.name, joint.si, *joint.limits, kind="joint", side=arm.side)
    if arm.gripper:
        yield Channel(arm.gripper_name, "1", 0.0, 1.0, "gripper", arm.side)


def _pose_channels(arm: Arm, *, rotation: bool) -> Iterator[Channel]:
    box = arm.workspace or Box(low=(-math.inf,) * 3, high=(math.inf,) * 3)
    for axis, low, high in zip("xyz", box.low, box.high, strict=True):
        yield Channel(f"{arm.side}_{axis}", "m", low, high, "position", arm.side)
    for axis in "xyz" if rotation else "":
        yield Channel(f"{arm.side}_r{axis}", "rad", -_HALF_TURN, _HALF_TURN, "rotation", arm.side)
    if arm.gripper:
        yield Channel(arm.gripper_name, "1", 0.0, 1.0, "gripper", arm.side)


def _no_repeats(what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{what}: {repeated} given more than once")
