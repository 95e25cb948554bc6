"""A card from a robot model: what the file states is read, what it cannot state is asked for."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from motus_embodiments.cards import load_card, read_card, shipped_card, validated
from motus_embodiments.drafting.drafts import UNKNOWN, Draft
from motus_embodiments.errors import UsageError, nearest
from motus_embodiments.robot_models.facts import Chain, ModelFacts
from motus_embodiments.robot_models.finding import MENAGERIE, load_model, model_file, packaged
from motus_embodiments.schema import ROLES, Card, Representation, Role, Side

_ACTIONS = ("joint_position", "ee_pose", "ee_position")


def derive_card(name: str, model: str | Path | None = None, **options: Any) -> Card:
    """Derive a card from an MJCF or URDF file; without `model` give the known card `name`.

    Takes the options of `draft_card`; whatever is needed and not given is listed in one error.

    Raises:
        UsageError: Something is missing or names what the model does not have.
        DataError: The model cannot be loaded.
    """
    if model is None:
        path = shipped_card(name)
        return read_card(path) if path else load_card(name)
    return finished(draft_card(name, model, **options))


def finished(draft: Draft) -> Card:
    """The card of a draft.

    Raises:
        UsageError: Something is still missing.
    """
    if draft.missing:
        raise draft.ask()
    return validated(draft.data, draft.source)


def draft_card(
    name: str,
    model: str | Path,
    *,
    end_effector: str | Mapping[str, str] | None = None,
    side: Side | None = None,
    gripper: tuple[str, ...] | None = None,
    gripper_values: tuple[float, float] | None = None,
    gripper_open: Literal["high", "low"] | None = None,
    cameras: Mapping[str, Role] | None = None,
    rate: float | None = None,
    action: Representation | None = None,
    relative: bool | None = None,
    unit: Literal["rad", "deg"] = "rad",
    home: str | None = None,
    title: str | None = None,
) -> Draft:
    """Read from an MJCF or URDF file what it states of a card.

    The model states joints, limits, coupled fingers, home poses and cameras. The options are
    what it cannot state.

    Args:
        name: Name of the card.
        model: A file, a folder with one model, PACKAGE:PATH of an installed package, or a path
            inside MENAGERIE_ROOT.
        end_effector: Site or body that is to be moved; for two arms {"left": .., "right": ..}.
        side: Which arm it is, for a robot with one.
        gripper: The gripper's driven joints, where more than two could be, those of both arms
            together; () for none.
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
        UsageError: An option names what the model does not have.
        DataError: The model cannot be loaded, or no card can hold its joints as they are.
    """
    file = model_file(model)
    facts = ModelFacts(load_model(file), file)
    wanted = _end_effectors(end_effector, side)
    missing = _missing(facts, wanted, side, end_effector, cameras, rate, action)
    if not wanted:
        return Draft(file, {}, missing)
    chains = {s: facts.chain(frame) for s, frame in wanted.items()}
    remarks = dict.fromkeys(remark for frame in wanted.values() for remark in facts.remarks(frame))
    hands = _hands(facts, chains, gripper, missing)
    if any(hands.values()) and gripper_values is None:
        missing["gripper_values"] = "closed and open as recordings hold them, such as 0 1"
    if not any(hands.values()) and gripper != () and "gripper" not in missing:
        told = {"gripper-values": gripper_values, "gripper-open": gripper_open}
        _refuse_handless(facts, wanted, [flag for flag, value in told.items() if value is not None])
    positions, origin = facts.home(home)
    shared = _shared(chains)
    arms = []
    for s, chain in chains.items():
        ends = _ends(facts, hands[s], gripper_open, missing)
        arm: dict[str, Any] = {
            "side": s,
            "joints": [_joint(facts, j, positions, unit) for j in chain.joints if j not in shared],
        }
        if hands[s]:
            arm["gripper"] = _gripper(hands[s], ends, gripper_values, positions)
        arm |= {"end_effector": wanted[s]} | ({"base": chain.base} if not shared else {})
        arms.append(_without_none(arm))
    data: dict[str, Any] = {"name": name, "title": title or f"{name}, from {file.name}"}
    data |= {"arms": arms, "joints": [_joint(facts, j, positions, unit) for j in shared]}
    data["cameras"] = UNKNOWN if "cameras" in missing else _cameras(facts, cameras or {})
    data |= {"rate": rate or UNKNOWN, "model": _reference(model, file)}
    data["action"] = {
        "representation": action or UNKNOWN,
        "relative": action in ("ee_pose", "ee_position") if relative is None else relative,
    }
    data["sources"] = {
        "arms.joints": f"{file.name}: chains to {', '.join(wanted.values())}",
        "arms.joints.home": f"{file.name}: {origin}",
        "arms.gripper": f"{file.name}: driven joints and the ends of their ranges",
        "rate, action, arms.side, arms.end_effector, cameras.role": "given by the user",
    }
    if remarks:
        data["notes"] = " ".join(remarks)
    return Draft(file, data, missing)


def _end_effectors(given: str | Mapping[str, str] | None, side: Side | None) -> dict[str, str]:
    """Side (`UNKNOWN` if not given) -> frame, left first; empty where no frame is known."""
    if isinstance(given, Mapping):
        odd = set(given) - {"left", "right"}
        if odd:
            raise UsageError(f"end_effector has the side '{odd.pop()}'", hint="left or right")
        if side is not None and set(given) != {side}:
            raise UsageError(
                f"the side is given as {side}, and the end-effectors as {' and '.join(given)}",
                hint="--side is for a robot with one arm; leave it out",
            )
        return {s: given[s] for s in ("left", "right") if s in given}
    return {side or UNKNOWN: given} if given else {}


def _missing(
    facts: ModelFacts,
    wanted: Mapping[str, str],
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
            f"NAME=ROLE for any of {', '.join(facts.cameras)}; roles are {', '.join(ROLES)}"
        )
    return missing


def _hands(
    facts: ModelFacts,
    chains: Mapping[str, Chain],
    given: tuple[str, ...] | None,
    missing: dict[str, str],
) -> dict[str, tuple[str, ...]]:
    """Side -> its gripper's driven joints: those that are given, else those the model states."""
    known = [name for chain in chains.values() for name in chain.beyond if name]
    for name in given or ():
        if name not in known:
            raise UsageError(f"'{name}' is no joint beyond a wrist", hint=nearest(name, known))
    hands, unclear = {}, list[str]()
    for s, chain in chains.items():
        hands[s] = tuple(name for name in given or () if name in chain.beyond)
        if hands[s] or given == ():
            continue
        driven = facts.driven(chain)
        if len(driven) > 2:
            unclear += chain.beyond
        else:
            hands[s] = driven
    if unclear:
        missing["gripper"] = f"its driven joints, of {', '.join(unclear)}"
    return hands


