"""Between the numbers of a recording and the card's: order, unit, sign, orientation."""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from motus_embodiments.cards import list_cards
from motus_embodiments.errors import DataError
from motus_embodiments.numbers.orientations import NAMES, Orientation, from_native, to_native
from motus_embodiments.schema import Card

What = Literal["state", "action"]
_Turn = tuple[slice, slice, Orientation]  # columns as recorded, columns of the channels, form


class NativeMap:
    """Recorded states or actions to the card's order and SI units, and back.

    Linear channels: canonical = native * factor + zero. Orientations change their form as well.
    An action's changes (`ActionSpec.delta`) stay changes here; they have no zero.
    """

    def __init__(self, card: Card, what: What) -> None:
        self.card, self.what = card, what
        state = what == "state"
        self.names = card.recorded_state if state else card.recorded_action
        order = (card.state_order if state else card.action_order) or self.names
        self.columns = [order.index(name) for name in self.names]
        channels = card.state_channels if state else card.action_channels
        self.width = len(channels)
        self._linear: list[tuple[int, int]] = []  # (as recorded, as channel)
        self._turns: list[_Turn] = []
        self._factor, self._zero = np.ones(self.width), np.zeros(self.width)
        self._lay_out()

    def encode(self, native: Float[ndarray, "... n"]) -> Float[ndarray, "... c"]:
        """Recorded numbers to canonical ones."""
        native = self._floats(native, len(self.names))[..., self.columns]
        out = np.empty((*native.shape[:-1], self.width))
        for there, here in self._linear:
            out[..., here] = native[..., there]
        for recorded, vector, form in self._turns:
            scaled = native[..., recorded] * self._turn_scale
            out[..., vector] = from_native(scaled, form)
        return out * self._factor + self._zero

    def decode(self, canonical: Float[ndarray, "... c"]) -> Float[ndarray, "... n"]:
        """Canonical numbers to recorded ones."""
        canonical = (self._floats(canonical, self.width) - self._zero) / self._factor
        native = np.empty((*canonical.shape[:-1], len(self.names)))
        for there, here in self._linear:
            native[..., self.columns[there]] = canonical[..., here]
        for recorded, vector, form in self._turns:
            turned = to_native(canonical[..., vector], form) / self._turn_scale
            native[..., self.columns[recorded]] = turned
        return native

    def as_recorded(
        self, values: Float[ndarray, "... n"], canonical: Bool[ndarray, " n"]
    ) -> Float[ndarray, "... n"]:
        """Recorded numbers of which some are in canonical units already, all as if recorded."""
        out = self._floats(values, len(self.names)).copy()
        for there, here in self._linear:
            column = self.columns[there]
            if canonical[column]:
                out[..., column] = (out[..., column] - self._zero[here]) / self._factor[here]
        for recorded, _, _ in self._turns:
            turned = [column for column in self.columns[recorded] if canonical[column]]
            out[..., turned] /= self._turn_scale
        return out

    def _lay_out(self) -> None:
        """Find where each channel stands, and what it is multiplied with."""
        card, spec = self.card, self.card.action
        channels = card.state_channels if self.what == "state" else card.action_channels
        is_change = self.what == "action" and spec.delta is not None
        self._turn_scale = spec.rotation_scale if self.what == "action" else 1.0
        joints = {j.name: j for arm in card.arms for j in arm.joints} | {
            j.name: j for j in card.joints
        }
        grippers = {arm.gripper_name: arm.gripper for arm in card.arms if arm.gripper}
        poses = {arm.side: arm.pose for arm in card.arms}
        there = here = 0
        while here < len(channels):
            channel = channels[here]
            if channel.kind == "rotation":
                assert channel.side is not None
                form = poses[channel.side] if self.what == "state" else spec.orientation
                assert form is not None
                wide = len(NAMES[form])
                self._turns.append((slice(there, there + wide), slice(here, here + 3), form))
                there, here = there + wide, here + 3
                continue
            if channel.kind == "joint":
                self._factor[here] = joints[channel.name].factor
                self._zero[here] = 0.0 if is_change else joints[channel.name].zero
            elif channel.kind == "position" and self.what == "action":
                self._factor[here] = spec.position_scale
            elif channel.kind == "gripper":
                closed, opened = grippers[channel.name].span(self.what)
                self._factor[here] = 1 / (opened - closed)
                self._zero[here] = -closed / (opened - closed)
            self._linear.append((there, here))
            there, here = there + 1, here + 1

    def _floats(self, values: Float[ndarray, "... n"], width: int) -> Float[ndarray, "... n"]:
        values = np.asarray(values, np.float64)
        if values.ndim == 0 or values.shape[-1] != width:
            raise _wrong_width(
                self.card, self.what, self.names, values.shape[-1] if values.ndim else 1
            )
        return values


def _wrong_width(card: Card, what: What, names: tuple[str, ...], found: int) -> DataError:
    more = ", ..." if len(names) > 8 else ""
    fitting = [f"'{other.name}'" for other, _ in list_cards() if _width(other, what) == found]
    hint = f"a card with {found} {what} channels: {', '.join(fitting)}" if fitting else None
    return DataError(
        f"the {what} has {found} channels, the card '{card.name}' has {len(names)} "
        f"({', '.join(names[:8])}{more})",
        hint=hint or f"no known card has {found} {what} channels; motus add-embodiment makes one",
    )


def _width(card: Card, what: What) -> int:
    return len(card.recorded_state if what == "state" else card.recorded_action)
