"""What a codec is measured against: principal components, random weights, full supervision."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from motus_model import LATENT_WIDTH, LatentActionCodec
from motus_recipes.data.cache import Cached
from motus_recipes.health.codes import Codes, Flow, Rebuilt, compare, encode, steps
from motus_recipes.health.probes import Steps, fit_early, folds, r2

CHANNELS = (16, 32, 48)  # of the supervised network, after each halving
HIDDEN = 192
EPOCHS, UPDATES = 12, 600  # the fewest of both that it learns for
BATCH = 64

Pictures = Float[np.ndarray, "n p"]


@dataclass(frozen=True)
class Components:
    """The 14 principal components of some flow; head and wrist views are brought to unit size.

    Attributes:
        axes: Of flow of unit size.
        size: What flow is divided by.
    """

    axes: Float[np.ndarray, "p 14"]
    size: Float[np.ndarray, "1 1 h 1"]

    def read(self, flow: Flow) -> Float[np.ndarray, "n 14"]:
        """Codes of flow."""
        return np.asarray((flow / self.size).reshape(len(flow), -1) @ self.axes)

    def draw(self, code: Float[np.ndarray, "n 14"], like: Flow) -> Flow:
        """Flow of codes."""
        return np.asarray((code @ self.axes.T).reshape(like.shape) * self.size)


def fit_components(flow: Flow) -> Components:
    """The components of flow canvases, of any number of cells."""
    rows = np.sqrt(np.mean(flow**2, axis=(0, 1), keepdims=True)).mean(3)[0, 0]
    head = len(rows) * 2 // 3  # the wrist views lie below, at half the size
    bands = np.repeat([rows[:head].mean(), rows[head:].mean()], (head, len(rows) - head))
    size = np.maximum(bands, 1e-3).astype(np.float32)[None, None, :, None]
    return Components(components((flow / size).reshape(len(flow), -1)), size)


def flow_components(cached: Cached, codes: Codes) -> tuple[Steps, Steps, Rebuilt]:
    """14 principal components of the dataset's own training flow: codes, and what they rebuild."""
    train = np.asarray(cached.flow[codes.train_rows], np.float32)
    fitted = fit_components(train)
    own, held = fitted.read(train), fitted.read(codes.held_flow)
    rebuilt = fitted.draw(held, codes.held_flow)
    return *_pair(cached, codes, own, held), compare(codes.held_flow, rebuilt)


def picture_components(cached: Cached, codes: Codes) -> tuple[Steps, Steps]:
    """14 principal components of the difference between one picture and the next."""
    parts = [_differences(cached, rows) for rows in (codes.train_rows, codes.held_rows)]
    center = parts[0].mean(0)
    axes = components(parts[0] - center)
    return _pair(cached, codes, *((part - center) @ axes for part in parts))


