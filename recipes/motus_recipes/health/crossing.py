"""Whether the same motion of two robots has the same latent; whether looks change a latent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from motus_adapters import UnifiedDataset
from motus_model import LatentActionCodec
from motus_recipes.data.cache import Cached, same_motion
from motus_recipes.health.codes import Codes
from motus_recipes.training.codec_training import ARMS, read_labels

ALIKE = 0.9  # cosine of two twists from which on they count as the same motion
SIZES = (0.5, 2.0)  # ratio of their lengths, likewise
CANDIDATES = 32  # of which one is the same motion
PAPER_RATE = 5.0  # Hz of the paper's latent actions

Rows = Float[np.ndarray, "n k"]


@dataclass(frozen=True)
class Crossing:
    """Held-out steps of one robot beside steps of another with nearly the same twist.

    Attributes:
        robot: Whose steps are asked for.
        other: Where they are looked for.
        pairs: Steps that have a counterpart.
        twist_cosine: How alike the twists of the pairs are.
        cosine: How alike their latents are.
        chance: How alike latents of any two steps are.
        found: How often the counterpart's latent is the most alike of 32; by chance 1 in 32.
        read_cosine: How alike the twists are that the codec's own head reads from the latents.
        read_chance: The same of any two steps.
        read_found: How often the counterpart is found by what the head reads.
    """

    robot: str
    other: str
    pairs: int
    twist_cosine: float
    cosine: float
    chance: float
    found: float
    read_cosine: float
    read_chance: float
    read_found: float


@dataclass(frozen=True)
class Sensitivity:
    """The same motion under two looks.

    Attributes:
        robot: Whose.
        changed: What looks otherwise.
        steps: Steps compared.
        share: Mean squared change of the latent, as a share of that between any two motions.
        length: Its root: the change as a share of the distance between any two motions.
        unit_length: The same with each number at unit size, so that none covers up the others.
        length_5hz: `length` of latents added up over a fifth of a second, the paper's step.
    """

    robot: str
    changed: str
    steps: int
    share: float
    length: float
    unit_length: float
    length_5hz: float


def crossings(
    codec: LatentActionCodec, data: Mapping[str, Cached], codes: Mapping[str, Codes], seed: int = 0
) -> Iterator[Crossing]:
    """Every ordered pair of different robots whose left arms have twists.

    Twists are compared along the axes that the codec learnt them in, each number at unit size
    over all robots. A latent also holds what draws the flow, and the other arm; from it
    the codec's head for motion, which is one for all robots, reads the left arm's six numbers.
    """
    labels = {name: read_labels(cached, codec.config.frame) for name, cached in data.items()}
    known = [name for name in data if labels[name].mask[ARMS[0]].all()]
    if len(known) < 2:
        return
    latents = {n: codes[n].held.code for n in known}
    views = (
        {n: labels[n].motion[codes[n].held_rows][:, ARMS[0]] for n in known},
        latents,
        {n: _head(codec, latents[n]) for n in known},
    )
    scaled = [_scaled(view) for view in views]
    for one, other in permutations(known, 2):
        if data[one].card.name == data[other].card.name:
            continue
        pairs = _same([scaled[0][n] for n in (one, other)])
        if pairs is None:
            continue
        whole, read = (
            _retrieved([view[n] for n in (one, other)], pairs, np.random.default_rng(seed))
            for view in scaled[1:]
        )
        yield Crossing(one, other, len(pairs.asked), pairs.cosine, *whole, *read)


class _Pairs(NamedTuple):
    """Steps of one robot, and the step of another that moves the most alike."""

    asked: np.ndarray
    right: np.ndarray
    cosine: float


@torch.no_grad()
def _head(codec: LatentActionCodec, latents: Rows) -> Rows:
    """What the codec reads of the left arm's twist."""
    code = torch.from_numpy(np.float32(latents)).to(codec.motion_size.device)
    return codec.predict_motion(code)[:, ARMS[0]].cpu().numpy().astype(np.float64)


def _scaled(rows: Mapping[str, Rows]) -> dict[str, Rows]:
    """Each number at unit size over all robots."""
    size = np.sqrt(np.mean([(r**2).mean(0) for r in rows.values()], axis=0)).clip(1e-12)
    return {name: r / size for name, r in rows.items()}


