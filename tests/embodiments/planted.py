"""Recordings of every shipped card, with mistakes planted in them; run it for the table.

python tests/embodiments/planted.py
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from motus_embodiments import ActionAdapter, Card, DataError, MissingError, list_cards
from motus_embodiments.numbers.pairs import exchange
from motus_embodiments.robot_models.finding import model_files

FRAMES = 200


@dataclass(frozen=True)
class Planted:
    """A recording in canonical numbers, as a converter would make them of wrong native ones."""

    state: np.ndarray
    action: np.ndarray


def recording(adapter: ActionAdapter, seed: int, gain: float = 0.6) -> Planted:
    """Smooth goals within the limits, and states that go `gain` of the way in each frame."""
    card = adapter.card
    rng = np.random.default_rng(seed)
    home = np.array(card.home())
    limits = np.array([(c.low, c.high) for c in card.state_channels])
    low = np.where(np.isfinite(limits[:, 0]), limits[:, 0], home - 1)
    high = np.where(np.isfinite(limits[:, 1]), limits[:, 1], home + 1)
    reach = 1.2 if card.action.representation == "joint_position" else 0.1  # the box is small
    low, high = np.maximum(low, home - reach), np.minimum(high, home + reach)
    time = np.arange(FRAMES)[:, None] * 0.05
    width = len(home)
    waves = np.sin(time * rng.uniform(0.6, 1.6, width) + rng.uniform(0, 6, width))
    goals = low + (0.5 + 0.4 * waves) * (high - low)
    for column, channel in enumerate(card.state_channels):
        if channel.kind == "gripper":
            goals[:, column] = np.repeat(rng.permutation([0.0, 1, 0, 1, 0.3]), FRAMES // 5)
    state = np.empty_like(goals)
    state[0] = goals[0]
    lag = card.action.lag
    for t in range(1, FRAMES):
        state[t] = state[t - 1] + gain * (goals[t - 1] - state[t - 1])
        if lag is not None:
            state[t] = goals[max(t - lag, 0)]
    state = np.clip(state + rng.normal(0, 5e-4, state.shape), limits[:, 0], limits[:, 1])
    return Planted(state, adapter.command(goals))


def found(adapter: ActionAdapter, planted: Planted) -> str:
    """What the checks say: message and hint, empty if nothing."""
    try:
        adapter.check(planted.state, "state")
        adapter.check(planted.action, "action")
        adapter.check_pair(planted.state, planted.action)
    except DataError as error:
        return f"{error.message} {error.hint}"
    return ""


def _columns(card: Card, kind: str, what: str) -> list[int]:
    channels = card.state_channels if what == "state" else card.action_channels
    return [i for i, c in enumerate(channels) if c.kind == kind and c.unit in ("rad", "1")]


def _scaled(adapter: ActionAdapter, p: Planted, by: float) -> Planted:
    state, action = p.state.copy(), p.action.copy()
    state[:, _columns(adapter.card, "joint", "state")] *= by
    action[:, _columns(adapter.card, "joint", "action")] *= by
    return Planted(state, action)


def _recorded(adapter: ActionAdapter, p: Planted, shut: float, wide: float) -> Planted:
    """Grippers recorded as `shut` when closed and `wide` when open, whatever the card says."""
    planted = p.state.copy(), p.action.copy()
    grippers = [arm.gripper for arm in adapter.card.arms if arm.gripper]
    for what, values in zip(("state", "action"), planted, strict=True):
        columns = _columns(adapter.card, "gripper", what)
        for gripper, column in zip(grippers if columns else (), columns, strict=True):
            closed, opened = gripper.span(what)
            recorded = shut + values[:, column] * (wide - shut)
            values[:, column] = (recorded - closed) / (opened - closed)
    return Planted(*planted)


def _degrees(adapter: ActionAdapter, p: Planted) -> Planted:
    return _scaled(adapter, p, 180 / np.pi)


def _radians(adapter: ActionAdapter, p: Planted) -> Planted:
    return _scaled(adapter, p, np.pi / 180)


def _percent(adapter: ActionAdapter, p: Planted) -> Planted:
    return _recorded(adapter, p, 0, 100)


def _two_sided(adapter: ActionAdapter, p: Planted) -> Planted:
    return _recorded(adapter, p, -1, 1)


def _metres(adapter: ActionAdapter, p: Planted) -> Planted:
    state = p.state.copy()
    state[:, _columns(adapter.card, "gripper", "state")] *= 0.08
    return Planted(state, p.action)


def _inverted(adapter: ActionAdapter, p: Planted) -> Planted:
    action = p.action.copy()
    grippers = _columns(adapter.card, "gripper", "action")
    action[:, grippers] = 1 - action[:, grippers]
    return Planted(p.state, action)


def _swapped(adapter: ActionAdapter, p: Planted) -> Planted:
    columns = exchange(adapter.card.action_channels)
    assert columns is not None
    return Planted(p.state, p.action[:, columns])


def _late(adapter: ActionAdapter, p: Planted) -> Planted:
    """One frame late, in a recording whose states obey at once."""
    obeying = np.vstack([p.action[:1], p.action[:-1]])  # what the next states are
    return Planted(p.state, obeying)


def _early(adapter: ActionAdapter, p: Planted) -> Planted:
    return Planted(p.state, np.vstack([p.action[1:], p.action[-1:]]))


def _copied(adapter: ActionAdapter, p: Planted) -> Planted:
    return Planted(p.state, adapter.command(p.state))


@dataclass(frozen=True)
class Mistake:
    """A mistake, the words that name it (any of them), and the robots that can have it."""

    plant: Callable[[ActionAdapter, Planted], Planted]
    words: str
    fits: Callable[[Card], bool]
    gain: float = 0.6


def _angles(unit: str) -> Callable[[Card], bool]:
    return lambda card: any(j.unit == unit and j.si == "rad" for a in card.arms for j in a.joints)


def _has_gripper(card: Card) -> bool:
    return any(arm.gripper for arm in card.arms)


def _has_small_gripper(card: Card) -> bool:
    """Whether both 0..100 and -1..1 are mistakes, and seen: a card may have 0..100."""
    spans = [a.gripper.span(what) for a in card.arms if a.gripper for what in ("state", "action")]
    return any(abs(opened - closed) < 10 for closed, opened in spans)


def _has_hand_commands(card: Card) -> bool:
    return _has_gripper(card) and card.action.representation != "none"


def _has_lag(card: Card) -> bool:
    return card.action.lag is not None


def _has_actions(card: Card) -> bool:
    return card.action.representation != "none" and card.action.lag is None


def _has_two_arms(card: Card) -> bool:
    return len(card.arms) == 2 and card.action.representation != "none"


MISTAKES = {
    "degrees for radians": Mistake(_degrees, "degrees", _angles("rad")),
    "radians for degrees": Mistake(_radians, "radians", _angles("deg")),
    "gripper 0..100": Mistake(_percent, "0..100", _has_small_gripper),
    "gripper -1..1": Mistake(_two_sided, "-1..1", _has_small_gripper),
    "gripper state in m": Mistake(_metres, "another scale", _has_hand_commands),
    "gripper action inverted": Mistake(_inverted, "runs against", _has_hand_commands),
    "actions of exchanged arms": Mistake(
        _swapped, "follow the right|exchanged: give", _has_two_arms
    ),
    "actions one frame late": Mistake(_late, "frames after", _has_actions, gain=1.0),
    "actions late, lag known": Mistake(_late, "frames too late", _has_lag),
    "actions early, lag known": Mistake(_early, "frames too early", _has_lag),
    "actions are the states": Mistake(_copied, "same frames", _has_actions),
}


def names(adapter: ActionAdapter, mistake: Mistake, honest: Planted) -> bool:
    """Whether a mistake planted in a recording is found and called by its name."""
    text = found(adapter, mistake.plant(adapter, honest))
    return any(word in text for word in mistake.words.split("|"))


def cards_here() -> list[Card]:
    """Shipped cards whose model, if they have one, is here."""
    cards = []
    for card, _ in list_cards():
        try:
            _ = card.model is None or model_files(card)
        except MissingError:
            continue
        cards.append(card)
    return cards


def rates(card: Card, seeds: range) -> tuple[dict[str, float], float]:
    """Share of planted mistakes that are named, by mistake; share of false alarms."""
    adapter = ActionAdapter(card)
    named = {}
    for name, mistake in MISTAKES.items():
        if mistake.fits(card):
            drawn = (recording(adapter, seed, mistake.gain) for seed in seeds)
            told = [names(adapter, mistake, p) for p in drawn]
            named[name] = sum(told) / len(told)
    honest = [recording(adapter, s, gain) for s in seeds for gain in (0.3, 0.6, 1.0)]
    alarms = [text for text in (found(adapter, p) for p in honest) if text]
    return named, len(alarms) / len(honest)


if __name__ == "__main__":
    count = range(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    for robot in cards_here():
        shares, false = rates(robot, count)
        told = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
        sys.stdout.write(f"{robot.name}: {told}; false alarms {false:.1%}\n")
