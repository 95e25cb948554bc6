"""What a codec says of a dataset, from the flow in its arrays."""

import numpy as np
from jaxtyping import Float

from motus_model import LATENT_WIDTH, LatentActionCodec
from motus_recipes.data.cache import Cached


def latents_of(codec: LatentActionCodec, cached: Cached) -> Float[np.ndarray, "n 14"]:
    """The latent action of every frame, as `motus label` writes it.

    An episode's last frame, which has no step, repeats the one before it; a single frame has zeros.
    """
    latents = np.zeros((len(cached.first), LATENT_WIDTH), np.float32)
    for first in np.unique(cached.first):
        last = cached.last[first]
        if last > first:
            own = codec.encode_flow(cached.flow[first:last])
            latents[first:last] = codec.smooth(own, cached.rate)
            latents[last] = latents[last - 1]
    return latents
