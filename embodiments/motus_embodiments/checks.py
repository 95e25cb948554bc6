"""What recordings say against their card: limits, and what the wrong numbers look like."""

import math
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.errors import DataError
from motus_embodiments.schema import Card, Channel

What = Literal["state", "action"]

# Encoders and controllers overshoot: this much beyond a limit is still a good recording.
_SHARE = 0.02  # of a joint's range
_REACH = 0.01  # m, of a commanded position
_TURN = 1e-3  # rad
_DEGREE = math.pi / 180


def check_limits(card: Card, values: Float[ndarray, "T n"], kind: What, where: str) -> None:
    """Check canonical values against limits, with a small allowance for overshoot.

    Raises:
        DataError: Names channel, value, limit and frame of the worst value.
    """
    channels = card.state_channels if kind == "state" else card.action_channels
    low, high = _allowed(card, channels)
    place = f" of {where}" if where else ""
    if not np.isfinite(values).all():
        frame, column = (int(x) for x in np.argwhere(~np.isfinite(values))[0])
        raise DataError(
            f"{kind} '{channels[column].name}' is {values[frame, column]} at frame {frame}{place}",
            hint="numbers that are not finite cannot be learned from; drop the recording",
            where=where or None,
        )
    beyond = np.maximum(low - values, values - high)
    if not len(values) or beyond.max() <= 0:
        return
    frame, column = (int(x) for x in np.unravel_index(np.argmax(beyond), beyond.shape))
    channel, value = channels[column], values[frame, column]
    unit = "" if channel.unit == "1" else f" {channel.unit}"
    raise DataError(
        f"{kind} '{channel.name}' is {value:.4g}{unit} at frame {frame}{place}; "
        f"the card '{card.name}' allows {channel.low:.4g} to {channel.high:.4g}{unit}",
        hint=_explanation(card, channels, values, low, high, channel)
        or "is it another robot, or another order of channels? "
        "motus embodiments show prints the card's limits",
        where=where or None,
    )


def check_pair(
    card: Card, state: Float[ndarray, "T n"], action: Float[ndarray, "T a"], where: str
) -> None:
    """Check a recording's actions against its states: what follows cannot be seen in limits.

    Raises:
        DataError: A gripper's command runs against its opening, or the arms are exchanged.
    """
    place = f" in {where}" if where else ""
    state_names = [channel.name for channel in card.state_channels]
    for column, channel in enumerate(card.action_channels):
        if channel.kind != "gripper":
            continue
        opening = state[:, state_names.index(channel.name)]
        if _runs_against(action[:, column], opening):
            raise DataError(
                f"the action of '{channel.name}' runs against its state{place}: "
                "one of them is inverted",
                hint="give the gripper action_closed and action_open in the card "
                "(open is 1 after conversion)",
                where=where or None,
            )
    if card.action.representation == "joint_position" and _arms_exchanged(card, state, action):
        raise DataError(
            f"the actions of the left arm follow the right arm's states{place}, and the other "
            "way round",
            hint="the arms are swapped in one of the two; give action_order in the card",
            where=where or None,
        )


def _allowed(
    card: Card, channels: tuple[Channel, ...]
) -> tuple[Float[ndarray, " n"], Float[ndarray, " n"]]:
    """Limits with the allowance of each kind of channel."""
    slack = {arm.gripper_name: arm.gripper.slack for arm in card.arms if arm.gripper}
    low, high = np.array([c.low for c in channels]), np.array([c.high for c in channels])
    spare = np.array([_allowance(c, slack) for c in channels])
    return low - spare, high + spare


def _allowance(channel: Channel, slack: dict[str, float]) -> float:
    if channel.kind == "gripper":
        return slack[channel.name]
    if channel.kind == "position":
        return _REACH
    if channel.kind == "rotation":
        return _TURN
    span = channel.high - channel.low
    return _SHARE * span if math.isfinite(span) else 0.0


def _explanation(
    card: Card,
    channels: tuple[Channel, ...],
    values: Float[ndarray, "T n"],
    low: Float[ndarray, " n"],
    high: Float[ndarray, " n"],
    worst: Channel,
) -> str | None:
    """What the numbers look like instead, where they show it."""
    if worst.kind == "gripper":
        column = values[:, [c.name for c in channels].index(worst.name)]
        return _gripper_explanation(worst.name, float(column.min()), float(column.max()))
    turns = [
        i for i, c in enumerate(channels) if c.kind in ("joint", "rotation") and c.unit == "rad"
    ]
    fits = _within(values[:, turns] * _DEGREE, low[turns], high[turns])
    if turns and np.abs(values[:, turns]).max() > 2 * math.pi and fits:
        return "the angles look like degrees: set unit: deg for these joints in the card"
    swapped = _exchange(channels)
    if swapped is not None and _within(values[:, swapped], low, high):
        return "the values fit with left and right arm exchanged: give state_order, action_order"
    return None


def _gripper_explanation(name: str, least: float, most: float) -> str | None:
    if -1.02 <= least < -0.02 and most <= 0.02:
        return f"'{name}' lies in -1..0: its sign is turned; set open: -1.0 in the card"
    if least >= -1.02 and most <= 1.02:
        return f"'{name}' looks like -1..1: set closed: -1.0 (or 1.0, if that is closed) and open"
    for scale in (100.0, 255.0, 1000.0):
        if least >= 0 and scale / 2 < most <= scale * 1.02:
            return f"'{name}' looks like 0..{scale:g}: set closed and open in the card"
    return f"'{name}' spans {least:.4g} to {most:.4g}: set closed and open in the card to its ends"


def _within(
    values: Float[ndarray, "T n"], low: Float[ndarray, " n"], high: Float[ndarray, " n"]
) -> bool:
    return bool(((values >= low) & (values <= high)).all())


def _exchange(channels: tuple[Channel, ...]) -> list[int] | None:
    """Columns with the arms exchanged, None where they are not alike."""
    left = [i for i, c in enumerate(channels) if c.side == "left"]
    right = [i for i, c in enumerate(channels) if c.side == "right"]
    if not left or [channels[i].kind for i in left] != [channels[i].kind for i in right]:
        return None
    columns = list(range(len(channels)))
    for a, b in zip(left, right, strict=True):
        columns[a], columns[b] = b, a
    return columns


def _runs_against(command: Float[ndarray, " T"], opening: Float[ndarray, " T"]) -> bool:
    """Whether 1 - command explains the next opening far better than the command does."""
    if len(opening) < 10 or np.ptp(command) < 0.3 or np.ptp(opening) < 0.3:
        return False
    after = opening[1:]
    straight = np.abs(after - command[:-1]).mean()
    turned = np.abs(after - (1 - command[:-1])).mean()
    return bool(turned < 0.5 * straight and np.corrcoef(after, command[:-1])[0, 1] < -0.6)


def _arms_exchanged(
    card: Card, state: Float[ndarray, "T n"], action: Float[ndarray, "T n"]
) -> bool:
    """Whether the actions lie far closer to the states with the arms exchanged."""
    swapped = _exchange(card.state_channels)
    joints = [i for i, c in enumerate(card.state_channels) if c.kind == "joint" and c.side]
    if swapped is None or not len(state):
        return False
    straight = np.abs(action[:, joints] - state[:, joints]).mean()
    crossed = np.abs(action[:, swapped][:, joints] - state[:, joints]).mean()
    return bool(straight > 0.1 and crossed < 0.25 * straight)