def random_encoder(codec: LatentActionCodec, cached: Cached, codes: Codes) -> tuple[Steps, Steps]:
    """The codec's own encoder with random weights; what it divides flow by is kept."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    other = LatentActionCodec(codec.config, getattr(codec.trunk, "autoencoder", None))
    for module in other.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()
    torch.random.set_rng_state(state)
    for name, value in codec.named_buffers():
        other.get_buffer(name).copy_(value)
    other.to(codec.motion_size.device).eval()
    flows = (np.asarray(cached.flow[codes.train_rows], np.float32), codes.held_flow)
    return _pair(cached, codes, *(encode(other, flow)[0] for flow in flows))


def neighbours(cached: Cached, codes: Codes) -> tuple[Steps, Steps]:
    """Latents with those of the step before and the step after: what time would tell besides."""

    def wide(rows: np.ndarray) -> np.ndarray:
        first = cached.first[rows]
        last = np.maximum(first, cached.last[rows] - 1)  # an episode's last frame is no step
        around = [np.clip(rows + offset, first, last) for offset in (-1, 0, 1)]
        return np.concatenate([codes.latents[at] for at in around], axis=1)

    return _pair(cached, codes, wide(codes.train_rows), wide(codes.held_rows))


def supervised(
    train_flow: Flow, train: Steps, held_flow: Flow, held: Steps, seed: int = 0
) -> Float[np.ndarray, " m"]:
    """R2 of a small network that learns twists from flow with every label shown.

    What could be read from the flow at this size and amount of data: the ceiling of a code.
    """
    size = np.sqrt((train_flow**2).mean((0, 1, 3), keepdims=True)).clip(1e-3)
    usual, spread = train.motion.mean(0), train.motion.std(0) + 1e-9
    x = torch.from_numpy(train_flow / size)
    y = torch.from_numpy(((train.motion - usual) / spread).astype(np.float32))
    stop = folds(train) == 0
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    network = _network(y.shape[1], x.shape[1:])
    parts = (x[~stop], y[~stop]), (x[stop], y[stop])
    epochs = max(EPOCHS, math.ceil(UPDATES / max(1, len(parts[0][0]) // BATCH)))
    best = fit_early(network, *parts, epochs=epochs, batch=BATCH, rate=1.5e-3)
    torch.random.set_rng_state(state)
    network.load_state_dict(best)
    with torch.no_grad():
        guess = [network(part) for part in torch.from_numpy(held_flow / size).split(256)]
    return r2(held.motion, torch.cat(guess).numpy() * spread + usual, usual)


def components(rows: Pictures) -> Float[np.ndarray, "p 14"]:
    """The leading principal axes of centred or scaled rows."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)  # pca_lowrank draws a random projection
    count = min(LATENT_WIDTH + 10, *rows.shape)
    _, _, axes = torch.pca_lowrank(torch.from_numpy(rows), q=count, center=False, niter=3)
    torch.random.set_rng_state(state)
    return np.asarray(axes[:, :LATENT_WIDTH].numpy())


def _pair(cached: Cached, codes: Codes, train: np.ndarray, held: np.ndarray) -> tuple[Steps, Steps]:
    return (
        steps(cached, codes.train_rows, train, codes.columns),
        steps(cached, codes.held_rows, held, codes.columns),
    )


def _differences(cached: Cached, rows: np.ndarray) -> Pictures:
    """Grey pictures of every second pixel, the next one less this one."""
    now, following = (
        np.asarray(cached.canvas[at][:, ::2, ::2], np.float32).mean(-1) for at in (rows, rows + 1)
    )
    return (following - now).reshape(len(rows), -1)


def _network(width: int, shape: Sequence[int]) -> nn.Module:
    before, height, length = shape
    layers: list[nn.Module] = []
    for after in CHANNELS:
        layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.SiLU()]
        before = after
    cells = before * (height // 8) * (length // 8)
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(cells, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, width)
    )


def best_drawn(codec: LatentActionCodec, flow: Flow, code: np.ndarray, rounds: int = 40) -> Rebuilt:
    """The autoencoder's own ceiling: what it draws of the flow at best.

    A deep-compression autoencoder is asked without the 14 numbers between; the small codec is
    asked for the latent that its decoder draws the flow best from, found by descent.
    """
    device = codec.motion_size.device
    wanted = torch.from_numpy(np.asarray(flow, np.float32)).to(device)
    if codec.config.autoencoder is not None:
        with torch.no_grad():
            x = wanted / codec.scale
            size = x.square().flatten(1).mean(1).sqrt().clamp_min(1e-6)[:, None, None, None]
            drawn = codec.trunk.ceiling(x / size) * size * codec.scale  # type: ignore[operator]
        return compare(flow, drawn.cpu().numpy())
    latent = torch.from_numpy(np.float32(code)).to(device).requires_grad_()
    optimizer = torch.optim.Adam([latent], lr=0.05)
    for _ in range(rounds):
        optimizer.zero_grad()
        codec.flow_error(codec.decode(latent), wanted).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return compare(flow, codec.decode(latent).cpu().numpy())
