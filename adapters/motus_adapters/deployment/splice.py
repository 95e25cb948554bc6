"""An overlap of two action chunks in the network's numbers."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from motus_adapters.deployment.chunking import Overlap
from motus_model import PrefixGuide, prefix_weights


class Splice:
    """An overlap in the network's numbers: what to do while sampling, and after it.

    Args:
        previous: The overlap's actions as the network would give them, [n, a].
        overlap: What they are.
        steps: Actions of a chunk.
    """

    def __init__(self, previous: Float[np.ndarray, "n a"], overlap: Overlap, steps: int) -> None:
        known = min(len(previous), steps)
        delay = min(overlap.delay, known)
        self._target = torch.zeros(1, steps, previous.shape[-1])
        self._target[0, :known] = torch.from_numpy(previous[:known].astype(np.float32))
        self._weights = prefix_weights(steps, delay, known)
        self._is_guided = overlap.method == "guide"

    def guide(self, device: torch.device) -> PrefixGuide | None:
        """For the sampler."""
        if not self._is_guided:
            return None
        return PrefixGuide(self._target.to(device), self._weights.to(device))

    def finish(self, sampled: Float[Tensor, "1 t a"]) -> Float[Tensor, "1 t a"]:
        """Fade over, or put the rows that are carried out anyway in their place."""
        weights = self._weights
        if self._is_guided:
            weights = (weights == 1).float()
        return torch.lerp(sampled.cpu(), self._target, weights[:, None])
