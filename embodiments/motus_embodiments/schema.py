"""The embodiment card: what a robot is, in one frozen value.

Canonical numbers are SI (rad, m), in the card's order: per arm its joints and then its gripper
(0 closed to 1 open), left arm first, then the joints that belong to no arm.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from motus_embodiments.arms import Arm as Arm
from motus_embodiments.arms import Box as Box
from motus_embodiments.arms import Channel as Channel
from motus_embodiments.arms import Frozen
from motus_embodiments.arms import Gripper as Gripper
from motus_embodiments.arms import Joint as Joint
from motus_embodiments.arms import Side as Side
from motus_embodiments.arms import Vector3 as Vector3
from motus_embodiments.numbers.orientations import NAMES, Orientation

Role = Literal["head", "left_wrist", "right_wrist"]
ROLES: tuple[str, ...] = get_args(Role)
Representation = Literal["joint_position", "ee_pose", "ee_position", "none"]

NAME = r"^[a-z0-9][a-z0-9_-]*$"  # of a card, and so of its file
_HALF_TURN = 3.1416  # rad, pi rounded up so that pi stored as float32 is inside
_TURN = 2 * _HALF_TURN  # a recorded rotation vector may tell the long way round, as LIBERO's do


class Mount(Frozen):
    """Where a camera sits when the model has none: pose in the frame of `body`, OpenGL axes."""

    body: str | None = None
    position: Vector3
    quaternion: tuple[float, float, float, float]  # w x y z
    fovy: Annotated[float, Field(gt=0, lt=180)]  # degrees


class Camera(Frozen):
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

    @property
    def name_in_model(self) -> str:
        """Its name in the model; a mounted one may not take that of a camera that is there."""
        return f"{self.name} (mounted)" if self.mount else self.model_camera or self.name


class RobotModel(Frozen):
    """Where the robot model (MJCF or URDF) is found; the first source that is there is used.

    Attributes:
        file: A file; a relative path in a card is relative to the card.
        package: An installed pip package that carries the model at `path`.
        path: Path inside `package`.
        extra: The extra of motus-cli that installs `package`.
        menagerie: Path inside MuJoCo Menagerie, looked up under MENAGERIE_ROOT and in what the
            pip package mujoco-menagerie has downloaded.
        licence: Licence of the model's meshes.
        attach: Other models fixed to it, such as a gripper to a flange.
    """

    file: str | None = None
    package: str | None = None
    path: str | None = None
    extra: str | None = None
    menagerie: str | None = None
    licence: str | None = None
    attach: "tuple[Attachment, ...]" = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.package is None) != (self.path is None):
            raise ValueError("model: package and path belong together")
        if self.file is None and self.package is None and self.menagerie is None:
            raise ValueError("model: give a file, a package with a path, or a menagerie path")
        return self


class Attachment(Frozen):
    """A model that is fixed to another one.

    Attributes:
        model: What is attached.
        site: Site of the other model that its base comes to lie on.
        prefix: Put before all its names.
    """

    model: RobotModel
    site: str
    prefix: str = ""


class ActionSpec(Frozen):
    """What actions are, in canonical form and in recordings.

    Canonical actions are targets: absolute joint positions; or end-effector pose (m and rotation
    vector in rad) or position in the base frame; the gripper's opening follows in each case.

    Attributes:
        representation: Which of these; "none" for a source without actions, such as human hands.
        relative: Whether the network learns them relative to the condition frame.
        orientation: How recordings write orientations.
        delta: None where recordings hold targets; "state" where they hold changes to the state of
            the same frame, "command" where they hold changes to the command before. A gripper's
            opening is always a target.
        axes: Whose axes a recorded change of an end-effector is told along: those of the base
            frame (p + dp, dR R), or the tool's own (p + R dp, R dR).
        position_scale: Metres that one recorded unit of an end-effector's position is.
        rotation_scale: Radians that one recorded unit of a rotation vector or of rpy is.
        lag: Frames after which good recordings' states have come closest to a command; None where
            that differs from recorder to recorder.
    """

    representation: Representation
    relative: bool = False
    orientation: Orientation = "rotation_vector"
    delta: Literal["state", "command"] | None = None
    axes: Literal["base", "tool"] = "base"
    position_scale: Annotated[float, Field(gt=0)] = 1.0
    rotation_scale: Annotated[float, Field(gt=0)] = 1.0
    lag: Annotated[int, Field(ge=0, le=6)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rotation_scale != 1 and self.orientation not in ("rotation_vector", "rpy"):
            raise ValueError(f"action: {self.orientation} has no unit, so no rotation_scale")
        if self.axes == "tool" and self.representation != "ee_pose":
            raise ValueError(f"action: {self.representation} does not know the tool's axes")
        return self


class Card(Frozen):
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
        state_order: Names of `recorded_state` in the recordings' order, where it is not the card's.
        action_order: The same for `recorded_action`.
        collision_ignore: Pairs of the model's bodies whose touch is no collision.
        sources: Where each number comes from.
        notes: What a user should know.
    """

    name: str = Field(pattern=NAME)
    title: str
    arms: tuple[Arm, ...] = Field(min_length=1, max_length=2)
    joints: tuple[Joint, ...] = ()
    cameras: tuple[Camera, ...] = ()
    rate: Annotated[float, Field(gt=0)]
    model: RobotModel | None = None
    action: ActionSpec
    state_order: tuple[str, ...] = ()
    action_order: tuple[str, ...] = ()
    collision_ignore: tuple[tuple[str, str], ...] = ()
    sources: dict[str, str] = Field(default_factory=dict)
    notes: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        sides = [arm.side for arm in self.arms]
        if sides not in (["left"], ["right"], ["left", "right"]):
            raise ValueError(f"arms: sides are {sides}, must be one arm, or left and then right")
        _no_repeats("camera roles", [camera.role for camera in self.cameras])
        _no_repeats("camera names", [n for c in self.cameras for n in (c.name, *c.aliases)])
        jointless = [arm.side for arm in self.arms if not arm.joints]
        if self.model is not None and jointless:
            raise ValueError(f"model: the {jointless[0]} arm has no joints to move it with")
        for kind, order, names in (
            ("state", self.state_order, self.recorded_state),
            ("action", self.action_order, self.recorded_action),
        ):
            _no_repeats(f"{kind} channels", list(names))
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
        match self.action.representation:
            case "none":
                return ()
            case "joint_position":
                return tuple(c for c in self.state_channels if c.kind in ("joint", "gripper"))
        rotation = self.action.representation == "ee_pose"
        return tuple(c for arm in self.arms for c in _pose_channels(arm, rotation=rotation))

    @property
    def recorded_state(self) -> tuple[str, ...]:
        """Names of a recorded state's numbers, in the card's order."""
        forms = {arm.side: arm.pose for arm in self.arms}
        return _recorded(self.state_channels, forms)

    @property
    def recorded_action(self) -> tuple[str, ...]:
        """Names of a recorded action's numbers, in the card's order."""
        forms = {arm.side: self.action.orientation for arm in self.arms}
        return _recorded(self.action_channels, forms)

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
            values += [0.0] * 6 if arm.pose else []
            values += [arm.gripper.home] if arm.gripper else []
        return (*values, *(joint.home for joint in self.joints))

    def _other_channels(self) -> Iterator[Channel]:
        for joint in self.joints:
            yield Channel(joint.name, joint.si, *joint.limits, kind="joint", side=None)


