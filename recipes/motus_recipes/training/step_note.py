"""What a training step tells whoever looks on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Progress = Callable[[int, int, Any], None]  # steps done, in all, and a StepNote or words


@dataclass(frozen=True)
class StepNote:
    """One step of a stage; as text, a short line.

    Attributes:
        stage: Its folder's name.
        done: Steps done.
        steps: Steps in all.
        batch: Windows of a step.
        losses: The total as `loss`, and its parts.
        gradient_norm: Before clipping.
        learning_rate: The largest of all experts.
        drawn: Share of each source among the windows so far.
        asked: Its share in the recipe.
    """

    stage: str
    done: int
    steps: int
    batch: int
    losses: Mapping[str, float]
    gradient_norm: float
    learning_rate: float
    drawn: Mapping[str, float]
    asked: Mapping[str, float]

    def __str__(self) -> str:
        shares = "  ".join(f"{name} {share:.0%}" for name, share in self.drawn.items())
        return f"{self.stage}  loss {self.losses['loss']:.4f}  {shares}"
