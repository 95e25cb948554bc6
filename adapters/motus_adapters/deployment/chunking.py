"""How a new action chunk takes over from the one under execution.

A robot goes on moving while the policy thinks. What it does meanwhile is the previous chunk, and
the new one has to begin where that one will have led to.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from motus_embodiments import DataError, UsageError, nearest

Method = Literal["guide", "blend"]


@dataclass(frozen=True)
class Overlap:
    """The previous chunk from now on: its row 0 belongs to the moment of the observation.

    Attributes:
        actions: Native actions that are left of it.
        delay: How many of them the robot carries out before a new chunk can arrive.
        method: `guide` draws a chunk that continues the previous one (real-time chunking, Black
            et al. 2025); `blend` draws one as ever and fades over to it.

    Raises:
        UsageError: For another method.
        DataError: When more rows are said to be carried out than there are.
    """

    actions: Float[np.ndarray, "n a"]
    delay: int
    method: Method = "guide"

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            hint = nearest(str(self.method), get_args(Method))
            raise UsageError(f"no chunking named '{self.method}'", hint=hint)
        if self.actions.ndim != 2 or not np.isfinite(self.actions).all():
            shape = list(self.actions.shape)
            raise DataError(f"previous actions are finite numbers [n, a], not {shape}")
        if not 0 <= self.delay <= len(self.actions):
            raise DataError(
                f"the delay is {self.delay} rows, {len(self.actions)} previous actions were given",
                hint="give the rows of the previous chunk from the observation on",
            )
