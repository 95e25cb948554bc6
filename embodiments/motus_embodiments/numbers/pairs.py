"""What actions say against the states beside them: what no limit can show.

A command comes before the state that obeys it. Each check fires only where the numbers prove the
mistake: another explanation must fit at least twice as well as the honest one.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.errors import DataError
from motus_embodiments.schema import Card, Channel

_FRAMES = 20  # a shorter recording proves nothing about time
_EARLIEST, _LATEST = -3, 8  # frames by which states are compared to lag behind commands
_HALF = 0.5  # how much better the other explanation must fit


def check_pair(
    card: Card,
    state: Float[ndarray, "T n"],
    action: Float[ndarray, "T a"],
    told: Float[ndarray, "T a"] | None,
    where: str,
) -> None:
    """Check a recording's actions against its states.

    Args:
        card: The robot.
        state: Canonical states.
        action: Canonical actions of the same frames.
        told: The states as actions that command them; None where that cannot be known.
        where: Name of the recording.

    Raises:
        DataError: A gripper's command runs against its opening or has another scale, the arms are
            exchanged, or the actions come too late or too early.
    """
    place = f" in {where}" if where else ""
    if told is not None and len(state) and _arms_exchanged(card.action_channels, told, action):
        raise DataError(
            f"the actions of the left arm follow the right arm's states{place}, and the other "
            "way round",
            hint="the arms are swapped in one of the two; give action_order in the card",
            where=where or None,
        )
    names = [channel.name for channel in card.state_channels]
    for column, channel in enumerate(card.action_channels):
        if channel.kind == "gripper":
            opening = state[:, names.index(channel.name)]
            _check_gripper(channel.name, action[:, column], opening, place, where)
    if told is not None:
        _check_time(card, told, action, place, where)


def lag_of(
    card: Card, told: Float[ndarray, "T a"], action: Float[ndarray, "T a"]
) -> tuple[int, dict[int, float]] | None:
    """Frames after which states fit the actions best, and the misfit at each lag.

    None where the recording is too short or too still to tell.

    Args:
        card: The robot.
        told: States as actions.
        action: Actions of the same frames.
    """
    columns = [i for i, c in enumerate(card.action_channels) if c.kind in ("joint", "position")]
    told, action = told[:, columns], action[:, columns]
    span = np.ptp(told, axis=0) if len(told) else np.zeros(0)
    moving = span > 0.02  # rad or m
    rows = np.arange(-_EARLIEST, len(told) - _LATEST)
    if len(rows) < _FRAMES or not moving.any():
        return None
    told, action = told[:, moving] / span[moving], action[:, moving] / span[moving]
    misfit = {
        lag: float(np.abs(told[rows + lag] - action[rows]).mean())
        for lag in range(_EARLIEST, _LATEST + 1)
    }
    return min(misfit, key=lambda lag: (misfit[lag], lag)), misfit


def _check_time(
    card: Card,
    told: Float[ndarray, "T a"],
    action: Float[ndarray, "T a"],
    place: str,
    where: str,
) -> None:
    found = lag_of(card, told, action)
    if found is None:
        return
    lag, misfit = found
    wanted = card.action.lag
    if wanted is not None and lag != wanted and misfit[lag] < 0.9 * misfit[wanted]:
        raise DataError(
            f"the states follow the actions after {lag} frames{place}; the card '{card.name}' "
            f"says {wanted}",
            hint=f"the actions are recorded {abs(wanted - lag)} frames too "
            f"{'late' if lag < wanted else 'early'}; or change action.lag in the card",
            where=where or None,
        )
    if wanted is None and lag <= 0 and misfit[lag] < _HALF * misfit[1]:
        what = (
            "the actions are the states of the same frames"
            if lag == 0 and misfit[0] < 1e-6
            else f"the actions come {1 - lag} frames after the states that obey them"
        )
        raise DataError(
            what + place,
            hint="a command must come before its state; have actions made from the following "
            "state with the mapping `action: []`",
            where=where or None,
        )


def _check_gripper(
    name: str,
    command: Float[ndarray, " T"],
    opening: Float[ndarray, " T"],
    place: str,
    where: str,
) -> None:
    if _runs_against(command, opening):
        raise DataError(
            f"the action of '{name}' runs against its state{place}: one of them is inverted",
            hint="give the gripper action_closed and action_open in the card "
            "(open is 1 after conversion)",
            where=where or None,
        )
    for what, small, other, large in (
        ("action", command, "state", opening),
        ("state", opening, "action", command),
    ):
        if _is_scaled(small, large):
            raise DataError(
                f"the {what} of '{name}' never leaves {small.min():.3g} to {small.max():.3g}"
                f"{place}, though the {other} opens to {large.max():.3g}: another scale",
                hint=f"give the gripper its ends in recordings of the {what}: "
                + ("action_closed, action_open" if what == "action" else "closed, open"),
                where=where or None,
            )


def _runs_against(command: Float[ndarray, " T"], opening: Float[ndarray, " T"]) -> bool:
    """Whether 1 - command explains the next opening far better than the command does."""
    if len(opening) < 10 or np.ptp(command) < 0.3 or np.ptp(opening) < 0.3:
        return False
    after = opening[1:]
    straight = np.abs(after - command[:-1]).mean()
    turned = np.abs(after - (1 - command[:-1])).mean()
    return bool(turned < _HALF * straight and np.corrcoef(after, command[:-1])[0, 1] < -0.6)


def _is_scaled(small: Float[ndarray, " T"], large: Float[ndarray, " T"]) -> bool:
    """Whether `small` follows `large`, but stays near 0 where that is wide open."""
    is_open = large > 0.8
    if len(small) < 10 or small.max() > 0.2 or is_open.mean() < 0.2 or np.ptp(small) < 1e-3:
        return False
    return bool(np.ptp(large) > 0.3 and np.corrcoef(small, large)[0, 1] > 0.6)


def _arms_exchanged(
    channels: tuple[Channel, ...], told: Float[ndarray, "T a"], action: Float[ndarray, "T a"]
) -> bool:
    """Whether the actions lie far closer to the states with the arms exchanged."""
    swapped = exchange(channels)
    columns = [
        i for i, c in enumerate(channels) if c.side and c.kind in ("joint", "position", "rotation")
    ]
    if swapped is None:
        return False
    straight = _nearest(action[:, columns], told[:, columns])
    crossed = _nearest(action[:, swapped][:, columns], told[:, columns])
    return bool(straight > 0.1 and crossed < _HALF * straight)


def _nearest(action: Float[ndarray, "T k"], told: Float[ndarray, "T k"]) -> float:
    """Mean distance of states from the commands they obey, at the lag that suits them best."""
    lags = range(min(_LATEST, len(told)))
    return min(float(np.abs(told[k:] - action[: len(told) - k]).mean()) for k in lags)


def exchange(channels: tuple[Channel, ...]) -> list[int] | None:
    """Columns with the arms exchanged, None where they are not alike."""
    left = [i for i, c in enumerate(channels) if c.side == "left"]
    right = [i for i, c in enumerate(channels) if c.side == "right"]
    if not left or [channels[i].kind for i in left] != [channels[i].kind for i in right]:
        return None
    columns = list(range(len(channels)))
    for a, b in zip(left, right, strict=True):
        columns[a], columns[b] = b, a
    return columns
