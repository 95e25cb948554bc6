"""The small parts that all three experts share: norms, times, rotary positions, attention."""

import math
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

# Shapes: b batch, n tokens, d width, h heads, k head width, p rotary pairs.


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, computed in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        """X / sqrt(mean(x^2) + eps), weighted."""
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale).to(x.dtype) * self.weight


def layer_norm(x: Float[Tensor, "... d"], eps: float) -> Float[Tensor, "... d"]:
    """Layer norm without weights, in float32 (a float32 island of the official code)."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=eps)


def modulate(
    x: Float[Tensor, "b n d"],
    shift: Float[Tensor, "b #n d"],
    scale: Float[Tensor, "b #n d"],
    eps: float,
) -> Float[Tensor, "b n d"]:
    """Adaptive layer norm: LN(x) (1 + scale) + shift, in float32, returned in x's type."""
    return (layer_norm(x, eps) * (1 + scale) + shift).to(x.dtype)


def sinusoid(times: Float[Tensor, "..."], width: int) -> Float[Tensor, "... {width}"]:
    """Cosines then sines of 1000 t at geometric frequencies (Wan's time embedding)."""
    half = width // 2
    rates = torch.pow(10000.0, -torch.arange(half, dtype=torch.float64, device=times.device) / half)
    angles = (times.double() * 1000)[..., None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1).float()


def sincos_positions(count: int, width: int) -> Float[Tensor, "1 {count} {width}"]:
    """Fixed 1-D positions, sines then cosines, base 10000 (official action expert)."""
    rates = torch.pow(10000.0, -torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()[None]


def in_own_precision(device: str) -> AbstractContextManager[object]:
    """A float32 island: matrix products stay in the precision of their weights under autocast."""
    # Outside of autocast there is nothing to enter, and nothing for an export to trip over.
    narrow = torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if narrow else nullcontext()


class TimeEmbedding(nn.Module):
    """A time in [0, 1] as one embedding and as the six modulations of every block."""

    def __init__(self, width: int, frequency_width: int) -> None:
        super().__init__()
        self.frequency_width = frequency_width
        self.time_embedding = nn.Sequential(
            nn.Linear(frequency_width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def embed_time(
        self, times: Float[Tensor, "b f"]
    ) -> tuple[Float[Tensor, "b f d"], Float[Tensor, "b f 6 d"]]:
        """The embedding, and six (shift, scale, gate)-rows of it."""
        kind = next(self.time_embedding.parameters()).dtype
        wave = sinusoid(times, self.frequency_width).to(kind)
        with in_own_precision(times.device.type):
            embedding = self.time_embedding(wave)
            rows = self.time_projection(embedding)
        return embedding.float(), rows.float().unflatten(-1, (6, -1))


def mlp_silu(inputs: int, width: int, layers: int = 3) -> nn.Sequential:
    """Linear layers with SiLU between (`mlp3x_silu` of the official code)."""
    widths = [inputs] + [width] * layers
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after), nn.SiLU()]
    return nn.Sequential(*parts[:-1])


def feed_forward(width: int, hidden: int) -> nn.Sequential:
    """Linear, tanh-GELU, linear."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width)
    )


Rotary = Float[Tensor, "n 1 p 2"]


def rotary_table(grid: tuple[int, int, int], head_width: int) -> Rotary:
    """Cosines and sines of Wan's 3-D rotary positions for a (frames, rows, columns) grid.

    The head's pairs are shared out as head_width - 4 (head_width // 6) numbers for time and
    2 (head_width // 6) each for rows and columns; base 10000.
    """
    space = 2 * (head_width // 6)
    widths = (head_width - 2 * space, space, space)
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = []
    for axis, width in zip(axes, widths, strict=True):
        rates = torch.pow(10000.0, -torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles.append(axis.reshape(-1, 1) * rates)
    angle = torch.cat(angles, dim=-1)
    return torch.stack([angle.cos(), angle.sin()], dim=-1).float()[:, None]


def rotate(x: Float[Tensor, "b n h k"], table: Rotary) -> Float[Tensor, "b n h k"]:
    """Turn each adjacent pair of x by its position's angle."""
    pairs = x.float().unflatten(-1, (-1, 2))
    cos, sin = table[..., 0], table[..., 1]
    even, odd = pairs[..., 0], pairs[..., 1]
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


# Which keys are seen; or what is added to their logits.
KeyMask = Bool[Tensor, "b m"] | Float[Tensor, "b m"]


def attend(
    q: Float[Tensor, "b n h k"],
    k: Float[Tensor, "b m h k"],
    v: Float[Tensor, "b m h k"],
    key_mask: KeyMask | None = None,
) -> Float[Tensor, "b n h*k"]:
    """Softmax attention over all keys, scale 1/sqrt(k)."""
    mask = None
    if key_mask is not None:
        mask = key_mask[:, None, None, :]
        mask = mask.to(q.dtype) if mask.is_floating_point() else mask
    out = F.scaled_dot_product_attention(
        q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask
    )
    return out.transpose(1, 2).flatten(2)


# SiLU passes on 0.36 of a unit normal's second moment; without it three layers fade the signal.
SILU_GAIN = 1.7


def init_linear(module: nn.Module) -> None:
    """Xavier weights and zero bias for every linear layer below `module`."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, nn.Sequential):
            for layer, after in pairwise(part):
                if isinstance(layer, nn.Linear) and isinstance(after, nn.SiLU):
                    layer.weight.data.mul_(SILU_GAIN)
        if isinstance(part, TimeEmbedding):
            nn.init.zeros_(next(part.time_projection[1].parameters()))  # times join in by and by


def open_gates(width: int) -> nn.Parameter:
    """A block's six modulations: no shift, no scale, both gates open.

    Wan starts from noise of size 1/sqrt(width); with open gates a network that is trained from
    nothing moves at once.
    """
    modulation = torch.zeros(1, 6, width)
    modulation[:, [2, 5]] = 1
    return nn.Parameter(modulation)


def scaled_normal_(tensor: Float[Tensor, "..."], fan_in: int) -> None:
    """Normal noise of variance 1 / fan_in, in place."""
    nn.init.normal_(tensor, std=1 / math.sqrt(fan_in))
