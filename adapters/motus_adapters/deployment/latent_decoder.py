"""From a chunk of latent actions to a robot's own: fitted on that robot's anchoring data alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motus_model import LATENT_WIDTH

BATCH = 128
LEARNING_RATE = 1e-3
DROPOUT = 0.3  # anchoring data are few: docs/results/pretraining.md


class LatentDecoder(nn.Module):
    """Two layers over the latent actions, their running sums, and the state.

    Where a robot is after some steps is where it was plus what it moved: the running sums are
    nearer to an action than the latent actions themselves.

    Args:
        steps: Of a chunk.
        state: Width of an encoded state.
        actions: Numbers of one action.
        hidden: Width of the layers.
    """

    def __init__(self, steps: int, state: int, actions: int, hidden: int) -> None:
        super().__init__()
        self.shape = (steps, actions)
        self.layers = nn.Sequential(
            nn.Dropout(DROPOUT),
            nn.Linear(2 * steps * LATENT_WIDTH + state, hidden),
            nn.SiLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, steps * actions),
        )

    def forward(
        self, latents: Float[Tensor, "b t 14"], state: Float[Tensor, "b s"]
    ) -> Float[Tensor, "b t a"]:
        """Normalised actions of normalised latent actions and an encoded state."""
        sums = latents.cumsum(1) / self.shape[0] ** 0.5
        known = torch.cat([latents.flatten(1), sums.flatten(1), state], dim=1)
        return self.layers(known).unflatten(1, self.shape)


@dataclass(frozen=True)
class Anchored:
    """Windows of anchoring data, in the network's numbers."""

    latents: Float[Tensor, "n t 14"]
    state: Float[Tensor, "n s"]
    actions: Float[Tensor, "n t a"]


def fit_decoder(
    train: Anchored, held: Anchored, *, hidden: int, steps: int
) -> tuple[LatentDecoder, float]:
    """Fit a decoder by least squares; the same data give the same weights.

    Args:
        train: What it learns from.
        held: What it is measured on.
        hidden: Width of its layers.
        steps: Of the optimizer.

    Returns:
        The decoder, and R2 over all numbers of the held-out windows.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = LatentDecoder(
            train.latents.shape[1], train.state.shape[1], train.actions.shape[2], hidden
        )
        _descend(decoder, train, steps)
    with torch.no_grad():
        error = (decoder.eval()(held.latents, held.state) - held.actions).square().sum()
        spread = (held.actions - train.actions.mean(0)).square().sum()
    return decoder, float(1 - error / spread)


def _descend(decoder: LatentDecoder, train: Anchored, steps: int) -> None:
    optimizer = torch.optim.AdamW(decoder.parameters(), LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = torch.randint(0, len(train.actions), (BATCH,))
        guess = decoder(train.latents[rows], train.state[rows])
        loss = (guess - train.actions[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
