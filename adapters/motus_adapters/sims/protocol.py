"""What every simulator offers, so that recording and evaluation are written once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from motus_embodiments import MotusError

ImageSize = int | tuple[int, int]  # pixels: of a square, or (height, width)


class SimulatorError(MotusError):
    """A simulator that died, hung, or answered nonsense; the next `reset` starts it anew."""

    code = "simulator"
    exit_code = 1


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
        cameras: Names of the pictures of an observation.
        has_expert: Whether `expert` knows what to do.
        versions: Packages that decide how an episode goes, and their versions.
    """

    name: str
    card: str
    rate: float
    instruction: str
    max_steps: int
    cameras: tuple[str, ...]
    has_expert: bool
    versions: Mapping[str, str]

    @property
    def success(self) -> bool:
        """Whether the task is solved now."""
        ...

    @property
    def signals(self) -> Mapping[str, float]:
        """What can be measured now, beside success: numbers (SI units), and yes or no as 1 or 0.

        The names are the same in all of an episode; NaN is what was not measured yet.
        """
        ...

    def reset(self, seed: int) -> None:
        """Start the episode that belongs to a seed; the same seed gives the same start."""

    def observe(self) -> Observation:
        """Pictures and state now."""

    def step(self, action: Float[np.ndarray, " a"]) -> None:
        """Apply a native action for one control period."""

    def expert(self) -> Float[np.ndarray, " a"]:
        """What the scripted expert would do now, as a native action.

        Raises:
            UsageError: There is no expert.
        """

    def disturb(self, generator: np.random.Generator) -> None:
        """Move the robot to a random start, for recordings with variety; may do nothing."""

    def jitter(
        self, action: Float[np.ndarray, " a"], generator: np.random.Generator
    ) -> Float[np.ndarray, " a"]:
        """The action with a push off its way, for recordings that show how to come back (DART).

        Gives back the action itself where a push would spoil the task.
        """

    def close(self) -> None:
        """Release graphics resources and processes."""
