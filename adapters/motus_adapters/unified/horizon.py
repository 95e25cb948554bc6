"""The actions that follow each frame, and their statistics, which are the dataset's."""

import os
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float

from motus_adapters.files import read_json, write_json
from motus_adapters.unified.manifest import hash_json
from motus_adapters.unified.reading import UnifiedDataset
from motus_adapters.unified.statistics import Channels, Stats, episode_stats
from motus_embodiments import ActionAdapter, Card

ACTION_STATS = "meta/action_stats.json"


def action_chunks(
    arrays: Mapping[str, np.ndarray],
    adapter: ActionAdapter,
    rate: float,
    steps: int,
    action_rate: float,
) -> Float[np.ndarray, "n t a"]:
    """The action chunk after each frame of an episode, as the network learns actions.

    Relative to the frame's state where the card says so; past the end of the episode the last
    action is held. No columns where the episode has no action or no state.

    Args:
        arrays: `UnifiedDataset.arrays` of the episode.
        adapter: Of the dataset's card.
        rate: Frames a second.
        steps: Actions in a chunk.
        action_rate: Actions a second.
    """
    length = len(next(iter(arrays.values())))
    if "action" not in arrays or "state" not in arrays:
        return np.zeros((length, steps, 0), np.float32)
    ahead = np.round(np.arange(steps) * rate / action_rate).astype(int)
    rows = np.minimum(np.arange(length)[:, None] + ahead, length - 1)
    return adapter.relative(arrays["action"][rows], arrays["state"]).astype(np.float32)


def chunk_statistics(
    dataset: UnifiedDataset, steps: int, action_rate: float
) -> Mapping[str, Stats]:
    """Statistics of a dataset's action chunks: "absolute", and "relative" to their first frame.

    They depend on the horizon, and are kept with the dataset for each: `meta/action_stats.json`,
    under a hash of the dataset's contract and the horizon. Streamed, so that memory does not grow
    with the number of episodes; keys as in LeRobot's statistics.

    Args:
        dataset: With states and actions; one without gives no statistics.
        steps: Actions in a chunk.
        action_rate: Actions a second.
    """
    if not (dataset.meta.has_action and dataset.meta.has_state):
        return {}
    terms = {"contract": dataset.meta.contract, "steps": steps, "rate": action_rate}
    key = hash_json(terms | {"episodes": len(dataset.episodes), "frames": dataset.num_frames})
    path = dataset.path / ACTION_STATS
    known = read_json(path) if path.exists() else {}
    if key in known:
        return {name: known[key][name] for name in ("absolute", "relative")}
    made = {
        name: _measure(dataset, card, steps, action_rate)
        for name, card in (
            ("absolute", _with_relative(dataset.meta.card, relative=False)),
            ("relative", _with_relative(dataset.meta.card, relative=True)),
        )
    }
    if os.access(path.parent, os.W_OK):  # one that may only be read is measured each time
        write_json(path, known | {key: terms | made})
    return made


def _measure(dataset: UnifiedDataset, card: Card, steps: int, action_rate: float) -> Stats:
    adapter, channels = ActionAdapter(card), Channels()
    for values in _episodes(dataset, adapter, steps, action_rate):
        channels.add(episode_stats(values))
    for values in _episodes(dataset, adapter, steps, action_rate):
        channels.fill(values)
    return channels.result()


def _episodes(
    dataset: UnifiedDataset, adapter: ActionAdapter, steps: int, action_rate: float
) -> Iterator[np.ndarray]:
    for episode in dataset.episodes:
        arrays = dataset.arrays(episode.index)
        chunks = action_chunks(arrays, adapter, dataset.meta.rate, steps, action_rate)
        yield chunks.reshape(-1, chunks.shape[-1])


def _with_relative(card: Card, *, relative: bool) -> Card:
    return card.model_copy(update={"action": card.action.model_copy(update={"relative": relative})})