def _joint_channels(arm: Arm) -> Iterator[Channel]:
    for joint in arm.joints:
        yield Channel(joint.name, joint.si, *joint.limits, kind="joint", side=arm.side)
    if arm.pose:
        free = arm.model_copy(update={"workspace": None, "gripper": None})
        turn = _TURN if arm.pose == "rotation_vector" else _HALF_TURN
        yield from _pose_channels(free, rotation=True, turn=turn)
    if arm.gripper:
        yield Channel(arm.gripper_name, "1", 0.0, 1.0, "gripper", arm.side)


def _pose_channels(arm: Arm, *, rotation: bool, turn: float = _HALF_TURN) -> Iterator[Channel]:
    box = arm.workspace
    lows, highs = (box.low, box.high) if box else ((-math.inf,) * 3, (math.inf,) * 3)
    for axis, low, high in zip("xyz", lows, highs, strict=True):
        yield Channel(f"{arm.side}_{axis}", "m", low, high, "position", arm.side)
    for axis in "xyz" if rotation else "":
        yield Channel(f"{arm.side}_r{axis}", "rad", -turn, turn, "rotation", arm.side)
    if arm.gripper:
        yield Channel(arm.gripper_name, "1", 0.0, 1.0, "gripper", arm.side)


def _recorded(
    channels: tuple[Channel, ...], forms: Mapping[Side, Orientation | None]
) -> tuple[str, ...]:
    """Channel names with the three of each rotation vector in their recorded form."""
    names: list[str] = []
    for channel in channels:
        form = None if channel.side is None else forms[channel.side]
        if channel.kind != "rotation" or form is None:
            names.append(channel.name)
        elif channel.name.endswith("_rx"):
            names += [f"{channel.side}_{name}" for name in NAMES[form]]
    return tuple(names)


def _no_repeats(what: str, names: list[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{what}: {repeated} given more than once")
