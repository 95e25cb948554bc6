"""Real windows of a dataset, as a policy observes them."""

from pathlib import Path

import numpy as np

from motus_adapters import Observed, Policy, UnifiedDataset
from motus_adapters.exports.formats import WINDOWS
from motus_embodiments import MismatchError


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
    if dataset.meta.card.name != policy.card.name:
        raise MismatchError(
            f"{path} was recorded on '{dataset.meta.card.name}', "
            f"the policy is for '{policy.card.name}'"
        )
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
