"""`motus add-embodiment`: put a checked card into the user's own folder."""

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np

from motus_embodiments.cards import (
    OWN,
    SHIPPED,
    new_card_path,
    read_card,
    save_card,
    shipped_card,
    table_differences,
    write_text,
)
from motus_embodiments.drafting.derive import draft_card, finished
from motus_embodiments.drafting.drafts import UNKNOWN, Draft
from motus_embodiments.drafting.from_dataset import draft_from_dataset
from motus_embodiments.errors import MismatchError, MotusError, UsageError, nearest
from motus_embodiments.kinematics import Kinematics
from motus_embodiments.poses.collisions import Collisions
from motus_embodiments.robot_models.facts import ModelFacts
from motus_embodiments.robot_models.finding import find_model
from motus_embodiments.schema import Arm, Card

_DRAWS = 300  # random poses that show which bodies touch by construction
_SAME = 1e-4  # rad or m, cards are written with four decimals


def add_embodiment(
    name: str,
    *,
    model: str | Path | None = None,
    dataset: str | Path | None = None,
    folder: Path = OWN,
    force: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> tuple[Card, Path]:
    """Write `folder`/NAME.yaml: a shipped card, checked against its model, or one derived.

    Args:
        name: A shipped robot's name, or any name with `model` or `dataset`.
        model: MJCF or URDF file; see `draft_card`.
        dataset: LeRobot dataset of a robot without a model; see `draft_from_dataset`.
        folder: The user's own cards.
        force: Replace a card that is there, and take one that differs from its model.
        dry_run: Do everything but write.
        options: What a model or dataset cannot say.

    Raises:
        UsageError: An option is missing, the name is not known, or the card is there already.
        MissingError: The shipped card's robot model is not installed.
        DataError: The model or the dataset cannot be read.
        MismatchError: The shipped card and its model file disagree.
    """
    if model is None and dataset is None:
        return _copy(name, folder, force=force, dry_run=dry_run, options=options)
    card = finished(draft_embodiment(name, model=model, dataset=dataset, **options))
    card = card.model_copy(update={"collision_ignore": always_touching(card)})
    path = new_card_path(name, folder, force)
    _refuse(card, check_card(card), force=False)
    return card, path if dry_run else save_card(card, folder, force)


def draft_embodiment(
    name: str,
    *,
    model: str | Path | None = None,
    dataset: str | Path | None = None,
    **options: Any,
) -> Draft:
    """What a model or a dataset states of a card, and what is still to be asked.

    Raises:
        UsageError: Both or none of them are given, or an option is not for that source.
    """
    if (model is None) == (dataset is None):
        raise UsageError("a card is made from a model or from a dataset", hint="give one of them")
    make = draft_card if model is not None else draft_from_dataset
    known = inspect.signature(make).parameters
    for option in options:
        if option not in known:
            source = "a model" if model is not None else "a dataset"
            flag = option.replace("_", "-")
            raise UsageError(f"--{flag} has no meaning for {source}", hint="leave it out")
    source_given = model if model is not None else dataset
    assert source_given is not None
    return make(name, source_given, **options)


def write_draft(draft: Draft, name: str, folder: Path = OWN, force: bool = False) -> Path:
    """Write `folder`/NAME.yaml with marks that keep it from being used until they are filled in.

    Raises:
        UsageError: The file is there already, or not even the arms are known.
    """
    path = new_card_path(name, folder, force)
    write_text(path, draft.text())
    return path


def always_touching(card: Card) -> tuple[tuple[str, str], ...]:
    """Pairs of bodies of the card's model that touch however the robot moves."""
    if card.model is None:
        return ()
    kinematics = Kinematics(card)
    assert kinematics.model is not None
    limits = np.clip([(c.low, c.high) for c in card.state_channels], -np.pi, np.pi)
    draws = np.random.default_rng(0).uniform(size=(_DRAWS, len(limits)))
    poses = limits[:, 0] + draws * (limits[:, 1] - limits[:, 0])
    model = kinematics.model
    found = set()
    for geoms in Collisions(kinematics, poses).always:
        first, other = sorted(model.body(model.geom_bodyid[g]).name for g in geoms)
        if first and first != other:
            found.add((first, other))
    return tuple(sorted(found))


def check_card(card: Card) -> tuple[str, ...]:
    """What differs between a card and its robot model, one line each; empty when nothing does.

    Raises:
        MissingError: The model is not here.
        DataError: The model cannot be loaded.
    """
    if card.model is None:
        return ()
    path = find_model(card)
    try:
        kinematics = Kinematics(card)
    except MotusError as error:
        if error.where != str(path) or "names the" not in error.message:
            raise
        return (error.message,)
    assert kinematics.model is not None
    facts = ModelFacts(kinematics.model, path)
    found = [line for arm in card.arms for line in _arm_differences(arm, facts)]
    if kinematics.has_poses:
        home = kinematics.poses(np.array([card.home()]))
        if not np.isfinite(home).all():
            found.append("the pose at home is not finite")
    for camera in card.cameras:
        if camera.model_camera and camera.model_camera not in facts.cameras:
            found.append(f"camera '{camera.model_camera}' is not in the model")
    return tuple(found)


def _arm_differences(arm: Arm, facts: ModelFacts) -> list[str]:
    found = []
    for joint in arm.joints:
        low, high = facts.limits(joint.name)
        for what, own, theirs in (("low", joint.low, low), ("high", joint.high, high)):
            if own is not None and theirs is not None and abs(own - theirs) > _SAME:
                found.append(f"joint '{joint.name}': {what} is {own}, in the model {theirs:.5g}")
    if arm.end_effector is not None:
        moving = facts.chain(arm.end_effector).joints
        still = [joint.name for joint in arm.joints if joint.name not in moving]
        found += [f"joint '{name}' does not move '{arm.end_effector}'" for name in still]
    if arm.gripper is not None:
        ends = zip(
            arm.gripper.joints, arm.gripper.model_closed, arm.gripper.model_open, strict=True
        )
        for name, *span in ends:
            low, high = facts.limits(name)
            if low is not None and high is not None and (max(span) <= low or min(span) >= high):
                found.append(f"gripper joint '{name}': {span} lies outside {low:.5g} to {high:.5g}")
    return found


def contradictions(card: Card, draft: Draft) -> list[str]:
    """Keys that a card has otherwise than a draft's source and options say, with both values."""
    told = {k: v for k, v in draft.data.items() if k not in ("title", "sources", "notes")}
    found = table_differences(card.model_dump(mode="json"), json.loads(json.dumps(told)))
    return [
        f"{key} {_brief(own)} there, {_brief(other)} by the options"
        for key, own, other in found
        if other not in (None, UNKNOWN)
    ]


def _brief(value: Any) -> str:
    return f"{len(value)} entries" if isinstance(value, list | dict) else str(value)


def _copy(
    name: str, folder: Path, *, force: bool, dry_run: bool, options: dict[str, Any]
) -> tuple[Card, Path]:
    source = shipped_card(name)
    if source is None:
        known = [path.stem for path in SHIPPED.glob("*.yaml")]
        raise UsageError(
            f"no robot named '{name}' comes with motus",
            hint=f"{nearest(name, known)}; or give its model: --model FILE",
        )
    if options:
        raise UsageError(
            f"'{name}' comes with motus, so {', '.join(sorted(options))} cannot be given",
            hint="give --model too, or change the written card",
        )
    card = read_card(source)
    path = new_card_path(name, folder, force)
    _refuse(card, check_card(card), force)
    if not dry_run:
        write_text(path, source.read_text())
    return card, path


def _refuse(card: Card, differences: tuple[str, ...], force: bool) -> None:
    if differences and not force:
        raise MismatchError(
            f"the card '{card.name}' and its model {find_model(card)} differ: "
            + "; ".join(differences),
            hint="another version of the model? --force takes the card as it is",
        )
