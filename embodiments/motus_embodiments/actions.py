"""The action contract of a card: native to canonical and back, and relative to a state."""

from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments import checks
from motus_embodiments.cards import list_cards
from motus_embodiments.errors import DataError
from motus_embodiments.kinematics import Kinematics, gripper_column
from motus_embodiments.rotations import relative_vector, to_matrix, to_vector
from motus_embodiments.schema import Card, Channel, Joint

What = Literal["state", "action"]


class ActionAdapter:
    """Translates one robot's numbers.

    Law: `decode_x(encode_x(a)) == a` and `absolute(relative(a, s), s) == a`, to rounding.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self._maps = {
            "state": _Map(card, "state", card.state_channels, card.state_order),
            "action": _Map(card, "action", card.action_channels, card.action_order),
        }

    @cached_property
    def kinematics(self) -> Kinematics:
        """Kinematics of the card, loaded when first needed."""
        return Kinematics(self.card)

    def encode_state(self, native: Float[ndarray, "... n"]) -> Float[ndarray, "... n"]:
        """Recorded state to the card's order and SI units."""
        return self._maps["state"].encode(native)

    def decode_state(self, canonical: Float[ndarray, "... n"]) -> Float[ndarray, "... n"]:
        """Canonical state to the recordings' order and units."""
        return self._maps["state"].decode(canonical)

    def encode_action(self, native: Float[ndarray, "... a"]) -> Float[ndarray, "... a"]:
        """Recorded action to the card's order and SI units."""
        return self._maps["action"].encode(native)

    def decode_action(self, canonical: Float[ndarray, "... a"]) -> Float[ndarray, "... a"]:
        """Canonical action to the robot's order and units."""
        return self._maps["action"].decode(canonical)

    def check(self, values: Float[ndarray, "T n"], kind: What, where: str = "") -> None:
        """Check canonical values against the card's limits.

        Raises:
            DataError: With channel, value, limit and frame; the hint names degrees for radians,
                a gripper in other units, and swapped arms, where the numbers show it.
        """
        checks.check_limits(self.card, np.asarray(values, np.float64), kind, where)

    def check_pair(
        self, state: Float[ndarray, "T n"], action: Float[ndarray, "T a"], where: str = ""
    ) -> None:
        """Check canonical states and actions against each other.

        Raises:
            DataError: An action's gripper runs against its state, or its arms are exchanged.
        """
        checks.check_pair(self.card, np.asarray(state), np.asarray(action), where)

    def command(self, state: Float[ndarray, "T n"]) -> Float[ndarray, "T a"]:
        """The canonical actions that command these canonical states."""
        state = np.asarray(state, np.float64)
        if self.card.action.representation == "joint_position":
            return state.copy()
        poses = self.kinematics.poses(state)
        columns: list[Float[ndarray, "T k"]] = []
        for a, arm in enumerate(self.card.arms):
            columns.append(poses[:, a, :3, 3])
            if self.card.action.representation == "ee_pose":
                columns.append(to_vector(poses[:, a, :3, :3]))
            if arm.gripper:
                columns.append(state[:, [gripper_column(self.card, arm)]])
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
        return self._shift(action, state, forward=True)

    def absolute(
        self, action: Float[ndarray, "... a"], state: Float[ndarray, "... n"]
    ) -> Float[ndarray, "... a"]:
        """Inverse of `relative`."""
        return self._shift(action, state, forward=False)

    def _shift(
        self, action: Float[ndarray, "... a"], state: Float[ndarray, "... n"], *, forward: bool
    ) -> Float[ndarray, "... a"]:
        out = np.array(action, np.float64)
        state = np.asarray(state, np.float64)
        _check_shapes(self.card, out, state)
        if not self.card.action.relative:
            return out
        wide = (*state.shape[:-1], *(1,) * (out.ndim - state.ndim))
        if self.card.action.representation == "joint_position":
            joints = [i for i, c in enumerate(self.card.action_channels) if c.kind == "joint"]
            offset = state.reshape(*wide, -1)[..., joints]
            out[..., joints] += -offset if forward else offset
            return out
        poses = self.kinematics.poses(state.reshape(-1, state.shape[-1]))
        column = 0
        for a, arm in enumerate(self.card.arms):
            p = poses[:, a, :3, 3].reshape(*wide, 3)
            out[..., column : column + 3] += -p if forward else p
            column += 3
            if self.card.action.representation == "ee_pose":
                R = poses[:, a, :3, :3].reshape(*wide, 3, 3)
                turn = to_matrix(out[..., column : column + 3])
                out[..., column : column + 3] = (
                    relative_vector(R, turn) if forward else to_vector(R @ turn)
                )
                column += 3
            column += arm.gripper is not None
        return out


class _Map:
    """canonical[order] = (native - offset) * factor."""

    def __init__(
        self, card: Card, what: What, channels: tuple[Channel, ...], order: tuple[str, ...]
    ) -> None:
        self.card, self.what = card, what
        names = [channel.name for channel in channels]
        self.columns = [order.index(name) for name in names] if order else list(range(len(names)))
        self.factor, self.offset = np.ones(len(names)), np.zeros(len(names))
        joints = _joints(card)
        grippers = {arm.gripper_name: arm.gripper for arm in card.arms if arm.gripper}
        for i, channel in enumerate(channels):
            if channel.kind == "joint":
                self.factor[i] = joints[channel.name].factor
            elif channel.kind == "gripper":
                closed, opened = grippers[channel.name].span(what)
                self.factor[i], self.offset[i] = 1 / (opened - closed), closed

    def encode(self, native: Float[ndarray, "... n"]) -> Float[ndarray, "... n"]:
        native = self._floats(native)
        return (native[..., self.columns] - self.offset) * self.factor

    def decode(self, canonical: Float[ndarray, "... n"]) -> Float[ndarray, "... n"]:
        canonical = self._floats(canonical)
        native = np.empty_like(canonical)
        native[..., self.columns] = canonical / self.factor + self.offset
        return native

    def _floats(self, values: Float[ndarray, "... n"]) -> Float[ndarray, "... n"]:
        values = np.asarray(values, np.float64)
        if values.ndim == 0 or values.shape[-1] != len(self.columns):
            raise _wrong_width(self.card, self.what, values.shape[-1] if values.ndim else 1)
        return values


def _joints(card: Card) -> dict[str, Joint]:
    arms = (joint for arm in card.arms for joint in arm.joints)
    return {joint.name: joint for joint in (*arms, *card.joints)}


def _channels(card: Card, what: What) -> tuple[Channel, ...]:
    return card.state_channels if what == "state" else card.action_channels


def _wrong_width(card: Card, what: What, found: int) -> DataError:
    channels = _channels(card, what)
    names = ", ".join(channel.name for channel in channels[:8])
    more = ", ..." if len(channels) > 8 else ""
    fitting = [
        f"'{other.name}'" for other, _ in list_cards() if len(_channels(other, what)) == found
    ]
    hint = f"a card with {found} {what} channels: {', '.join(fitting)}" if fitting else None
    return DataError(
        f"the {what} has {found} channels, the card '{card.name}' has {len(channels)} "
        f"({names}{more})",
        hint=hint or f"no known card has {found} {what} channels; motus add-embodiment makes one",
    )


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
