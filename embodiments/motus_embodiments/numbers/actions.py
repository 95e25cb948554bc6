"""The action contract of a card: native to canonical and back, and relative to a state."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from motus_embodiments.errors import DataError, MissingError
from motus_embodiments.kinematics import Kinematics
from motus_embodiments.numbers.changes import (
    Axes,
    chained_changes,
    chained_targets,
    change_of,
    target_of,
)
from motus_embodiments.numbers.checks import check_limits, remarks_on
from motus_embodiments.numbers.native import NativeMap, What
from motus_embodiments.numbers.pairs import check_pair
from motus_embodiments.numbers.rotations import to_vector
from motus_embodiments.schema import Card

_Shift = Callable[[Card, ndarray, ndarray, Axes], ndarray]


class ActionAdapter:
    """Translates one robot's numbers.

    Law: `decode_x(encode_x(a)) == a` and `absolute(relative(a, s), s) == a`, to rounding.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self._state = NativeMap(card, "state")
        self._action = NativeMap(card, "action")

    @cached_property
    def kinematics(self) -> Kinematics:
        """Kinematics of the card, loaded when first needed."""
        return Kinematics(self.card)

    def as_recorded(
        self, what: What, values: Float[ndarray, "... m"], canonical: Bool[ndarray, " m"]
    ) -> Float[ndarray, "... m"]:
        """Numbers in the recordings' order, some of them canonical already, all as if recorded.

        A dataset may tell the units of some of its channels better than the card does.
        """
        return (self._state if what == "state" else self._action).as_recorded(values, canonical)

    def encode_state(self, native: Float[ndarray, "... m"]) -> Float[ndarray, "... n"]:
        """Recorded state to the card's order and SI units."""
        return self._state.encode(native)

    def decode_state(self, canonical: Float[ndarray, "... n"]) -> Float[ndarray, "... m"]:
        """Canonical state to the recordings' order and units."""
        return self._state.decode(canonical)

    def encode_action(
        self, native: Float[ndarray, "... b"], state: Float[ndarray, "... n"] | None = None
    ) -> Float[ndarray, "... a"]:
        """Recorded actions to targets in the card's order and SI units.

        Args:
            native: Recorded actions; [.., T, b] where the card's recordings hold changes.
            state: Canonical states, needed for changes only: those of the same frames [.., T, n],
                or that of the first frame [.., n], and then the robot is taken to reach each
                target.

        Raises:
            DataError: Another number of channels than the card's; changes without states.
        """
        values = self._action.encode(native)
        if self.card.action.delta is None:
            return values
        return self._shifted(values, state, chained_targets, target_of)

    def decode_action(
        self, canonical: Float[ndarray, "... a"], state: Float[ndarray, "... n"] | None = None
    ) -> Float[ndarray, "... b"]:
        """Canonical actions to the robot's order and units; inverse of `encode_action`."""
        if self.card.action.delta is not None:
            canonical = np.asarray(canonical, np.float64)
            canonical = self._shifted(canonical, state, chained_changes, change_of)
        return self._action.decode(canonical)

    def check(self, values: Float[ndarray, "T n"], kind: What, where: str = "") -> None:
        """Check canonical values against the card's limits.

        Raises:
            DataError: With channel, value, limit and frame; the hint names degrees for radians,
                a gripper in other units, and swapped arms, where the numbers show it.
        """
        check_limits(self.card, np.asarray(values, np.float64), kind, where)

    def check_pair(
        self, state: Float[ndarray, "T n"], action: Float[ndarray, "T a"], where: str = ""
    ) -> None:
        """Check canonical states and actions against each other.

        Raises:
            DataError: An action's gripper runs against its state, its arms are exchanged, or it
                comes a frame late.
        """
        state, action = np.asarray(state, np.float64), np.asarray(action, np.float64)
        check_pair(self.card, state, action, self._told(state), where)

    def remarks(self, low: Float[ndarray, " n"], high: Float[ndarray, " n"]) -> tuple[str, ...]:
        """What to doubt about a source whose canonical states span `low` to `high`."""
        return remarks_on(self.card, low, high)

    def command(self, state: Float[ndarray, "T n"]) -> Float[ndarray, "T a"]:
        """The canonical actions that command these canonical states.

        Raises:
            UsageError: Actions are end-effector poses, and the card has no way to know them.
        """
        state = np.asarray(state, np.float64)
        if self.card.action.representation in ("joint_position", "none"):
            return state[:, self._same]
        poses = self.kinematics.poses(state)
        columns: list[Float[ndarray, "T k"]] = []
        for a, arm in enumerate(self.card.arms):
            columns.append(poses[:, a, :3, 3])
            if self.card.action.representation == "ee_pose":
                columns.append(to_vector(poses[:, a, :3, :3]))
            if arm.gripper:
                columns.append(state[:, [self._state_names.index(arm.gripper_name)]])
        return np.concatenate(columns, axis=1)

    def relative(
        self, action: Float[ndarray, "... a"], state: Float[ndarray, "... n"]
    ) -> Float[ndarray, "... a"]:
        """Actions as the network learns them: from the condition frame's state where so stated.

        Joints: q - q_state. End-effector, with p_e and R_e its pose at the state:
        p - p_e along the base frame's axes, and the rotation vector of R_e^T R.
        Grippers stay absolute. A card with `relative: false` gets its actions back.

        Args:
            action: Canonical actions, [.., steps, a].
            state: Canonical states; its leading sizes are the first ones of `action`, so that
                [n] serves every step and [B, n] serves [B, steps, a].
        """
        action = np.array(action, np.float64)
        reference = self._condition(action, state)
        return action if reference is None else change_of(self.card, action, reference, "mixed")

    def absolute(
        self, action: Float[ndarray, "... a"], state: Float[ndarray, "... n"]
    ) -> Float[ndarray, "... a"]:
        """Inverse of `relative`."""
        action = np.array(action, np.float64)
        reference = self._condition(action, state)
        return action if reference is None else target_of(self.card, action, reference, "mixed")

    @cached_property
    def _state_names(self) -> list[str]:
        return [channel.name for channel in self.card.state_channels]

    @cached_property
    def _same(self) -> list[int]:
        """Columns of the state that joint actions command."""
        return [self._state_names.index(channel.name) for channel in self.card.action_channels]

    def _told(self, state: Float[ndarray, "T n"]) -> Float[ndarray, "T a"] | None:
        """`command`, or None where that needs a model that is not here."""
        joints = self.card.action.representation in ("joint_position", "none")
        try:
            return self.command(state) if joints or self.kinematics.has_poses else None
        except MissingError:
            return None

    def _condition(
        self, action: Float[ndarray, "... a"], state: Float[ndarray, "... n"]
    ) -> Float[ndarray, "... a"] | None:
        """The commands of condition states, shaped to stand beside `action`; None if absolute."""
        state = np.asarray(state, np.float64)
        _check_shapes(self.card, action, state)
        if not self.card.action.relative:
            return None
        commands = self.command(state.reshape(-1, state.shape[-1]))
        return commands.reshape(*state.shape[:-1], *(1,) * (action.ndim - state.ndim), -1)

    def _shifted(
        self,
        values: Float[ndarray, "... a"],
        state: Float[ndarray, "... n"] | None,
        chained: _Shift,
        single: _Shift,
    ) -> Float[ndarray, "... a"]:
        """Changes to targets or back, frame by frame, or as a chain from the first state."""
        if state is None or values.ndim < 2:
            raise DataError(
                f"the actions of '{self.card.name}' are changes: they mean something only as a "
                "recording [T, n], beside its states",
                hint="map a state column as well",
            )
        state = np.asarray(state, np.float64)
        if values.ndim > 2 and len(values) == len(state):
            rows = zip(values, state, strict=True)
            return np.stack([self._shifted(v, s, chained, single) for v, s in rows])
        if values.ndim > 2 or (state.ndim == 2 and len(state) != len(values)):
            raise DataError(
                f"actions {list(values.shape)} do not belong to states {list(state.shape)}"
            )
        axes = self.card.action.axes
        if state.ndim == 1 or self.card.action.delta == "command":
            first = self.command(np.atleast_2d(state)[:1])[0]
            return chained(self.card, values, first, axes)
        return single(self.card, values, self.command(state), axes)


def _check_shapes(
    card: Card, action: Float[ndarray, "... a"], state: Float[ndarray, "... n"]
) -> None:
    for what, values in (("action", action), ("state", state)):
        width = len(card.action_channels if what == "action" else card.state_channels)
        if values.ndim == 0 or values.shape[-1] != width:
            raise DataError(f"{what}s of '{card.name}' are [.., {width}], not {list(values.shape)}")
    lead = state.shape[:-1]
    if action.shape[: len(lead)] != lead or len(lead) >= action.ndim:
        raise DataError(
            f"states {list(state.shape)} do not belong to actions {list(action.shape)}",
            hint="the state's leading sizes must be the first ones of the actions",
        )
