"""The pretrained encoders of a size that carries none of its own, by folder or hub name."""

from collections.abc import Mapping

import torch

from motus_embodiments import MismatchError, MissingError
from motus_model import EncoderPlaces, Encoders, MotusConfig, WeightsError, load_encoders

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def open_encoders(places: Mapping[str, str], network: MotusConfig) -> Encoders:
    """Load them, and check that they give what the network reads.

    Args:
        places: `frames`, `text`, `tokenizer`, `perception` (see `EncoderPlaces`), and `precision`
            of the last three: float32 or bf16.
        network: What reads them.

    Raises:
        MissingError: When one can't be loaded.
        MismatchError: When one gives something else than the network reads.
    """
    named = dict(places)
    dtype = PRECISIONS[named.pop("precision", "bf16")]
    try:
        encoders = load_encoders(
            EncoderPlaces(**named), text_tokens=network.video.text_tokens, dtype=dtype
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
