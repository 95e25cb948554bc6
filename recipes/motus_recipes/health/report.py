"""`motus inspect CODEC --health`: what the 14 numbers of a codec carry, beside what else could."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float

from motus_adapters import UnifiedDataset, find_codec, flow_of
from motus_embodiments import DataError, MissingError, UsageError
from motus_model import LatentActionCodec, WeightsError, load_codec
from motus_recipes.data.cache import Cached, open_cached, spread
from motus_recipes.health.baselines import (
    best_drawn,
    flow_components,
    neighbours,
    picture_components,
    random_encoder,
    supervised,
)
from motus_recipes.health.codes import Codes, Rebuilt, read_codes, reconstruction
from motus_recipes.health.crossing import Crossing, Sensitivity, crossings, sensitivities
from motus_recipes.health.probes import Steps, curved_probe, linear_guess, linear_probe, r2
from motus_recipes.library import load_recipe
from motus_recipes.training.codec_training import ARMS, read_labels, turned, turns_of

Axes = Literal["base", "wrist"]

NUMBERS = ("x", "y", "z", "rx", "ry", "rz")
OWN_HEAD = "latent, by the codec's head for this robot"
CEILING_STEPS = 256  # held-out steps that the best drawing is looked for of

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class DatasetRow:
    """One dataset: what it is to the codec, and how it comes through.

    Attributes:
        dataset: Name of its folder.
        robot: Name of the card.
        level: Rung of the data pyramid.
        seen: What the codec saw of the robot in training: its labels, only its flow, or nothing.
        steps: Held-out steps that everything is measured on.
        active: Latent dimensions with a KL above 0.1 nats.
        epe: End-point error of the rebuilt flow over that of zero flow.
        kl: KL of each latent dimension, nats.
    """

    dataset: str
    robot: str
    level: int
    seen: str
    steps: int
    active: int
    epe: float
    kl: tuple[float, ...]


@dataclass(frozen=True)
class ViewRow:
    """End-point error over zero flow's in one view, rebuilt from 14 numbers.

    Attributes:
        components: From 14 principal components of this dataset's own flow.
        codec: From the latent.
        ceiling: What the codec's decoder can draw at best.
    """

    dataset: str
    view: str
    components: float
    codec: float
    ceiling: float | None


@dataclass(frozen=True)
class ProbeRow:
    """R2 of true twists on held-out episodes, mean over their numbers.

    Attributes:
        code: What they are read from.
        axes: Along whose axes: of the arm's base, or of its wrist camera, which turns with it.
        linear: By ridge regression, or as a network or the codec's own head says it.
        translation: The same of the three translations of each arm.
        rotation: The same of the three rotations.
        network: By a small network; None where nothing is fitted, or the code is its output.
    """

    dataset: str
    code: str
    axes: Axes
    linear: float
    translation: float | None
    rotation: float | None
    network: float | None


@dataclass(frozen=True)
class CodecHealth:
    """The whole report.

    Attributes:
        codec: Its folder.
        hash: Its name in contracts.
        frame: Axes that it learnt true motion in.
        twists: R2 of each twist number from the latent, a row a dataset and arm.
    """

    codec: Path
    hash: str
    frame: str
    datasets: Sequence[DatasetRow]
    reconstruction: Sequence[ViewRow]
    probes: Sequence[ProbeRow]
    twists: Sequence[Mapping[str, Any]]
    crossings: Sequence[Crossing]
    appearance: Sequence[Sensitivity]


def inspect_codec(
    name: str | Path, datasets: Sequence[Path], on_progress: Progress | None = None
) -> CodecHealth:
    """Measure a codec on the held-out episodes of datasets.

    Raises:
        MissingError: There is no such codec, or no autoencoder that it names.
        DataError: The codec or a dataset cannot be read.
        UsageError: No dataset is named, or one twice.
    """
    if not datasets:
        raise UsageError(
            "a codec's health is measured on data",
            hint="motus inspect CODEC --health data/ONE data/OTHER",
        )
    folder = find_codec(name)
    codec, about = _read(folder)
    opened = {path.name: UnifiedDataset(path) for path in datasets}
    if len(opened) < len(datasets):
        raise UsageError("two of the datasets have folders of the same name")
    model, share = load_recipe("codec").model, float(about.get("held_out", 0.1))
    flow = flow_of(folder).choice
    data: dict[str, Cached] = {}
    codes: dict[str, Codes] = {}
    measured: list[_Measured] = []
    for number, (label, dataset) in enumerate(opened.items()):
        if on_progress:
            on_progress(number, len(opened), label)
        data[label] = open_cached(label, dataset.path, model, on_progress, flow=flow)
        codes[label] = read_codes(codec, data[label], share)
        if len(codes[label].held.code) and len(codes[label].train.code):
            measured.append(_measure(codec, about, dataset, data[label], codes[label]))
    if on_progress:
        on_progress(len(opened), len(opened), "robots compared")
    return CodecHealth(
        codec=folder,
        hash=codec.hash,
        frame=codec.config.frame,
        datasets=[m.dataset for m in measured],
        reconstruction=[row for m in measured for row in m.views],
        probes=[row for m in measured for row in m.probes],
        twists=[row for m in measured for row in m.twists],
        crossings=list(crossings(codec, data, codes)),
        appearance=list(sensitivities(opened, data, {n: c.latents for n, c in codes.items()})),
    )


@dataclass(frozen=True)
class _Measured:
    """What is known of one dataset."""

    dataset: DatasetRow
    views: Sequence[ViewRow]
    probes: Sequence[ProbeRow]
    twists: Sequence[Mapping[str, Any]]


def _read(folder: Path) -> tuple[LatentActionCodec, Mapping[str, Any]]:
    try:
        codec = load_codec(folder)
        return codec, json.loads((folder / "config.json").read_text())["about"]
    except WeightsError as error:
        raise MissingError(str(error), where=str(folder)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder} holds no codec: {error}", where=str(folder)) from error


def _seen(dataset: UnifiedDataset, about: Mapping[str, Any]) -> str:
    """What the codec saw of a dataset's robot."""
    data = about.get("data")
    if not isinstance(data, dict):
        return "unknown"
    robots = {
        name: told["robot"]
        for name, told in data.items()
        if told["robot"] == dataset.meta.card.name
    }
    if not robots:
        return "never"
    return "flow" if set(robots) <= set(about.get("unlabelled", ())) else "labelled"


