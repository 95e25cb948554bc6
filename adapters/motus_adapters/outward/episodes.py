"""What every outward layout is written from: episodes of native numbers and separate views."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from motus_adapters.conversion.canonical import recorded_kind
from motus_adapters.conversion.canvas import Layout
from motus_adapters.unified.reading import UnifiedDataset
from motus_embodiments import ActionAdapter, Card


@dataclass(frozen=True)
class Plan:
    """What all episodes have in common.

    Attributes:
        card: Name of the robot.
        action_kind: What its actions are, as a mapping says it.
        rate: Frames a second.
        cameras: Camera -> (height, width) in pixels.
        state: Names of the state's channels in native order; () without a state.
        action: The same for the action.
        num_episodes: Episodes.
        num_frames: Frames of all episodes.
        tasks: Task texts, in order of their first use.
    """

    card: str
    action_kind: str
    rate: float
    cameras: Mapping[str, tuple[int, int]]
    state: tuple[str, ...]
    action: tuple[str, ...]
    num_episodes: int
    num_frames: int
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class OutEpisode:
    """One episode; its frames are drawn one at a time.

    Attributes:
        index: Its number.
        length: T.
        task: What the robot is told.
        source: The recording it once came from.
        numbers: "state" and "action" as far as they exist, native float64 [T, n].
        frames: One mapping camera -> uint8 RGB [h, w, 3] a frame.
    """

    index: int
    length: int
    task: str
    source: str
    numbers: Mapping[str, np.ndarray]
    frames: Iterator[Mapping[str, np.ndarray]]


def plan_of(dataset: UnifiedDataset) -> Plan:
    """The plan of a dataset; nothing but its metadata is read."""
    meta, card = dataset.meta, dataset.meta.card
    state = card.state_order or card.recorded_state
    action = card.action_order or card.recorded_action
    return Plan(
        card=card.name,
        action_kind=recorded_kind(card),
        rate=meta.rate,
        cameras={name: (box[3], box[2]) for name, box in _boxes(card, meta.layout).items()},
        state=state if meta.has_state else (),
        action=action if meta.has_action else (),
        num_episodes=len(dataset.episodes),
        num_frames=dataset.num_frames,
        tasks=tuple(dict.fromkeys(episode.task for episode in dataset.episodes)),
    )


def episodes_of(dataset: UnifiedDataset, plan: Plan) -> Iterator[OutEpisode]:
    """The episodes in order."""
    adapter = ActionAdapter(dataset.meta.card)
    boxes = _boxes(dataset.meta.card, dataset.meta.layout)
    for episode in dataset.episodes:
        arrays = dataset.arrays(episode.index)
        numbers = {}
        if plan.state:
            numbers["state"] = adapter.decode_state(arrays["state"])
        if plan.action:
            numbers["action"] = adapter.decode_action(arrays["action"], arrays.get("state"))
        yield OutEpisode(
            index=episode.index,
            length=episode.length,
            task=episode.task,
            source=episode.source,
            numbers=numbers,
            frames=(
                {name: canvas[y : y + h, x : x + w] for name, (x, y, w, h) in boxes.items()}
                for canvas in dataset.frames(episode.index)
            ),
        )


def _boxes(card: Card, layout: Layout) -> dict[str, tuple[int, int, int, int]]:
    """Camera -> its box on the canvas; named as in the card, else after its role."""
    names: dict[str, str] = {camera.role: camera.name for camera in card.cameras}
    return {names.get(role, role): box for role, box in layout.boxes.items()}
