"""What every simulator offers, so that recording and evaluation are written once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True)
class Observation:
    """What a robot's own software would hand to a policy.

    Attributes:
        images: Camera name to RGB picture.
        state: Robot state in native order and units.
    """

    images: Mapping[str, UInt8[np.ndarray, "h w 3"]]
    state: Float[np.ndarray, " s"]


class Simulator(Protocol):
    """One task in one simulator, for one robot.

    Attributes:
        name: As given on the command line, e.g. `gym-hil:PandaPickCube`.
        card: Name of the embodiment whose native order and units it speaks.
        rate: Control rate in Hz.
        instruction: The task in words.
        max_steps: Steps after which an episode has failed.
    """

    name: str
    card: str
    rate: float
    instruction: str
    max_steps: int

    @property
    def success(self) -> bool:
        """Whether the task has been solved in the running episode."""
        ...

    def reset(self, seed: int) -> None:
        """Start the episode that belongs to a seed; the same seed gives the same start."""

    def observe(self) -> Observation:
        """Pictures and state now."""

    def step(self, action: Float[np.ndarray, " a"]) -> None:
        """Apply a native action for one control period."""

    def expert(self) -> Float[np.ndarray, " a"]:
        """What the scripted expert would do now, as a native action."""

    def disturb(self, generator: np.random.Generator) -> None:
        """Move the robot to a random start, for recordings with variety."""

    def close(self) -> None:
        """Release graphics resources."""