def _own_head(dataset: UnifiedDataset, about: Mapping[str, Any]) -> int | None:
    """Which of a codec's heads learnt this robot's motion along its bases; 0 is all robots'.

    Of several sources of one robot: the dataset itself, else one of its level, else the first.
    """
    data, meta = about.get("data") or {}, dataset.meta
    heads = {
        name: head
        for head, name in enumerate(about.get("own_heads", ()), 1)
        if data[name]["robot"] == meta.card.name and name not in about["unlabelled"]
    }

    def distance(name: str) -> tuple[bool, bool]:
        return data[name]["hash"] != meta.source.hash, data[name]["level"] != meta.level

    return heads[min(heads, key=distance)] if heads else None


def _measure(
    codec: LatentActionCodec,
    about: Mapping[str, Any],
    dataset: UnifiedDataset,
    cached: Cached,
    codes: Codes,
) -> _Measured:
    name = cached.name
    row = DatasetRow(
        dataset=name,
        robot=dataset.meta.card.name,
        level=dataset.meta.level,
        seen=_seen(dataset, about),
        steps=len(codes.held.code),
        active=codes.active,
        epe=reconstruction(codec, codes).whole,
        kl=tuple(round(value, 3) for value in codes.kl),
    )
    train, held, rebuilt = flow_components(cached, codes)
    views = list(_views(codec, codes, name, rebuilt))
    if not codes.columns:
        return _Measured(row, views, (), ())
    scores = linear_probe(codes.train, codes.held)
    probe = partial(_probe, name, "base", codes)
    probes = [
        probe("latent", codes.train, codes.held),
        probe("latent and its neighbours", *neighbours(cached, codes)),
        probe("flow, 14 components", train, held),
        probe("pictures, 14 components", *picture_components(cached, codes)),
        probe("random encoder", *random_encoder(codec, cached, codes)),
        _supervised(name, "base", cached, codes),
    ]
    head = _own_head(dataset, about)
    if head is not None:
        probes.append(_row(name, "base", codes, OWN_HEAD, _read_off(codec, codes, head), None))
    along = _along_wrists(cached, codes)
    if along is not None:
        flow = replace(codes, train=train, held=held)
        for code, base in (("latent", codes), ("flow, 14 components", flow)):
            own = replace(
                along,
                train=replace(base.train, motion=along.train.motion),
                held=replace(base.held, motion=along.held.motion),
            )
            probes += [
                probe(f"{code}, turned by the state", *_turned_by_state(cached, base, own)),
                _probe(name, "wrist", own, code, own.train, own.held),
            ]
        probes.append(_supervised(name, "wrist", cached, along))
        probes.sort(key=lambda row: row.axes)  # the base's first
    return _Measured(row, views, probes, list(_twists(name, codes, scores)))


