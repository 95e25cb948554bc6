"""A card from a robot model: what the file states is read, what it cannot state is asked for."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from motus_embodiments.cards import load_card, read_card, shipped_card
from motus_embodiments.errors import UsageError, nearest
from motus_embodiments.modelfacts import Chain, ModelFacts
from motus_embodiments.models import MENAGERIE, load_model, model_file
from motus_embodiments.schema import (
    ActionSpec,
    Arm,
    Camera,
    Card,
    Gripper,
    Joint,
    Representation,
    RobotModel,
    Role,
    Side,
)

_ROLES = ("head", "left_wrist", "right_wrist")
_ACTIONS = ("joint_position", "ee_pose", "ee_position")


def derive_card(
    name: str,
    model: str | Path | None = None,
    *,
    end_effector: str | Mapping[str, str] | None = None,
    side: Side | None = None,
    gripper: tuple[str, ...] | Mapping[str, tuple[str, ...]] | None = None,
    gripper_values: tuple[float, float] | None = None,
    gripper_open: Literal["high", "low"] | None = None,
    cameras: Mapping[str, Role] | None = None,
    rate: float | None = None,
    action: Representation | None = None,
    relative: bool | None = None,
    unit: Literal["rad", "deg"] = "rad",
    home: str | None = None,
    title: str | None = None,
) -> Card:
    """Derive a card from an MJCF or URDF file; without `model` give the known card `name`.

    The model states joints, limits, coupled fingers, home poses and cameras. The options are
    what it cannot state; whatever of that is needed and not given is listed in one error.

    Args:
        name: Name of the card.
        model: A file, a folder with one model, or a path inside MENAGERIE_ROOT.
        end_effector: Site or body that is to be moved; for two arms {"left": .., "right": ..}.
        side: Which arm it is, for a robot with one.
        gripper: The gripper's driven joints, where more than two could be; () for none.
        gripper_values: What recordings hold when the gripper is closed and when it is open.
        gripper_open: Which end of its first joint's range is open, where geometry cannot tell.
        cameras: Role of each camera, by its name in the model or as "recorded_name:model_name";
            {} for none.
        rate: Control rate in Hz.
        action: What recorded actions are.
        relative: Whether they are learned relative to the state; end-effector ones are.
        unit: Unit of recorded angles.
        home: Name of the keyframe that is home, where there are several and none is "home".
        title: One line for people.

    Raises:
        UsageError: Something is missing or names what the model does not have.
        DataError: The model cannot be loaded.
    """
    if model is None:
        path = shipped_card(name)
        return read_card(path) if path else load_card(name)
    file = model_file(model)
    facts = ModelFacts(load_model(file), file)
    wanted = _end_effectors(end_effector, side)
    missing = _missing(facts, wanted, side, end_effector, cameras, rate, action)
    chains = {s: facts.chain(frame) for s, frame in wanted.items()}
    hands = {s: _hand(facts, chain, s, gripper, missing) for s, chain in chains.items()}
    ends = {s: _ends(facts, chains[s], hands[s], gripper_open, missing) for s in chains}
    if any(hands.values()) and gripper_values is None:
        missing["gripper_values"] = "closed and open as recordings hold them, such as 0 1"
    if missing or rate is None or action is None:
        raise _ask(file, missing)
    positions, origin = facts.home(home)
    shared = _shared(chains)
    arms = tuple(
        Arm(
            side=s,
            joints=tuple(
                _joint(facts, j, positions, unit) for j in chain.joints if j not in shared
            ),
            gripper=_gripper(hands[s], ends[s], gripper_values, positions),
            end_effector=wanted[s],
            base=None if shared else chain.base,
        )
        for s, chain in chains.items()
    )
    return Card(
        name=name,
        title=title or f"{name}, from {file.name}",
        arms=arms,
        joints=tuple(_joint(facts, j, positions, unit) for j in shared),
        cameras=_cameras(facts, cameras or {}),
        rate=rate,
        model=_reference(file),
        action=ActionSpec(
            representation=action,
            relative=action != "joint_position" if relative is None else relative,
        ),
        sources={
            "arms.joints": f"{file.name}: chains to {', '.join(wanted.values())}",
            "arms.joints.home": f"{file.name}: {origin}",
            "arms.gripper": f"{file.name}: driven joints and the ends of their ranges",
            "rate, action, arms.side, arms.end_effector, cameras.role": "given by the user",
        },
    )


def _end_effectors(given: str | Mapping[str, str] | None, side: Side | None) -> dict[Side, str]:
    """Side -> frame, left first; empty where one of the two is not known."""
    if isinstance(given, Mapping):
        odd = set(given) - {"left", "right"}
        if odd:
            raise UsageError(f"end_effector has the side '{odd.pop()}'", hint="left or right")
        sides: tuple[Side, ...] = ("left", "right")
        return {s: given[s] for s in sides if s in given}
    return {side: given} if given and side else {}


def _missing(
    facts: ModelFacts,
    wanted: dict[Side, str],
    side: Side | None,
    end_effector: str | Mapping[str, str] | None,
    cameras: Mapping[str, Role] | None,
    rate: float | None,
    action: str | None,
) -> dict[str, str]:
    """Option -> candidates, for what is not given and no model states."""
    missing: dict[str, str] = {}
    if not end_effector:
        missing["end_effector"] = f"one of {', '.join(facts.frame_candidates())}"
    if side is None and not isinstance(end_effector, Mapping):
        missing["side"] = "left or right; for two arms --end-effector left=NAME and right=NAME"
    for frame in wanted.values():
        if not facts.has_frame(frame):
            raise UsageError(
                f"{facts.path.name} has no site or body '{frame}'",
                hint=nearest(frame, facts.frame_candidates()),
            )
    if rate is None:
        missing["rate"] = "control rate in Hz"
    if action is None:
        missing["action"] = f"one of {', '.join(_ACTIONS)}"
    if cameras is None and facts.cameras:
        missing["cameras"] = (
            f"NAME=ROLE for any of {', '.join(facts.cameras)}; roles are {', '.join(_ROLES)}"
        )
    return missing


def _ask(file: Path, missing: dict[str, str]) -> UsageError:
    lines = [f"--{option.replace('_', '-')}: {what}" for option, what in missing.items()]
    return UsageError(
        f"{file} cannot say {', '.join(missing)}", hint="\n".join(["give", *lines]), where=str(file)
    )


def _hand(
    facts: ModelFacts,
    chain: Chain,
    side: Side,
    given: tuple[str, ...] | Mapping[str, tuple[str, ...]] | None,
    missing: dict[str, str],
) -> tuple[str, ...]:
    """The gripper's driven joints."""
    if given is not None:
        names = given[side] if isinstance(given, Mapping) else given
        for name in names:
            if name not in chain.beyond:
                raise UsageError(
                    f"'{name}' is no joint beyond the {side} wrist",
                    hint=nearest(name, chain.beyond),
                )
        return tuple(names)
    driven = facts.driven(chain)
    if len(driven) > 2:
        missing["gripper"] = f"its driven joints, of {', '.join(chain.beyond)}"
        return ()
    return driven


