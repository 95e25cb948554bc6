"""From a recording's native numbers to the card's: state, action and motion."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from motus_adapters.readers import Recording, parts_of
from motus_embodiments import (
    ActionAdapter,
    ActionSpec,
    Card,
    DataError,
    Kinematics,
    MissingError,
    UsageError,
    nearest,
)

# What `--allow` can let through, and what it then means.
ALLOWANCES = {
    "limits": "values outside the card's limits",
    "pairs": "actions that contradict their states (inverted gripper, exchanged arms)",
    "motion": "no motion where the robot's model is not installed",
}


@dataclass(frozen=True)
class Numbers:
    """Canonical numbers of one recording, each float64 [T, n] or None.

    Attributes:
        let_through: Allowance -> what would have been refused without it.
    """

    state: np.ndarray | None
    action: np.ndarray | None
    let_through: Mapping[str, str] = field(default_factory=dict)


def check_allow(allow: frozenset[str]) -> None:
    """Refuse an unknown allowance.

    Raises:
        UsageError: It is not one of limits, pairs, motion.
    """
    for name in sorted(allow):
        if name not in ALLOWANCES:
            raise UsageError(f"--allow knows no '{name}'", hint=nearest(name, ALLOWANCES))


def numbers_of(recording: Recording, card: Card, allow: frozenset[str] = frozenset()) -> Numbers:
    """State and action of a recording in the card's order, units and representation.

    Joint actions become end-effector poses where the card has those, by forward kinematics.
    A recording without actions gets the following state as its action.

    Raises:
        DataError: Another number of channels than the card's, values outside its limits, or
            actions of a kind that cannot be converted.
    """
    adapter = _tools(card.model_dump_json()).adapter
    state, passed = None, dict[str, str]()
    with _placed(recording.name):
        if (recorded := recording.numbers("state")) is not None:
            state = adapter.encode_state(adapter.as_recorded("state", *recorded))
            with _allowing("limits", allow if np.isfinite(state).all() else None, passed):
                adapter.check(state, "state", recording.name)
        told = None if card.action.representation == "none" else recording.numbers("action")
        if told is not None:
            action = _action(recording, card, adapter, told, state)
            with _allowing("limits", allow if np.isfinite(action).all() else None, passed):
                adapter.check(action, "action", recording.name)
        elif state is not None and card.action.representation != "none":
            action = _following(adapter, state)
        else:
            action = None
        if state is not None and told is not None:
            assert action is not None
            with _allowing("pairs", allow, passed):
                adapter.check_pair(state, action, recording.name)
    return Numbers(state, action, passed)


def unsaid(recording: Recording, *, has_action: bool) -> list[str]:
    """What neither the layout nor a mapping says of state and action, and what is done instead."""
    mapping, lines = recording.mapping, []
    if mapping.state is None:
        taken = {name.span()[0] for name in parts_of(mapping.action)}
        if spare := [name for name in recording.episode.columns if name not in taken]:
            lines.append(
                f"no column is known as the state, and none is written; there are "
                f"{', '.join(spare[:12])}: name it (motus inspect --map-out, then --map), "
                "or say `state: []`"
            )
    if mapping.action is None and has_action:
        lines.append("no action is stored; the following state becomes it (say `action: []`)")
    return lines


def motion_of(
    card: Card, state: np.ndarray, allow: frozenset[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Motion [T, 14] of canonical states and the mask [14] of the numbers that exist.

    Raises:
        MissingError: The robot's model is not installed, and `motion` is not allowed to be absent.
    """
    try:
        return _tools(card.model_dump_json()).kinematics.motion(state)
    except MissingError as error:
        if "motion" in allow:
            return np.zeros((len(state), 14), np.float32), np.zeros(14, bool)
        raise MissingError(
            f"motion needs the robot's model: {error.message}",
            hint=f"{error.hint}; or write no motion: --allow motion",
            where=error.where,
        ) from error


def motion_mask(card: Card, allow: frozenset[str]) -> tuple[bool, ...]:
    """Which of the 14 motion channels a robot has."""
    _, mask = motion_of(card, np.asarray([card.home()]), allow)
    return tuple(bool(m) for m in mask)


class _Tools:
    """Adapter and kinematics of a card; the kinematics are loaded when first needed."""

    def __init__(self, card: Card) -> None:
        self.adapter = ActionAdapter(card)
        self.joint_adapter = ActionAdapter(_with_joint_actions(card))

    @property
    def kinematics(self) -> Kinematics:
        return self.adapter.kinematics


@lru_cache(maxsize=4)
def _tools(card_json: str) -> _Tools:
    return _Tools(Card.model_validate_json(card_json))


def _with_joint_actions(card: Card) -> Card:
    spec = ActionSpec(representation="joint_position")
    return card.model_copy(update={"action": spec, "action_order": card.state_order})


def _action(
    recording: Recording,
    card: Card,
    adapter: ActionAdapter,
    told: tuple[np.ndarray, np.ndarray],
    state: np.ndarray | None,
) -> np.ndarray:
    wanted = recorded_kind(card)
    kind = recording.action_kind or _guess_kind(card, told[0].shape[1])
    if kind == wanted:
        return adapter.encode_action(adapter.as_recorded("action", *told), state)
    if kind == "joint_position":
        joints = _tools(card.model_dump_json()).joint_adapter
        return adapter.command(joints.encode_action(joints.as_recorded("action", *told)))
    raise DataError(
        f"{recording.name}: its actions are {kind}, the card '{card.name}' has {wanted}, "
        "and the one cannot be made from the other",
        hint="have the action made from the following state: mapping `action: []`",
    )


def recorded_kind(card: Card) -> str:
    """What the card says that its robot's recordings hold: targets, or changes."""
    representation = card.action.representation
    if card.action.delta is None:
        return representation
    return "joint_delta" if representation == "joint_position" else "ee_delta"


def _guess_kind(card: Card, width: int) -> str:
    """Actions of unknown kind are the card's, or joints where only those have this width."""
    if width != len(card.recorded_action) and width == len(card.recorded_state):
        return "joint_position"
    return recorded_kind(card)


def _following(adapter: ActionAdapter, state: np.ndarray) -> np.ndarray:
    """action[i] = state[i + 1], the last repeated, in the card's representation."""
    return adapter.command(np.concatenate([state[1:], state[-1:]]))


@contextmanager
def _allowing(name: str, allow: frozenset[str] | None, passed: dict[str, str]) -> Iterator[None]:
    """Let through what is allowed and note the first of it; say of the rest how it could be.

    With None nothing could let it through.
    """
    try:
        yield
    except DataError as error:
        if allow is None:
            raise
        if name in allow:
            passed.setdefault(name, error.message)
            return
        hint = f"{error.hint or ''}; --allow {name} lets it through".removeprefix("; ")
        raise DataError(error.message, hint=hint, where=error.where) from error


@contextmanager
def _placed(where: str) -> Iterator[None]:
    """Say which recording an error is about."""
    try:
        yield
    except DataError as error:
        message = error.message if where in error.message else f"{where}: {error.message}"
        raise DataError(message, hint=error.hint, where=where) from error
