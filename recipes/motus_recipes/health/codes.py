"""The latents of a dataset, split by episode, with the true motion beside them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from motus_adapters import FLOW_BOXES
from motus_model import LATENT_WIDTH, LatentActionCodec
from motus_recipes.data.cache import Cached, spread
from motus_recipes.data.latents import latents_of
from motus_recipes.health.probes import TWIST, Steps

ACTIVE = 0.1  # nats: a dimension whose KL is larger carries something
LONGEST = 4000  # training steps that are looked at, evenly spread; held-out ones: half of it

Flow = Float[np.ndarray, "n 2 h w"]


@dataclass(frozen=True)
class Codes:
    """One dataset as the codec sees it.

    Attributes:
        latents: Of every frame, as labels are.
        train: Latents and true twists of training episodes.
        held: The same of held-out ones.
        train_rows: Frames of the training steps.
        held_rows: Frames of the held-out steps.
        held_flow: Flow of the held-out steps.
        encoded: What it is encoded to, each step by itself.
        columns: Which of the 14 motion numbers the twists are.
        kl: Of each latent dimension, in nats, mean over held-out steps.
    """

    latents: Float[np.ndarray, "n 14"]
    train: Steps
    held: Steps
    train_rows: np.ndarray
    held_rows: np.ndarray
    held_flow: Flow
    encoded: Float[np.ndarray, "h 14"]
    columns: tuple[int, ...]
    kl: tuple[float, ...]

    @property
    def active(self) -> int:
        """Latent dimensions that carry something."""
        return sum(value > ACTIVE for value in self.kl)


@dataclass(frozen=True)
class Rebuilt:
    """End-point error of rebuilt flow over that of zero flow: all views, and each of them."""

    whole: float
    views: Mapping[str, float]


def read_codes(codec: LatentActionCodec, cached: Cached, held_out: float) -> Codes:
    """Latents of at most `LONGEST` training and half as many held-out steps."""
    train, held = (
        spread(rows[rows < cached.last[rows]], most)
        for rows, most in zip(cached.split(held_out), (LONGEST, LONGEST // 2), strict=True)
    )
    if not len(held):  # a single episode
        train, held = train[::2], train[1::2]
    columns = tuple(
        i for i in TWIST if cached.motion_mask[i] and float(np.std(cached.motion[train, i])) > 1e-6
    )
    flow = np.asarray(cached.flow[held], np.float32)
    encoded, kl = encode(codec, flow)
    latents = latents_of(codec, cached)
    return Codes(
        latents=latents,
        train=steps(cached, train, latents[train], columns),
        held=steps(cached, held, latents[held], columns),
        train_rows=train,
        held_rows=held,
        held_flow=flow,
        encoded=encoded,
        columns=columns,
        kl=tuple(float(value) for value in kl),
    )


def steps(cached: Cached, rows: np.ndarray, code: np.ndarray, columns: tuple[int, ...]) -> Steps:
    """Codes of some frames with their true twists."""
    motion = np.asarray(cached.motion[rows][:, list(columns)], np.float64)
    return Steps(np.asarray(code, np.float64), motion, np.asarray(cached.first[rows]))


@torch.no_grad()
def encode(
    codec: LatentActionCodec, flow: Flow, batch: int = 256
) -> tuple[Float[np.ndarray, "n 14"], Float[np.ndarray, " 14"]]:
    """Mean latents of flow, and the KL of each dimension; zeros where there is no flow."""
    if not len(flow):
        return np.zeros((0, LATENT_WIDTH), np.float32), np.zeros(LATENT_WIDTH, np.float32)
    means, kls = [], []
    device = codec.motion_size.device
    for at in range(0, len(flow), batch):
        part = torch.from_numpy(np.array(flow[at : at + batch], np.float32)).to(device)
        mean, log_variance = codec.encode(part)
        means.append(mean.cpu())
        kls.append((0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)).cpu())
    return torch.cat(means).numpy(), torch.cat(kls).mean(0).numpy()


@torch.no_grad()
def reconstruction(codec: LatentActionCodec, codes: Codes, batch: int = 256) -> Rebuilt:
    """How well a codec draws the held-out flow again that it encoded."""
    device = codec.motion_size.device
    drawn = [
        codec.decode(part.to(device)).cpu() for part in torch.from_numpy(codes.encoded).split(batch)
    ]
    return compare(codes.held_flow, torch.cat(drawn).numpy())


def compare(flow: Flow, rebuilt: Flow) -> Rebuilt:
    """End-point error of rebuilt flow over that of zero flow; views that show nothing left out."""
    error, zero = (np.linalg.norm(field, axis=1) for field in (rebuilt - flow, flow))
    views, sums = {}, np.zeros(2)
    for role, (x, y, width, height) in FLOW_BOXES.items():
        box = np.s_[:, y : y + height, x : x + width]
        if zero[box].mean() > 1e-6:
            views[role] = float(error[box].mean() / zero[box].mean())
            sums += error[box].sum(), zero[box].sum()
    return Rebuilt(float(sums[0] / max(sums[1], 1e-9)), views)