def _same(twists: Sequence[Rows]) -> _Pairs | None:
    """Steps with nearly the same twist, in direction and in size."""
    one, other = twists
    if len(other) <= CANDIDATES:
        return None
    near = _cosines(one, other)
    sizes = np.linalg.norm(one, axis=1)[:, None] / np.linalg.norm(other, axis=1).clip(1e-9)
    near[(sizes < SIZES[0]) | (sizes > SIZES[1])] = -1
    asked = np.flatnonzero(near.max(1) >= ALIKE)
    if not len(asked):
        return None
    return _Pairs(asked, near.argmax(1)[asked], float(near.max(1)[asked].mean()))


def _retrieved(
    codes: Sequence[Rows], pairs: _Pairs, rng: np.random.Generator
) -> tuple[float, float, float]:
    """How alike the codes of pairs are, those of any two steps, and how often the pair is found."""
    one, other = codes
    alike = _cosines(one[pairs.asked], other)
    right = alike[np.arange(len(pairs.asked)), pairs.right]
    rivals = rng.integers(len(other), size=(len(pairs.asked), CANDIDATES - 1))
    rivalry = np.take_along_axis(alike, rivals, axis=1)
    rivalry[rivals == pairs.right[:, None]] = -1
    return float(right.mean()), float(alike.mean()), float((right > rivalry.max(1)).mean())


def sensitivities(
    paths: Mapping[str, UnifiedDataset], data: Mapping[str, Cached], codes: Mapping[str, np.ndarray]
) -> Iterator[Sensitivity]:
    """Datasets of the same robot and motion that were rendered with other looks.

    Args:
        paths: The datasets.
        data: Their arrays.
        codes: The latent of every frame; that of an episode's last is no step.
    """
    names = list(data)
    for at, one in enumerate(names):
        for other in names[at + 1 :]:
            a, b = data[one], data[other]
            if not a.state.size or not same_motion(a, b):
                continue
            changed = _changed(*(str(_looks(paths[n])) for n in (one, other)))
            if not changed:
                continue
            looks = codes[one], codes[other]
            step = np.arange(len(a.first)) < a.last
            moved = _moved(*(look[step] for look in looks))
            slow = _moved(*(_added_up(look, a, PAPER_RATE) for look in looks))
            yield Sensitivity(
                robot=a.card.name,
                changed=changed,
                steps=int(step.sum()),
                share=moved.share,
                length=moved.share**0.5,
                unit_length=moved.even**0.5,
                length_5hz=slow.share**0.5,
            )


class _Moved(NamedTuple):
    """Squared change of latents, as a share of that between two motions."""

    share: float
    even: float  # the mean of each number's own share


def _moved(one: Rows, other: Rows) -> _Moved:
    change, usual = ((one - other) ** 2).mean(0), one.var(0) + other.var(0)
    share = change.sum() / max(usual.sum(), 1e-12)
    return _Moved(float(share), float((change / usual.clip(1e-12)).mean()))


def _added_up(codes: Rows, cached: Cached, rate: float) -> Rows:
    """Latents of longer steps, one from each frame that has so many frames after it."""
    frames = np.arange(len(codes))
    begin = frames[frames + cached.rate / rate <= cached.last]
    steps = [cached.changes(codes, frame, 1, rate) for frame in begin]
    return np.concatenate(steps) if steps else codes[:0]


def _looks(dataset: UnifiedDataset) -> str:
    return str(dataset.meta.options.get("appearance", ""))


def _changed(one: str, other: str) -> str:
    """Parts of the appearance whose seeds differ."""
    first, second = (dict(p.split("=") for p in text.split(",") if p) for text in (one, other))
    parts = sorted({*first, *second})
    return " ".join(part for part in parts if first.get(part) != second.get(part))


def _cosines(rows: Rows, others: Rows) -> Float[np.ndarray, "n m"]:
    one, two = (r / np.linalg.norm(r, axis=1, keepdims=True).clip(1e-9) for r in (rows, others))
    return np.asarray(one @ two.T)
