"""How a modality moves from one time to the next: Euler's step, or one of higher order."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Solver(Protocol):
    """Integrates dx/dt = v over the times it was made for, one call a step."""

    def __call__(
        self, x: Float[Tensor, "b ..."], velocity: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """The next x; `velocity` is the network's answer at this x."""


class Euler:
    """x + v dt: the official code's and the paper's (algorithms 2 to 6)."""

    def __init__(self, times: Sequence[float]) -> None:
        self._deltas = iter(np.diff(times).tolist())

    def __call__(
        self, x: Float[Tensor, "b ..."], velocity: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """The next x."""
        return x + velocity * next(self._deltas)


class UniPC:
    """Unified predictor-corrector of order 2 (arXiv 2302.04867), as diffusers has it.

    It remembers the last answer of the network and corrects the last step by the new one. Its
    first and last step have order 1, so that one or two steps are Euler's.
    """

    def __init__(self, times: Sequence[float]) -> None:
        self._times = times

    @cached_property
    def _scheduler(self) -> Any:
        from diffusers import UniPCMultistepScheduler

        scheduler = UniPCMultistepScheduler(
            solver_order=2, prediction_type="flow_prediction", use_flow_sigmas=True
        )
        scheduler.set_timesteps(sigmas=np.array(self._times[:-1]))  # it adds the last one, 0
        scheduler.set_begin_index(0)
        return scheduler

    def __call__(
        self, x: Float[Tensor, "b ..."], velocity: Float[Tensor, "b ..."]
    ) -> Float[Tensor, "b ..."]:
        """The next x."""
        # It counts its steps by itself: the time that `step` asks for is not used.
        return self._scheduler.step(velocity, 0, x, return_dict=False)[0]


SOLVERS: dict[str, Callable[[Sequence[float]], Solver]] = {"euler": Euler, "unipc": UniPC}