def _ends(
    facts: ModelFacts,
    chain: Chain,
    hand: tuple[str, ...],
    opens: Literal["high", "low"] | None,
    missing: dict[str, str],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Positions of the driven joints when closed and when open."""
    if not hand:
        return (), ()
    if opens is not None:
        return facts.ends_from(hand, opens)
    ends = facts.ends_by_geometry(hand)
    if ends is None:
        low, high = facts.limits(hand[0])
        missing["gripper_open"] = f"high or low: which end of {hand[0]} ({low} to {high}) is open"
        return (), ()
    return ends


def _shared(chains: Mapping[Side, Chain]) -> tuple[str, ...]:
    """Joints that move both arms: a torso."""
    if len(chains) < 2:
        return ()
    left, right = chains["left"].joints, chains["right"].joints
    return tuple(joint for joint in left if joint in right)


def _joint(
    facts: ModelFacts, name: str, home: Mapping[str, float], unit: Literal["rad", "deg"]
) -> Joint:
    low, high = facts.limits(name)
    position = home[name]
    if low is not None and high is not None:
        position = min(max(position, low), high)
    return Joint(
        name=name,
        unit="m" if facts.slides(name) else unit,
        low=low,
        high=high,
        home=position,
        velocity=facts.velocity(name),
    )


def _gripper(
    hand: tuple[str, ...],
    ends: tuple[tuple[float, ...], tuple[float, ...]],
    values: tuple[float, float] | None,
    home: Mapping[str, float],
) -> Gripper | None:
    if not hand or values is None:
        return None
    closed, opened = ends
    opening = (home[hand[0]] - closed[0]) / (opened[0] - closed[0])
    return Gripper(
        joints=hand,
        closed=values[0],
        open=values[1],
        model_closed=closed,
        model_open=opened,
        home=min(max(opening, 0.0), 1.0),
    )


def _cameras(facts: ModelFacts, given: Mapping[str, Role]) -> tuple[Camera, ...]:
    cameras = []
    for text, role in given.items():
        name, _, model_name = text.partition(":")
        model_name = model_name or name
        if facts.cameras and model_name not in facts.cameras:
            raise UsageError(
                f"{facts.path.name} has no camera '{model_name}'",
                hint=nearest(model_name, facts.cameras),
            )
        fields: dict[str, Any] = {"model_camera": model_name} if facts.cameras else {}
        cameras.append(Camera(name=name, role=role, **fields))
    return tuple(cameras)


def _reference(file: Path) -> RobotModel:
    """The model by its Menagerie name where it lies there, else by its path."""
    root = os.environ.get(MENAGERIE)
    if root and file.is_relative_to(Path(root).resolve()):
        return RobotModel(menagerie=str(file.relative_to(Path(root).resolve())))
    return RobotModel(file=str(file))
