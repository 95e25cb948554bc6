"""What training reads: a dataset's frames, flows and windows as plain arrays beside it.

The cache is disposable and named by its content: the dataset's manifest, the model's canvas and
window. It is built once, whole or not at all, within a limit, and never the truth.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from motus_adapters import (
    FlowMethod,
    UnifiedDataset,
    action_chunks,
    chunk_statistics,
    describe_state,
    letterbox,
    open_flow,
    user_cache,
)
from motus_embodiments import ActionAdapter, Card
from motus_model import ModelConfig
from motus_recipes.data.folder_cache import FolderCache

CACHE = Path(".cache")  # in a dataset's folder
CACHE_VERSION = 3
FLOW_SHAPE = (2, 72, 64)
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Cached:
    """One dataset in memory-mapped arrays; n frames in all.

    Attributes:
        name: The recipe's name for it.
        card: Its robot.
        canvas: Frames at the model's size.
        flow: Flow canvas from each frame to the next; zero at an episode's last frame.
        state: Canonical states as the network sees them (`describe_state`), or no columns.
        actions: For each frame the chunk that follows it, as the network learns actions (relative
            to the frame where the card says so), or no columns.
        latent: Latent actions as labelled in the dataset, or no columns.
        motion: True motion.
        motion_mask: Which of the 14 exist.
        first: First frame of each frame's episode.
        last: Last frame of each frame's episode.
        tasks: Instruction of each frame.
        key: Name of the arrays, which says what they were made of.
        folders: Where they lie, and what else is made of them once.
    """

    name: str
    card: Card
    canvas: UInt8[np.ndarray, "n H W 3"]
    flow: Float[np.ndarray, "n 2 72 64"]
    state: Float[np.ndarray, "n s"]
    actions: Float[np.ndarray, "n t a"]
    latent: Float[np.ndarray, "n z"]
    motion: Float[np.ndarray, "n 14"]
    motion_mask: Bool[np.ndarray, " 14"]
    first: Int[np.ndarray, " n"]
    last: Int[np.ndarray, " n"]
    tasks: tuple[str, ...]
    rate: float
    key: str
    folders: FolderCache

    def split(self, share: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
        """Frames to train on, and the last episodes' frames, held out (one of two at least)."""
        starts = np.unique(self.first)
        held = held_out(len(starts), share)
        border = starts[-held] if held else len(self.first)
        frames = np.arange(len(self.first))
        return frames[frames < border], frames[frames >= border]

    def locate(self, frame: int) -> dict[str, Any]:
        """Episode, frame in it, and instruction of a frame."""
        first = int(self.first[frame])
        episode = int(np.searchsorted(np.unique(self.first), first))
        return {"episode": episode, "frame": frame - first, "task": self.tasks[frame]}

    def future(self, frames: np.ndarray, count: int, rate: float, start: int) -> np.ndarray:
        """Indices of `count` frames at `rate` after each frame, held at the episode's end."""
        steps = np.round(np.arange(start, start + count) * self.rate / rate).astype(int)
        return np.minimum(frames[:, None] + steps, self.last[frames][:, None])

    def changes(
        self, values: Float[np.ndarray, "n z"], frame: int, count: int, rate: float
    ) -> Float[np.ndarray, "count z"]:
        """What changes from frame to frame add up to in each of `count` steps after a frame.

        A step lasts 1 / `rate`, whatever the dataset's own rate; part of a frame counts in
        proportion. After the end of the episode nothing changes.

        Args:
            values: The change from each frame to the next, as latent actions are.
            frame: Where the first step begins.
            count: Steps.
            rate: Hz of the steps.
        """
        borders = np.minimum(
            np.arange(count + 1) * (self.rate / rate), float(self.last[frame] - frame)
        )
        low, high = np.floor(borders).astype(int), np.ceil(borders).astype(int)
        gone = np.cumsum(values[frame : frame + high[-1]], axis=0, dtype=np.float64)
        gone = np.concatenate([np.zeros((1, values.shape[1])), gone])
        at = gone[low] + (borders - low)[:, None] * (gone[high] - gone[low])
        return np.diff(at, axis=0).astype(np.float32)


def same_motion(one: Cached, other: Cached) -> bool:
    """Whether both show the same episodes of the same robot, step by step."""
    return one.card.name == other.card.name and all(
        np.array_equal(getattr(one, part), getattr(other, part))
        for part in ("first", "state", "motion")
    )


def held_out(episodes: int, share: float = 0.1) -> int:
    """How many episodes, the last ones, no stage trains on."""
    return max(1, round(share * episodes)) if episodes > 1 else 0


