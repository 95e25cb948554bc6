"""Values against a card's limits, and what the wrong ones look like."""

import math

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.errors import DataError
from motus_embodiments.numbers.native import What
from motus_embodiments.numbers.pairs import exchange
from motus_embodiments.schema import Card, Channel

# Encoders and controllers overshoot: this much beyond a limit is still a good recording.
_SHARE = 0.02  # of a joint's range
_REACH = 0.01  # m, of a commanded position
_TURN = 1e-3  # rad
_MOVES, _BARELY = 0.005, 0.2  # of a gripper's stroke: that it moves, that it hardly opens
_DEGREE = math.pi / 180
_TURNS = 4 * math.pi  # rad, two turns: further than a joint without stated limits is turned


def check_limits(card: Card, values: Float[ndarray, "T n"], kind: What, where: str) -> None:
    """Check canonical values against limits, with a small allowance for overshoot.

    Raises:
        DataError: Names channel, value, limit and frame of the worst value.
    """
    channels = card.state_channels if kind == "state" else card.action_channels
    low, high = allowed(card, channels)
    place = f" of {where}" if where else ""
    if not np.isfinite(values).all():
        frame, column = (int(x) for x in np.argwhere(~np.isfinite(values))[0])
        raise DataError(
            f"{kind} '{channels[column].name}' is {values[frame, column]} at frame {frame}{place}",
            hint="numbers that are not finite cannot be learned from; drop the recording",
            where=where or None,
        )
    if not values.size:
        return
    beyond = np.maximum(low - values, values - high)
    if beyond.max() <= 0:
        _check_degrees(card, channels, values, kind, where)
        return
    frame, column = (int(x) for x in np.unravel_index(np.argmax(beyond), beyond.shape))
    channel, value = channels[column], values[frame, column]
    unit = "" if channel.unit == "1" else f" {channel.unit}"
    least, most = max(channel.low, low[column]), min(channel.high, high[column])
    raise DataError(
        f"{kind} '{channel.name}' is {value:.4g}{unit} at frame {frame}{place}; "
        f"the card '{card.name}' allows {least:.4g} to {most:.4g}{unit}",
        hint=_explanation(card, kind, channels, values, low, high, channel)
        or "is it another robot, or another order of channels? "
        "motus embodiments show prints the card's limits",
        where=where or None,
    )


def remarks_on(
    card: Card, low: Float[ndarray, " n"], high: Float[ndarray, " n"]
) -> tuple[str, ...]:
    """What the range of all states of a source makes one doubt, though no value proves it.

    Args:
        card: The robot.
        low: Smallest canonical value of each channel over all recordings.
        high: Largest.
    """
    remarks = []
    for channel, least, most in zip(card.state_channels, low, high, strict=True):
        if channel.kind == "gripper" and most - least > _MOVES and most < _BARELY:
            remarks.append(
                f"'{channel.name}' never opens beyond {most:.2g} of its stroke: is it recorded in "
                "m? give the gripper closed and open in the card"
            )
    return tuple(remarks)


def allowed(
    card: Card, channels: tuple[Channel, ...]
) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"]]:
    """Limits of a card's channels, with the allowance of each kind."""
    slack = {arm.gripper_name: arm.gripper.slack for arm in card.arms if arm.gripper}
    joints = [*(joint for arm in card.arms for joint in arm.joints), *card.joints]
    slack |= {joint.name: joint.slack for joint in joints if joint.slack is not None}
    low, high = np.array([c.low for c in channels]), np.array([c.high for c in channels])
    spare = np.array([_allowance(c, slack) for c in channels])
    turns = np.array([c.kind == "joint" and c.unit == "rad" for c in channels], bool)
    low[turns & np.isinf(low)], high[turns & np.isinf(high)] = -_TURNS, _TURNS
    return low - spare, high + spare


def _check_degrees(
    card: Card, channels: tuple[Channel, ...], values: Float[ndarray, "T n"], kind: What, where: str
) -> None:
    """Refuse radians where the card says degrees: they would leave an arm stretched at zero.

    Raises:
        DataError: All of at least three such joints stay within 2 pi degrees, though one of them
            is at home further out.
    """
    joints = {j.name: j for arm in card.arms for j in arm.joints if j.unit == "deg" and not j.zero}
    columns = [i for i, c in enumerate(channels) if c.name in joints]
    if (kind == "action" and card.action.delta is not None) or len(columns) < 3:
        return
    near = np.abs(values[:, columns]).max() <= 2 * math.pi * _DEGREE
    at_home = max(abs(joint.home) for joint in joints.values())
    if near and at_home > 0.3 and np.ptp(values[:, columns], axis=0).max() > 1e-4:
        raise DataError(
            f"no joint of the {kind} leaves {2 * math.pi:.3g} degrees of zero"
            f"{f' in {where}' if where else ''}; the angles look like radians",
            hint="set unit: rad for these joints in the card",
            where=where or None,
        )


def _allowance(channel: Channel, slack: dict[str, float]) -> float:
    if channel.name in slack:
        return slack[channel.name]
    if channel.kind == "position":
        return _REACH
    if channel.kind == "rotation":
        return _TURN
    span = channel.high - channel.low
    return _SHARE * span if math.isfinite(span) else 0.0


def _explanation(
    card: Card,
    kind: What,
    channels: tuple[Channel, ...],
    values: Float[ndarray, "T n"],
    low: Float[ndarray, " n"],
    high: Float[ndarray, " n"],
    worst: Channel,
) -> str | None:
    """What the numbers look like instead, where they show it."""
    if worst.kind == "gripper":
        column = values[:, [c.name for c in channels].index(worst.name)]
        closed, opened = next(
            arm.gripper.span(kind)
            for arm in card.arms
            if arm.gripper and arm.gripper_name == worst.name
        )
        recorded = closed + column * (opened - closed)
        least, most = float(recorded.min()), float(recorded.max())
        return _gripper_explanation(worst.name, least, most, opened if closed == 0 else None)
    turns = [
        i for i, c in enumerate(channels) if c.kind in ("joint", "rotation") and c.unit == "rad"
    ]
    fits = _within(values[:, turns] * _DEGREE, low[turns], high[turns])
    if turns and np.abs(values[:, turns]).max() > 2 * math.pi and fits:
        return "the angles look like degrees: set unit: deg for these joints in the card"
    swapped = exchange(channels)
    if swapped is not None and _within(values[:, swapped], low, high):
        return "the values fit with left and right arm exchanged: give state_order, action_order"
    return None


def _gripper_explanation(name: str, least: float, most: float, opened: float | None) -> str:
    """What a gripper's recorded values look like; `opened` is the card's where closed is 0."""
    if opened:
        low, high = sorted((least / opened, most / opened))
        if -1.02 <= low < -0.02 and high <= 0.02:
            turned = f"{-opened:g}"
            return (
                f"'{name}' lies in {turned}..0: its sign is turned; set open: {turned} in the card"
            )
    if -1.02 <= least < -0.02 and most <= 1.02:
        return f"'{name}' looks like -1..1: set closed: -1.0 (or 1.0, if that is closed) and open"
    for scale in (1.0, 100.0, 255.0, 1000.0):
        if least >= -0.02 * scale and scale / 2 < most <= scale * 1.02:
            return f"'{name}' looks like 0..{scale:g}: set closed and open in the card"
    return f"'{name}' spans {least:.4g} to {most:.4g}: set closed and open in the card to its ends"


def _within(
    values: Float[ndarray, "T n"], low: Float[ndarray, " n"], high: Float[ndarray, " n"]
) -> bool:
    return bool(((values >= low) & (values <= high)).all())
