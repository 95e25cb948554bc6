"""Real-time chunking: a new action chunk that goes on where the last one is being carried out.

Black, Galliker, Levine 2025, "Real-Time Execution of Action Chunking Flow Policies"
(arXiv 2506.07339), with this project's time: 0 data, 1 noise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from motus_model.network import Actions, Velocity

STRENGTH = 5.0  # the paper's beta, at 5 denoising steps


# Bends the actions' velocity in each denoising step. It is given the network in this step, as a
# function of the noisy actions alone; the noisy actions; and their time.
Guide = Callable[[Callable[[Actions], Velocity], Actions, float], Velocity]


def prefix_weights(steps: int, delay: int, overlap: int) -> Float[Tensor, " t"]:
    """How firmly each action is tied to the previous chunk (the paper's equation 5).

    Args:
        steps: Actions of a chunk.
        delay: Actions that are carried out before the new chunk arrives: weight 1.
        overlap: Actions that the previous chunk still has: after the first `delay` of them the
            weight falls to 0.
    """
    row = torch.arange(steps, dtype=torch.float32)
    c = ((overlap - row) / (overlap - delay + 1)).clamp(0, 1)
    falling = c * torch.expm1(c) / torch.expm1(torch.ones(()))
    return torch.where(row < delay, torch.ones(()), falling)


@dataclass(frozen=True)
class PrefixGuide:
    """Pulls the chunk towards the previous one, as pseudoinverse guidance (equations 2 to 4).

    Attributes:
        previous: What the previous chunk says for the same moments; any value where weight is 0.
        weights: From `prefix_weights`.
        strength: Upper bound of the pull, since it is infinite in pure noise.
    """

    previous: Actions
    weights: Float[Tensor, " t"]
    strength: float = STRENGTH

    def __call__(
        self, velocity_at: Callable[[Actions], Velocity], actions: Actions, time: float
    ) -> Velocity:
        """One network call and one backward pass through it."""
        with torch.enable_grad():
            noisy = actions.detach().requires_grad_()
            velocity = velocity_at(noisy)
            assert velocity.action is not None, "the network has no action expert"
            clean = noisy - time * velocity.action
        error = (self.previous - clean.detach()) * self.weights[:, None].to(clean)
        (pull,) = torch.autograd.grad(clean, noisy, error)
        bent = velocity.action.detach() - self._scale(time) * pull
        return Velocity(velocity.video.detach(), bent)

    def _scale(self, time: float) -> float:
        """min(strength, t / ((1 - t) r^2)) with r^2 = t^2 / ((1 - t)^2 + t^2)."""
        if time >= 1:
            return self.strength
        return min(self.strength, ((1 - time) ** 2 + time**2) / (time * (1 - time)))
