"""Which windows of a dataset are looked at, and what a policy observes of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from motus_adapters import Observed, Policy, UnifiedDataset, letterbox
from motus_adapters.exports.formats import WINDOWS
from motus_embodiments import MismatchError, UsageError
from motus_recipes.data.cache import held_out

HELD_OUT, ALL = "heldout", "all"


@dataclass(frozen=True)
class Windows:
    """A recorded episode cut into windows that follow each other."""

    episode: int
    pictures: UInt8[np.ndarray, "n h w 3"]
    future: UInt8[np.ndarray, "n f h w 3"]
    state: Float[np.ndarray, "n s"]
    actions: Float[np.ndarray, "n t a"]
    task: str


def which_episodes(named: int | str, dataset: UnifiedDataset) -> range:
    """Episodes by number, as `FIRST-LAST`, `heldout`, or `all`.

    Raises:
        UsageError: The dataset has no such episodes.
    """
    count, text = len(dataset.episodes), str(named)
    first, dash, last = text.partition("-")
    if text == ALL:
        return range(count)
    if text == HELD_OUT:
        if not held_out(count):
            raise UsageError(f"{dataset.path} has one episode, and none is held out")
        return range(count - held_out(count), count)
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise UsageError(f"'{text}' names no episodes", hint=f"as 3, 10-19, {HELD_OUT} or {ALL}")
    chosen = range(int(first), int(last or first) + 1)
    if not chosen or chosen[-1] >= count:
        raise UsageError(
            f"no episode {text} in {dataset.path}", hint=f"episodes are 0 to {count - 1}"
        )
    return chosen


def cut_all(policy: Policy, dataset: Path, named: int | str) -> list[Windows]:
    """The windows of each of the episodes that `which_episodes` knows by this name."""
    data = UnifiedDataset(dataset)
    return [cut(policy, data, episode) for episode in which_episodes(named, data)]


def cut(policy: Policy, dataset: UnifiedDataset, episode: int) -> Windows:
    """Windows of an episode, each beginning where the last one's actions end.

    Raises:
        MismatchError: The dataset is of another robot.
    """
    _check_robot(policy, dataset)
    height, width = policy.model.config.canvas
    frames = np.stack([letterbox(f, (width, height)) for f in dataset.frames(episode)])
    arrays = dataset.arrays(episode)
    window, rate = policy.config.window, dataset.meta.rate
    last = len(frames) - 1
    ahead = np.round(np.arange(1, window.video_frames + 1) * rate / window.video_rate)
    steps = np.round(np.arange(window.action_steps) * rate / window.action_rate)
    span = max(1, round(window.action_steps * rate / window.action_rate))
    starts = np.arange(0, max(1, len(frames) - span // 2), span)
    return Windows(
        episode=episode,
        pictures=frames[starts],
        future=frames[np.minimum(starts[:, None] + ahead.astype(int), last)],
        state=arrays["state"][starts],
        actions=arrays["action"][np.minimum(starts[:, None] + steps.astype(int), last)],
        task=dataset.episodes[episode].task,
    )


def joined(episodes: Sequence[Windows]) -> Windows:
    """Windows of several episodes as of one; its number and words are the first one's."""
    names = ("pictures", "future", "state", "actions")
    arrays = {name: np.concatenate([getattr(e, name) for e in episodes]) for name in names}
    return replace(episodes[0], **arrays)


def observed_windows(policy: Policy, path: Path, count: int = WINDOWS) -> Observed:
    """Evenly spread frames of a dataset with their states and instructions.

    Args:
        policy: Its canvas and robot.
        path: A unified dataset.
        count: How many at most.

    Raises:
        MismatchError: The dataset is of another robot.
    """
    dataset = UnifiedDataset(path)
    _check_robot(policy, dataset)
    wanted = np.unique(np.linspace(0, dataset.num_frames - 1, count).astype(int))
    canvases, states, tasks, start = [], [], [], 0
    for episode in dataset.episodes:
        rows = set(wanted[(wanted >= start) & (wanted < start + episode.length)] - start)
        if rows:
            own = dataset.arrays(episode.index)["state"]
            frames = dataset.frames(episode.index)
            canvases += [policy.guard.fit(f) for row, f in enumerate(frames) if row in rows]
            states += [own[row] for row in sorted(rows)]
            tasks += [episode.task] * len(rows)
        start += episode.length
    source = f"{dataset.meta.source.name}, {dataset.meta.source.hash[:16]}"
    return Observed(np.stack(canvases), np.stack(states).astype(np.float64), tasks, source)


def _check_robot(policy: Policy, dataset: UnifiedDataset) -> None:
    if dataset.meta.card.name != policy.card.name:
        raise MismatchError(
            f"{dataset.path} was recorded on '{dataset.meta.card.name}', "
            f"the policy is for '{policy.card.name}'"
        )
