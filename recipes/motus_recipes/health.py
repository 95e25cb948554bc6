"""What a codec's 14 numbers carry, on episodes it never trained on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from motus_model import LatentActionCodec
from motus_recipes.cache import Cached

ACTIVE = 0.1  # nats: a dimension whose KL is larger carries something
TWIST = [*range(6), *range(7, 13)]  # motion without the grippers, which flow doesn't show


@torch.no_grad()
def codec_health(codec: LatentActionCodec, data: Mapping[str, Cached]) -> dict[str, Any]:
    """Per dataset: reconstruction, active dimensions and what a linear probe reads.

    `epe_ratio` is the mean end-point error of the reconstructed flow over that of zero flow (1 is
    no better than nothing); `twist_r2` the R2 of true end-effector motion from the latent by ridge
    regression, fitted on training episodes and read on held-out ones.
    """
    return {name: _one(codec.eval(), cached) for name, cached in data.items()}


def _one(codec: LatentActionCodec, cached: Cached) -> dict[str, Any]:
    train, held = (_moving(cached, rows) for rows in cached.split())
    if not len(held):
        train, held = train[::2], train[1::2]
    flow = torch.from_numpy(np.asarray(cached.flow[held], np.float32))
    device = codec.motion_mean.device
    mean, log_variance = (part.cpu() for part in codec.encode(flow.to(device)))
    rebuilt = codec.decode(mean.to(device)).cpu()
    error = (rebuilt - flow).norm(dim=1).mean()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(0)
    columns = [i for i in TWIST if cached.motion_mask[i]]
    scores = probe(
        codec.encode_flow(cached.flow[train]),
        cached.motion[train][:, columns],
        mean.numpy(),
        cached.motion[held][:, columns],
    )
    return {
        "frames": len(held),
        "epe_ratio": float(error / flow.norm(dim=1).mean().clamp_min(1e-9)),
        "active_dimensions": int((kl > ACTIVE).sum()),
        "kl": [round(float(value), 3) for value in kl],
        "twist_r2": None if scores is None else float(scores.mean()),
    }


def _moving(cached: Cached, rows: np.ndarray) -> np.ndarray:
    """Frames that have a next frame."""
    return rows[rows < cached.last[rows]]


def probe(
    latent: Float[np.ndarray, "n z"],
    motion: Float[np.ndarray, "n m"],
    held_latent: Float[np.ndarray, "k z"],
    held_motion: Float[np.ndarray, "k m"],
    ridge: float = 1.0,
) -> Float[np.ndarray, " m"] | None:
    """R2 of each motion number that moves, from the latent by ridge regression."""
    moves: Bool[np.ndarray, " m"] = motion.std(0) > 1e-6 if motion.size else np.zeros(0, bool)
    if not moves.any() or not len(held_latent):
        return None
    motion, held_motion = motion[:, moves], held_motion[:, moves]
    center, size = latent.mean(0), latent.std(0) + 1e-9
    x, y = (latent - center) / size, motion - motion.mean(0)
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
    guess = ((held_latent - center) / size) @ weights + motion.mean(0)
    rest = ((held_motion - guess) ** 2).sum(0)
    whole = ((held_motion - motion.mean(0)) ** 2).sum(0)
    return 1 - rest / np.maximum(whole, 1e-12)
