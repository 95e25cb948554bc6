"""The few figures that every training of a codec ends with."""

from collections.abc import Mapping
from typing import Any

from motus_model import LatentActionCodec
from motus_recipes.data.cache import Cached
from motus_recipes.health.codes import Codes, read_codes, reconstruction
from motus_recipes.health.probes import linear_probe


def brief_health(
    codec: LatentActionCodec, data: Mapping[str, Cached], held_out: float
) -> dict[str, Any]:
    """Per dataset with steps to look at: reconstruction, active dimensions, a linear probe.

    `epe_ratio` is the mean end-point error of the reconstructed flow over that of zero flow (1 is
    no better than nothing), `views` the same of each view; `twist_r2` the mean R2 of true
    end-effector motion from the latent by ridge regression, fitted on training episodes and read
    on held-out ones.
    """
    codec.eval()
    codes = {name: read_codes(codec, cached, held_out) for name, cached in data.items()}
    return {name: _one(codec, read) for name, read in codes.items() if len(read.held.code)}


def _one(codec: LatentActionCodec, codes: Codes) -> dict[str, Any]:
    rebuilt = reconstruction(codec, codes)
    scores = linear_probe(codes.train, codes.held) if codes.columns else None
    return {
        "frames": len(codes.held.code),
        "epe_ratio": rebuilt.whole,
        "views": dict(rebuilt.views),
        "active_dimensions": codes.active,
        "kl": [round(value, 3) for value in codes.kl],
        "twist_r2": None if scores is None else float(scores.mean()),
    }
