"""A run of latent actions for a robot that it has not seen: a decoder from anchoring data."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from motus_adapters import (
    ActionSpace,
    Anchored,
    Header,
    Normalizer,
    UnifiedDataset,
    fit_decoder,
)
from motus_embodiments import Card, DataError, MismatchError
from motus_model import SIZES, ModelConfig, Window, load_codec
from motus_recipes.data.cache import Cached, open_cached
from motus_recipes.data.latents import latents_of
from motus_recipes.training.checkpoints import Weights

HIDDEN = 256
STEPS = 1500
ANCHORING_LEVEL = 4


def fit_target(
    run: Path, card: Card, anchoring: Path, latents: Normalizer
) -> tuple[ActionSpace, Weights, dict[str, Any], Header]:
    """Fit the decoder for a robot.

    Args:
        run: A run that ends with latent actions.
        card: The robot.
        anchoring: Unified dataset of its anchoring data.
        latents: The run's statistics of latent actions.

    Returns:
        Card and statistics; weights; the attributes of `DecoderConfig`; what the data say of
        themselves.

    Raises:
        MismatchError: The data are of another robot, or labelled by another codec or by other flow.
        DataError: They are no anchoring data.
    """
    settings = json.loads((run / "data.json").read_text())
    meta = UnifiedDataset(anchoring).meta
    if meta.card.name != card.name:
        raise MismatchError(
            f"{anchoring} is of '{meta.card.name}', the target is '{card.name}'",
            hint=f"motus anchor {card.name} DATASET renders its anchoring data",
            where=str(anchoring),
        )
    if meta.level != ANCHORING_LEVEL:
        raise DataError(
            f"{anchoring} is of level {meta.level}; anchoring data are of level {ANCHORING_LEVEL}",
            hint=f"motus anchor {card.name} DATASET renders them",
            where=str(anchoring),
        )
    recipe = settings["recipe"]
    model = replace(SIZES[recipe["size"]], window=Window(**recipe["window"]))
    cached = open_cached("anchoring", anchoring, model, flow=_flow(recipe))
    chunks = _chunks(cached, _latents(cached, run, settings, meta), model, latents)
    train, held = cached.split()
    space = ActionSpace(
        meta.card, Normalizer.fit(cached.state[train]), Normalizer.fit(cached.actions[train])
    )
    parts = {}
    for name, rows in (("train", train), ("held", held if len(held) else train)):
        parts[name] = Anchored(
            torch.from_numpy(chunks[rows]),
            torch.from_numpy(space.state.normalize(cached.state[rows])),
            torch.from_numpy(space.action.normalize(cached.actions[rows])),
        )
    decoder, r2 = fit_decoder(parts["train"], parts["held"], hidden=HIDDEN, steps=STEPS)
    about = {
        "hidden": HIDDEN,
        "fitted_on": f"{meta.source.name}, {meta.source.hash[:16]}",
        "frames": len(train),
        "r2": round(r2, 4),
    }
    return space, dict(decoder.state_dict()), about, meta


def _flow(recipe: Mapping[str, Any]) -> str:
    """How the run's own codec had its flow."""
    stages = [stage for stage in recipe["stages"] if stage["objective"] == "codec"]
    return str(stages[0].get("codec", {}).get("flow", "dis")) if stages else "dis"


def _latents(
    cached: Cached, run: Path, settings: Mapping[str, Any], meta: Header
) -> Float[np.ndarray, "n 14"]:
    """Latent actions of the codec that the run learnt from."""
    for number, stage in enumerate(settings["recipe"]["stages"], 1):
        if stage["objective"] == "codec":
            folder = run / f"{number:02d}-{stage['name']}" / "codec"
            try:
                own = load_codec(folder)
            except (OSError, ValueError) as error:
                raise DataError(
                    f"cannot read the run's codec: {error}",
                    hint="export the run with the release that trained it, or train it anew",
                    where=str(folder),
                ) from error
            return latents_of(own, cached)
    stages = [stage for stage in settings["recipe"]["stages"] if stage.get("action") == "latent"]
    used = {name for stage in stages for name in stage["sources"]}
    known = {
        (entry["codec"], entry.get("flow", meta.flow))  # runs of earlier releases say no flow
        for name, entry in settings["data"].items()
        if name in used and entry["codec"] is not None
    }
    if meta.codec is None or {(meta.codec, meta.flow)} != known:
        named = ", ".join(f"codec {codec} by {flow}" for codec, flow in sorted(known))
        raise MismatchError(
            f"the anchoring data are labelled with codec {meta.codec} by {meta.flow}, "
            f"the run's data with {named or 'none'}",
            hint="motus label DATASET --codec FOLDER --flow HOW --force labels them again",
        )
    return np.asarray(cached.latent)


def _chunks(
    cached: Cached, latents: Float[np.ndarray, "n 14"], model: ModelConfig, stats: Normalizer
) -> Float[np.ndarray, "n t 14"]:
    window = model.window
    chunks = [
        cached.changes(latents, frame, window.action_steps, window.action_rate)
        for frame in range(len(latents))
    ]
    return stats.normalize(np.stack(chunks))
