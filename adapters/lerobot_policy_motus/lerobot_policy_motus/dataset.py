"""A LeRobot dataset as a Motus policy needs it: card, canvas, statistics of its action chunks."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset
from jaxtyping import Float

from motus_adapters import (
    ActionSpace,
    Layout,
    Normalizer,
    UnifiedDataset,
    describe_state,
    layout_for,
)
from motus_adapters.deployment.lerobot_files import IMAGE, IMAGES
from motus_adapters.unified.staging import MANIFEST
from motus_embodiments import ActionAdapter, Card, UsageError, load_card

SAMPLES = 20_000  # frames that statistics are fitted on


def card_and_layout(meta: Any, embodiment: str | None) -> tuple[Card, Layout]:
    """The dataset's robot, and how its cameras make up the canvas.

    Args:
        meta: LeRobotDatasetMetadata.
        embodiment: Name of the card; a unified dataset carries its own.

    Raises:
        UsageError: Neither says which robot it is, or the card has other cameras.
    """
    root = Path(meta.root)
    if (root / MANIFEST).is_file():
        header = UnifiedDataset(root).meta
        return header.card, header.layout
    if embodiment is None:
        raise UsageError(
            f"nothing says which robot {root} was recorded on",
            hint="--policy.embodiment=NAME; `motus embodiments list` has the names",
        )
    card, sizes = load_card(embodiment), {}
    for key in meta.camera_keys:
        camera = card.camera(key.removeprefix(IMAGES))
        role = camera.role if camera else "head" if key == IMAGE else None
        if role is not None:
            height, width = meta.features[key]["shape"][:2]
            sizes[role] = (int(height), int(width))
    if not sizes:
        known = ", ".join(camera.name for camera in card.cameras)
        raise UsageError(
            f"the card '{card.name}' knows none of the cameras {', '.join(meta.camera_keys)}",
            hint=f"it has {known}; give the dataset's names as aliases in a card of your own",
        )
    return card, layout_for(sizes)


def fit_space(meta: Any, card: Card, rows: list[int]) -> ActionSpace:
    """Statistics of states and of action chunks as the network learns them.

    Args:
        meta: LeRobotDatasetMetadata.
        card: The robot.
        rows: Frames of a chunk, from its first one on.
    """
    root, adapter = Path(meta.root), ActionAdapter(card)
    is_unified = (root / MANIFEST).is_file()
    table = pyarrow.dataset.dataset(root / "data", format="parquet").to_table(
        columns=["observation.state", "action", "episode_index", "index"]
    )
    table = table.sort_by("index")
    state, action = (_matrix(table[name]) for name in ("observation.state", "action"))
    episode = table["episode_index"].to_numpy()
    states, chunks = [], []
    stride = max(1, len(episode) // SAMPLES)
    for start, stop in _spans(episode):
        own = state[start:stop] if is_unified else adapter.encode_state(state[start:stop])
        acts = action[start:stop]
        if not is_unified:
            acts = adapter.encode_action(acts, own)
        first = np.arange(0, stop - start, stride)
        ahead = np.minimum(first[:, None] + np.array(rows), stop - start - 1)
        states.append(describe_state(adapter, own[first]))
        chunks.append(adapter.relative(acts[ahead], own[first]))
    return ActionSpace(
        card,
        Normalizer.fit(np.concatenate(states)),
        Normalizer.fit(np.concatenate(chunks)),
    )


def _spans(episode: np.ndarray) -> list[tuple[int, int]]:
    borders = [0, *(np.flatnonzero(np.diff(episode)) + 1), len(episode)]
    return [(int(a), int(b)) for a, b in pairwise(borders)]


def _matrix(column: Any) -> Float[np.ndarray, "n c"]:
    return np.stack([np.atleast_1d(row) for row in column.to_pylist()]).astype(np.float64)