def open_cached(
    name: str,
    path: Path,
    model: ModelConfig,
    on_progress: Progress | None = None,
    *,
    flow: str = "dis",
    limit: int = 10**11,
) -> Cached:
    """The arrays of a dataset for a model, built when they aren't there yet.

    They lie beside the dataset, or, where that may only be read, in the user's cache folder.

    Args:
        name: The recipe's name for it.
        path: A unified dataset.
        model: Canvas and window.
        on_progress: Called with frames read, frames in all, and a note.
        flow: How flow is estimated; see `open_flow`.
        limit: Bytes that arrays beside the dataset may take, for all models together.

    Raises:
        DataError: When the dataset is unfinished or damaged.
        UsageError: When the arrays would take more than the limit, or for an unknown `flow`.
        MissingError: When the flow's library or weights are not here.
    """
    dataset, method = UnifiedDataset(path), open_flow(flow, "auto")
    manifest = (path / "meta" / "motus.json").read_bytes()
    terms = json.dumps([CACHE_VERSION, model.canvas, asdict(model.window), method.name])
    key = hashlib.sha256(manifest + terms.encode()).hexdigest()[:16]
    folders = FolderCache(_place(path, manifest) / "arrays", limit)
    folder = folders.get(
        key,
        _size(dataset, model),
        lambda place: _build(dataset, place, model, method, on_progress),
    )
    arrays = {file.stem: np.load(file, mmap_mode="r") for file in folder.glob("*.npy")}
    tasks = tuple(task for episode in dataset.episodes for task in [episode.task] * episode.length)
    return Cached(
        name=name,
        card=dataset.meta.card,
        canvas=arrays["canvas"],
        flow=arrays["flow"],
        state=arrays["state"],
        actions=arrays["actions"],
        latent=arrays["latent_action"],
        motion=arrays["motion"],
        motion_mask=np.asarray(dataset.meta.motion_mask),
        first=arrays["first"],
        last=arrays["last"],
        tasks=tasks,
        rate=dataset.meta.rate,
        key=key,
        folders=folders,
    )


def _place(path: Path, manifest: bytes) -> Path:
    """Beside the dataset; where nothing can be written there, in the user's own cache."""
    if os.access(path, os.W_OK):
        return path / CACHE
    return user_cache() / "datasets" / hashlib.sha256(manifest).hexdigest()[:16]


def _size(dataset: UnifiedDataset, model: ModelConfig) -> int:
    """Bytes of the arrays; the small ones about, the large ones exactly."""
    height, width = model.canvas
    card, chunk = dataset.meta.card, model.window.action_steps
    numbers = len(card.state_channels) + chunk * len(card.action_channels) + 2 * 14 + 4
    frame = height * width * 3 + 2 * math.prod(FLOW_SHAPE) + 4 * numbers
    return dataset.num_frames * frame


def _build(
    dataset: UnifiedDataset,
    folder: Path,
    model: ModelConfig,
    method: FlowMethod,
    on_progress: Progress | None,
) -> None:
    count, (height, width) = dataset.num_frames, model.canvas
    canvas = _new(folder, "canvas", (count, height, width, 3), np.uint8)
    flow = _new(folder, "flow", (count, *FLOW_SHAPE), np.float16)
    adapter = ActionAdapter(dataset.meta.card)
    tables: dict[str, list[np.ndarray]] = {
        key: [] for key in ("state", "actions", "latent_action", "motion", "first", "last")
    }
    at = 0
    for episode in dataset.episodes:
        previous = None
        for row, frame in enumerate(dataset.frames(episode.index)):
            canvas[at + row] = letterbox(frame, (width, height))
            if previous is not None:
                pair = previous[None], frame[None]
                flow[at + row - 1] = method.follow(*pair, dataset.meta.layout)[0]
            previous = frame
        arrays = dataset.arrays(episode.index)
        empty = np.zeros((episode.length, 0), np.float32)
        for key in ("latent_action", "motion"):
            tables[key].append(arrays.get(key, empty))
        state = describe_state(adapter, arrays["state"]) if "state" in arrays else empty
        tables["state"].append(state.astype(np.float32))
        tables["actions"].append(
            action_chunks(
                arrays,
                adapter,
                dataset.meta.rate,
                model.window.action_steps,
                model.window.action_rate,
            )
        )
        tables["first"].append(np.full(episode.length, at))
        tables["last"].append(np.full(episode.length, at + episode.length - 1))
        at += episode.length
        if on_progress:
            on_progress(at, count, "frames read")
    canvas.flush()
    flow.flush()
    chunk_statistics(dataset, model.window.action_steps, model.window.action_rate)
    for key, parts in tables.items():
        np.save(folder / f"{key}.npy", np.concatenate(parts))


def _new(folder: Path, name: str, shape: tuple[int, ...], kind: type) -> np.memmap:
    path = folder / f"{name}.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
    with path.open("r+b") as file:
        # A mapped file has holes; filling one on a full disk would kill the process (SIGBUS).
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of some rows, evenly over all."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]
