"""Whether the same motion of two robots has the same latent; whether looks change a latent."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float

from motus_adapters import UnifiedDataset
from motus_recipes.data.cache import Cached
from motus_recipes.health.codes import Codes
from motus_recipes.training.codec_training import ARMS, read_labels

ALIKE = 0.9  # cosine of two twists from which on they count as the same motion
SIZES = (0.5, 2.0)  # ratio of their lengths, likewise
CANDIDATES = 32  # of which one is the same motion

Rows = Float[np.ndarray, "n k"]


@dataclass(frozen=True)
class Crossing:
    """Held-out steps of one robot beside steps of another with nearly the same twist.

    Attributes:
        robot: Whose steps are asked for.
        other: Where they are looked for.
        frame: Axes in which twists are compared: each arm's base, or the head cameras.
        pairs: Steps that have a counterpart.
        twist_cosine: How alike the twists of the pairs are.
        cosine: How alike their latents are.
        chance: How alike latents of any two steps are.
        found: How often the counterpart's latent is the most alike of 32; by chance 1 in 32.
    """

    robot: str
    other: str
    frame: str
    pairs: int
    twist_cosine: float
    cosine: float
    chance: float
    found: float


@dataclass(frozen=True)
class Sensitivity:
    """The same motion under two looks.

    Attributes:
        robot: Whose.
        changed: What looks otherwise.
        steps: Steps compared.
        share: Mean squared change of the latent, as a share of that between any two motions.
        length: Its root: the change as a share of the distance between any two motions.
    """

    robot: str
    changed: str
    steps: int
    share: float
    length: float


def crossings(
    data: Mapping[str, Cached], codes: Mapping[str, Codes], seed: int = 0
) -> Iterator[Crossing]:
    """Every ordered pair of different robots whose left arms have twists.

    Twists are compared with each number at unit size, over all robots.
    """
    for frame in ("base", "camera"):
        labels = {name: read_labels(cached, frame) for name, cached in data.items()}
        known = [name for name in data if labels[name].mask[ARMS[0]].all()]
        twists = {n: labels[n].motion[codes[n].held_rows][:, ARMS[0]] for n in known}
        if len(known) < 2:
            continue
        size = np.sqrt(np.mean([(t**2).mean(0) for t in twists.values()], axis=0))
        latents = [codes[n].held.code for n in known]
        whole = np.sqrt(np.mean([(z**2).mean(0) for z in latents], axis=0))
        scaled = {n: (t / size, codes[n].held.code / whole) for n, t in twists.items()}
        for one, other in permutations(known, 2):
            if data[one].card.name != data[other].card.name:
                found = _cross(*scaled[one], *scaled[other], np.random.default_rng(seed))
                if found is not None:
                    yield Crossing(one, other, frame, *found)


def _cross(
    twist: Rows, latent: Rows, twists: Rows, latents: Rows, rng: np.random.Generator
) -> tuple[int, float, float, float, float] | None:
    near = _cosines(twist, twists)
    sizes = np.linalg.norm(twist, axis=1)[:, None] / np.linalg.norm(twists, axis=1).clip(1e-9)
    near[(sizes < SIZES[0]) | (sizes > SIZES[1])] = -1
    best = near.argmax(1)
    queries = np.flatnonzero(near.max(1) >= ALIKE)
    if not len(queries) or len(twists) <= CANDIDATES:
        return None
    alike = _cosines(latent[queries], latents)
    right = alike[np.arange(len(queries)), best[queries]]
    others = rng.integers(len(latents), size=(len(queries), CANDIDATES - 1))
    rivals = np.take_along_axis(alike, others, axis=1)
    rivals[others == best[queries][:, None]] = -1
    found = float((right > rivals.max(1)).mean())
    return len(queries), float(near.max(1)[queries].mean()), right.mean(), alike.mean(), found


def sensitivities(
    paths: Mapping[str, UnifiedDataset], data: Mapping[str, Cached], codes: Mapping[str, np.ndarray]
) -> Iterator[Sensitivity]:
    """Datasets of the same robot and motion that were rendered with other looks.

    Args:
        paths: The datasets.
        data: Their arrays.
        codes: The latent of every frame that has a next one.
    """
    names = list(data)
    for at, one in enumerate(names):
        for other in names[at + 1 :]:
            a, b = data[one], data[other]
            if a.card.name != b.card.name or a.state.shape != b.state.shape:
                continue
            if not a.state.size or not np.array_equal(a.state, b.state):
                continue
            changed = _changed(*(str(_looks(paths[n])) for n in (one, other)))
            if not changed:
                continue
            difference = ((codes[one] - codes[other]) ** 2).sum(1).mean()
            usual = 2 * (codes[one].var(0).sum() + codes[other].var(0).sum()) / 2
            share = float(difference / max(usual, 1e-12))
            yield Sensitivity(a.card.name, changed, len(codes[one]), share, share**0.5)


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