def _refuse_handless(facts: ModelFacts, wanted: Mapping[str, str], told: list[str]) -> None:
    """Refuse what is told of a gripper that no joint belongs to.

    Raises:
        UsageError: Names the frames, and those that could be meant.
    """
    if not told:
        return
    frames = " and ".join(f"'{frame}'" for frame in wanted.values())
    raise UsageError(
        f"--{told[0]} is given, but {facts.path.name} has no driven joint beyond {frames}",
        hint="give a frame that the fingers do not move, "
        f"such as {', '.join(facts.frame_candidates())}; or leave out --{' and --'.join(told)}",
    )


def _ends(
    facts: ModelFacts,
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


def _shared(chains: Mapping[str, Chain]) -> tuple[str, ...]:
    """Joints that move both arms: a torso."""
    if len(chains) < 2:
        return ()
    left, right = chains["left"].joints, chains["right"].joints
    return tuple(joint for joint in left if joint in right)


def _joint(
    facts: ModelFacts, name: str, home: Mapping[str, float], unit: Literal["rad", "deg"]
) -> dict[str, Any]:
    low, high = facts.limits(name)
    position = home[name]
    if low is not None and high is not None:
        position = min(max(position, low), high)
    joint = {
        "name": name,
        "unit": "m" if facts.slides(name) else unit,
        "low": low,
        "high": high,
        "home": position,
        "velocity": facts.velocity(name),
    }
    return _without_none(joint)


def _gripper(
    hand: tuple[str, ...],
    ends: tuple[tuple[float, ...], tuple[float, ...]],
    values: tuple[float, float] | None,
    home: Mapping[str, float],
) -> dict[str, Any]:
    closed, opened = ends
    recorded = values or (UNKNOWN, UNKNOWN)
    gripper: dict[str, Any] = {"joints": hand, "closed": recorded[0], "open": recorded[1]}
    if not closed:
        return gripper | {"model_closed": UNKNOWN, "model_open": UNKNOWN}
    widest = max(range(len(hand)), key=lambda i: abs(opened[i] - closed[i]))
    opening = (home[hand[widest]] - closed[widest]) / (opened[widest] - closed[widest])
    gripper |= {"model_closed": closed, "model_open": opened}
    return gripper | {"home": min(max(opening, 0.0), 1.0)}


def _cameras(facts: ModelFacts, given: Mapping[str, Role]) -> list[dict[str, Any]]:
    cameras: list[dict[str, Any]] = []
    for text, role in given.items():
        name, _, model_name = text.partition(":")
        model_name = model_name or name
        if facts.cameras and model_name not in facts.cameras:
            raise UsageError(
                f"{facts.path.name} has no camera '{model_name}'",
                hint=nearest(model_name, facts.cameras),
            )
        fields = {"model_camera": model_name} if facts.cameras else {}
        cameras.append({"name": name, "role": role} | fields)
    return cameras


def _reference(given: str | Path, file: Path) -> dict[str, Any]:
    """The model by its package or its Menagerie name where it has one, else by its path."""
    inside = packaged(given)
    if inside is not None and not Path(given).exists():
        return inside.model_dump(exclude_none=True, include={"package", "path"})
    root = os.environ.get(MENAGERIE)
    if root and file.is_relative_to(Path(root).resolve()):
        return {"menagerie": str(file.relative_to(Path(root).resolve()))}
    return {"file": str(file)}


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}
