"""The frame autoencoder of size `tiny`: one image to a small latent grid and back.

It stands where Wan's video autoencoder stands at full size, and is trained by our own recipe
`frames`. Every frame is coded on its own, so latents can be cached frame by frame.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class FrameConfig:
    """Sizes of the frame autoencoder; it halves the image `len(widths)` times."""

    channels: int = 8
    widths: tuple[int, ...] = (32, 64, 96)

    @property
    def stride(self) -> int:
        """Pixels along one side of a latent cell."""
        return int(2 ** len(self.widths))


class FrameLoss(NamedTuple):
    """Losses of each image; the mean of `total` is what is trained on."""

    total: Float[Tensor, " b"]
    pixels: Float[Tensor, " b"]
    edges: Float[Tensor, " b"]


class Residual(nn.Module):
    """Two convolutions around a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The input plus what two convolutions add to it."""
        return x + self.body(x)


class FrameAutoencoder(nn.Module):
    """Images in [-1, 1] to latents of about unit variance, and back."""

    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.config = config
        down: list[nn.Module] = []
        width = 3
        for after in config.widths:
            down += [nn.Conv2d(width, after, 4, stride=2, padding=1), Residual(after)]
            width = after
        self.encoder = nn.Sequential(*down, nn.Conv2d(width, config.channels, 3, padding=1))
        up: list[nn.Module] = [nn.Conv2d(config.channels, width, 3, padding=1)]
        for after in (*reversed(config.widths[:-1]), 16):
            up += [
                Residual(width),
                nn.Upsample(scale_factor=2.0),
                nn.Conv2d(width, after, 3, padding=1),
            ]
            width = after
        self.decoder = nn.Sequential(*up, nn.SiLU(), nn.Conv2d(width, 3, 3, padding=1))
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("std", torch.ones(config.channels))

    @property
    def channels(self) -> int:
        """Of a latent."""
        return self.config.channels

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip; here one for each frame."""
        return frames

    def encode(self, frames: Float[Tensor, "b 3 f H W"]) -> Float[Tensor, "b c f h w"]:
        """Normalised latents of each frame."""
        batch = frames.shape[0]
        raw = self.encoder(frames.transpose(1, 2).flatten(0, 1))
        latents = (raw - self.mean[:, None, None]) / self.std[:, None, None]
        return latents.unflatten(0, (batch, -1)).transpose(1, 2)

    def decode(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b 3 f H W"]:
        """Images in [-1, 1] of each latent frame."""
        batch = latents.shape[0]
        raw = latents.transpose(1, 2).flatten(0, 1) * self.std[:, None, None]
        images = self.decoder(raw + self.mean[:, None, None]).clamp(-1, 1)
        return images.unflatten(0, (batch, -1)).transpose(1, 2)

    def forward(
        self, images: Float[Tensor, "b 3 H W"], noise: Float[Tensor, "b c h w"]
    ) -> FrameLoss:
        """L1 of pixels and of their differences (edges), and a weak pull to unit latents.

        Noise on the latent makes its neighbourhood decode well, which the flow needs.
        """
        raw = self.encoder(images)
        rebuilt = self.decoder(raw + 0.05 * noise)
        pixels = _mean(abs(rebuilt - images))
        edges = _mean(abs(rebuilt.diff(dim=-1) - images.diff(dim=-1)))
        edges = edges + _mean(abs(rebuilt.diff(dim=-2) - images.diff(dim=-2)))
        size = _mean(raw.square())
        return FrameLoss(pixels + edges + 1e-3 * (size - 1).relu(), pixels, edges)

    def noise_shape(self, images: Float[Tensor, "b 3 H W"]) -> tuple[int, int, int]:
        """Shape of one image's latent."""
        height, width = (side // self.config.stride for side in images.shape[-2:])
        return self.config.channels, height, width

    @torch.no_grad()
    def fit_statistics(self, images: Float[Tensor, "b 3 H W"]) -> None:
        """Set the latents' mean and spread from sample images."""
        raw = self.encoder(images)
        self.mean.copy_(raw.mean(dim=(0, 2, 3)))
        self.std.copy_(raw.std(dim=(0, 2, 3)))


def _mean(values: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    return values.flatten(1).mean(1)


def shipped_frames(config: FrameConfig) -> Path | None:
    """The weights that the package carries for an autoencoder of this shape, if it has any."""
    return ASSETS / "frames-tiny.safetensors" if config == FrameConfig() else None
