"""What a stage begins with from outside its run: a network, pretrained encoders."""

from dataclasses import replace
from pathlib import Path

import torch

from motus_embodiments import DataError, MismatchError, MissingError
from motus_model import (
    EncoderPlaces,
    Encoders,
    MotusConfig,
    WeightsError,
    load_encoders,
    read_network,
    read_sizes,
)
from motus_recipes.checkpoints import Weights, read_weights
from motus_recipes.schema import EncodersSpec

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def stage_weights(folder: Path) -> Weights | None:
    """Weights that a stage of another run ended with; None when it is no such folder.

    Raises:
        DataError: When they are damaged.
    """
    for place in (folder, folder / "result"):
        if (place / "state.json").is_file() and (place / "weights.safetensors").is_file():
            return read_weights(place / "weights.safetensors")
    return None


def imported_sizes(folder: Path, usual: MotusConfig) -> MotusConfig:
    """Sizes of a folder that `motus import` wrote; an expert that it lacks keeps its usual ones.

    Raises:
        DataError: When it is no such folder, or damaged.
    """
    try:
        config = read_sizes(folder)
    except WeightsError as error:
        raise _not_imported(folder, error) from error
    return replace(
        config,
        action=config.action or usual.action,
        understanding=config.understanding or usual.understanding,
    )


def imported_weights(folder: Path) -> Weights:
    """Weights of such a folder, under the names that `MotusModel` has for them.

    Raises:
        DataError: When it is no such folder, or damaged.
    """
    try:
        _, weights = read_network(folder)
    except WeightsError as error:
        raise _not_imported(folder, error) from error
    return {f"network.{key}": value for key, value in weights.items()}


def pretrained(spec: EncodersSpec, network: MotusConfig) -> Encoders:
    """The frozen encoders of a size that has no small ones.

    Raises:
        MissingError: When one can't be loaded.
        MismatchError: When one gives something else than the network reads.
    """
    places = EncoderPlaces(spec.frames, spec.text, spec.tokenizer, spec.perception)
    try:
        encoders = load_encoders(
            places, text_tokens=network.video.text_tokens, dtype=PRECISIONS[spec.precision]
        )
    except WeightsError as error:
        raise MissingError(
            str(error), hint="`encoders` of the recipe names local folders or hub names"
        ) from error
    try:
        encoders.check(network)
    except WeightsError as error:
        raise MismatchError(
            str(error), hint="`encoders` and `start` of the recipe say which are used"
        ) from error
    return encoders


def _not_imported(folder: Path, error: WeightsError) -> DataError:
    return DataError(
        f"no stage can start from {folder}: {error}",
        hint=f"motus import CHECKPOINT --out {folder}",
        where=str(folder),
    )