def _along_wrists(cached: Cached, codes: Codes) -> Codes | None:
    """The same codes with twists along each arm's wrist camera; None where one has none."""
    labels = read_labels(cached, "wrist")
    columns = list(codes.columns)
    if not labels.mask[columns].all():
        return None
    motion = labels.motion[:, columns].astype(np.float64)
    return replace(
        codes,
        train=replace(codes.train, motion=motion[codes.train_rows]),
        held=replace(codes.held, motion=motion[codes.held_rows]),
    )


def _turned_by_state(cached: Cached, codes: Codes, along: Codes) -> tuple[Steps, Steps]:
    """What a linear probe reads along the wrists, turned to the bases' axes by the state.

    Flow does not tell how the hand is turned; the state does.
    """
    columns = list(codes.columns)
    rows = np.concatenate([codes.train_rows, codes.held_rows])
    motion = np.zeros((len(rows), 14))
    code = np.concatenate([along.train.code, along.held.code])
    motion[:, columns] = linear_guess(along.train, code)
    turns = turns_of(cached, "wrist", rows)
    assert turns is not None  # the twists along the wrists were turned by them
    for arm, axes in zip(cached.card.arms, np.moveaxis(turns, 1, 0), strict=True):
        own = ARMS[arm.side == "right"]
        motion[:, own] = turned(motion[:, own], axes.swapaxes(1, 2))
    train, held = np.split(motion[:, columns], [len(codes.train_rows)])
    return replace(codes.train, code=train), replace(codes.held, code=held)


def _views(
    codec: LatentActionCodec, codes: Codes, name: str, components: Rebuilt
) -> Iterator[ViewRow]:
    rebuilt = reconstruction(codec, codes)
    few = spread(np.arange(len(codes.held_flow)), CEILING_STEPS)
    best = best_drawn(codec, codes.held_flow[few], codes.encoded[few])
    for view, value in rebuilt.views.items():
        yield ViewRow(name, view, components.views[view], value, best.views.get(view))


def _probe(name: str, axes: Axes, codes: Codes, code: str, train: Steps, held: Steps) -> ProbeRow:
    network = float(curved_probe(train, held).mean())
    return _row(name, axes, codes, code, linear_probe(train, held), network)


def _read_off(codec: LatentActionCodec, codes: Codes, head: int) -> Float[np.ndarray, " m"]:
    """R2 of what a codec's head for this robot says, with nothing fitted."""
    latents = torch.from_numpy(np.float32(codes.held.code)).to(codec.motion_size.device)
    with torch.no_grad():
        motion = codec.predict_motion(latents).unflatten(1, (-1, 14))[:, head].cpu().numpy()
    return r2(codes.held.motion, motion[:, list(codes.columns)], codes.train.motion.mean(0))


def _supervised(name: str, axes: Axes, cached: Cached, codes: Codes) -> ProbeRow:
    flow = np.asarray(cached.flow[codes.train_rows], np.float32)
    scores = supervised(flow, codes.train, codes.held_flow, codes.held)
    return _row(name, axes, codes, "flow, fully supervised network", scores, None)


def _row(
    name: str,
    axes: Axes,
    codes: Codes,
    code: str,
    scores: Float[np.ndarray, " m"],
    network: float | None,
) -> ProbeRow:
    turns = np.array([column % 7 >= 3 for column in codes.columns])
    parts = [float(scores[part].mean()) if part.any() else None for part in (~turns, turns)]
    return ProbeRow(name, code, axes, float(scores.mean()), parts[0], parts[1], network)


def _twists(
    name: str, codes: Codes, scores: Float[np.ndarray, " m"]
) -> Iterator[Mapping[str, Any]]:
    for side, first in (("left", 0), ("right", 7)):
        own = {
            NUMBERS[column - first]: float(score)
            for column, score in zip(codes.columns, scores, strict=True)
            if first <= column < first + 6
        }
        if own:
            yield {"dataset": name, "arm": side, **{axis: own.get(axis) for axis in NUMBERS}}
