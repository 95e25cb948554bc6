"""Real windows, to hold a format against the policy that it came from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True)
class Observed:
    """Windows as a policy observes them.

    Attributes:
        canvases: At the model's size.
        states: Canonical.
        tasks: Instructions.
        source: Where they are from.
    """

    canvases: UInt8[np.ndarray, "n H W 3"]
    states: Float[np.ndarray, "n s"]
    tasks: Sequence[str]
    source: str

    def __iter__(
        self,
    ) -> Iterator[tuple[UInt8[np.ndarray, "H W 3"], Float[np.ndarray, " s"], str, int]]:
        """Canvas, state, instruction of each window, and the seed of its noise."""
        for row, task in enumerate(self.tasks):
            yield self.canvases[row], self.states[row], task, row
