"""The bodies of a latent-action codec: small convolutions, or an autoencoder of drawn flow."""

from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motus_model.hub import Frozen, Place, load

TOKENS, TOKEN_WIDTH = 4, 512  # of a drawn flow, paper 4.3.5
# Sizes of dc-ae-f128c512-in-1.0 (diffusers, scripts/convert_dcae_to_diffusers.py).
_RESIDUAL, _ATTENTION = ["ResBlock"] * 3, ["EfficientViTBlock"] * 5
_DC_AE: dict[str, Any] = {
    "latent_channels": TOKEN_WIDTH,
    "encoder_block_types": _RESIDUAL + _ATTENTION,
    "decoder_block_types": _RESIDUAL + _ATTENTION,
    "encoder_block_out_channels": (128, 256, 512, 512, 1024, 1024, 2048, 2048),
    "decoder_block_out_channels": (128, 256, 512, 512, 1024, 1024, 2048, 2048),
    "encoder_layers_per_block": (0, 4, 8, 2, 2, 2, 2, 2),
    "decoder_layers_per_block": (0, 5, 10, 2, 2, 2, 2, 2),
    "encoder_qkv_multiscales": ((),) * 8,
    "decoder_qkv_multiscales": ((),) * 8,
    "decoder_norm_types": ["batch_norm"] * 3 + ["rms_norm"] * 5,
    "decoder_act_fns": ["relu"] * 3 + ["silu"] * 5,
}


class Trunk(Protocol):
    """Between flow of unit size and the features that a latent is made of."""

    width: int  # of the features

    def read(self, flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b f"]:
        """Features of flow."""
        ...

    def draw(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b 2 h w"]:
        """Flow of features."""
        ...


class ConvolutionalTrunk(nn.Module):
    """Convolutions that halve the canvas, and their mirror image, which begins at zero."""

    def __init__(self, size: tuple[int, int], widths: tuple[int, ...], hidden: int) -> None:
        super().__init__()
        rows, columns = (side // 2 ** len(widths) for side in size)
        cells = widths[-1] * rows * columns
        self.width = hidden
        down: list[nn.Module] = []
        width = 2
        for after in widths:
            down += [nn.Conv2d(width, after, 4, stride=2, padding=1), nn.SiLU()]
            width = after
        self.down = nn.Sequential(*down, nn.Flatten(), nn.Linear(cells, hidden))
        up: list[nn.Module] = [
            nn.Linear(hidden, cells),
            nn.Unflatten(1, (width, rows, columns)),
        ]
        for after in (*reversed(widths[:-1]), 2):
            up += [nn.SiLU(), nn.ConvTranspose2d(width, after, 4, stride=2, padding=1)]
            width = after
        self.up = nn.Sequential(*up)
        for parameter in self.up[-1].parameters():
            nn.init.zeros_(parameter)

    def read(self, flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b f"]:
        """See `Trunk.read`."""
        features: Tensor = self.down(flow)
        return features

    def draw(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b 2 h w"]:
        """See `Trunk.draw`."""
        flow: Tensor = self.up(features)
        return flow


class DeepCompression(Frozen):
    """DC-AE (Chen et al. 2024) of diffusers, frozen: an image to four tokens of 512, and back."""

    @classmethod
    def from_pretrained(cls, name: str) -> "DeepCompression":
        """Load a local folder or hub name (`mit-han-lab/dc-ae-f128c512-in-1.0-diffusers`).

        Raises:
            WeightsError: When the place holds no such model.
        """
        from diffusers import AutoencoderDC

        return cls(load(AutoencoderDC, Place.parse(name)))

    @classmethod
    def outline(cls) -> "DeepCompression":
        """One of the paper's size with random weights, to be counted and not to be used."""
        from diffusers import AutoencoderDC

        return cls(AutoencoderDC(**_DC_AE))

    @property
    def side(self) -> int:
        """Pixels of the square image that makes the tokens, two by two."""
        return 2 * int(self.network.spatial_compression_ratio)

    @property
    def width(self) -> int:
        """Of a token."""
        return int(self.network.config.latent_channels)

    def encode(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 4 c"]:
        """Tokens of images in [-1, 1]."""
        with torch.no_grad():
            grid: Tensor = self.network.encode(image).latent
        return grid.flatten(2).transpose(1, 2)

    def decode(self, tokens: Float[Tensor, "b 4 c"]) -> Float[Tensor, "b 3 s s"]:
        """Images of tokens; gradients pass through to the tokens."""
        grid = tokens.transpose(1, 2).unflatten(2, (2, 2))
        image: Tensor = self.network.decode(grid).sample
        return image


class DeepCompressionTrunk(nn.Module):
    """Flow drawn as an image, its four tokens, and light layers between tokens and features."""

    def __init__(self, size: tuple[int, int], autoencoder: DeepCompression, hidden: int) -> None:
        super().__init__()
        self.size, self.width = size, hidden
        self.autoencoder = autoencoder
        tokens = TOKENS * autoencoder.width
        self.read_tokens = nn.Sequential(
            nn.LayerNorm(autoencoder.width), nn.Flatten(), nn.Linear(tokens, hidden)
        )
        self.draw_tokens = nn.Sequential(
            nn.SiLU(), nn.Linear(hidden, tokens), nn.Unflatten(1, (TOKENS, autoencoder.width))
        )

    def read(self, flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b f"]:
        """See `Trunk.read`."""
        features: Tensor = self.read_tokens(self.autoencoder.encode(self._image(flow)))
        return features

    def draw(self, features: Float[Tensor, "b f"]) -> Float[Tensor, "b 2 h w"]:
        """See `Trunk.draw`."""
        return self._flow(self.autoencoder.decode(self.draw_tokens(features)))

    def ceiling(self, flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 2 h w"]:
        """Flow through the autoencoder alone, without the 14 numbers between."""
        return self._flow(self.autoencoder.decode(self.autoencoder.encode(self._image(flow))))

    def _image(self, flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 3 s s"]:
        side = self.autoencoder.side
        whole = nn.functional.interpolate(flow, (side, side), mode="bilinear")
        return draw_flow(whole)

    def _flow(self, image: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 2 h w"]:
        return nn.functional.interpolate(read_flow(image), self.size, mode="area")


# Hue says the direction, distance from grey the speed: red, green and blue point a third of a
# turn apart. An image in [-1, 1] holds flow of up to 4 root mean squares.
_REACH = 4.0


def draw_flow(flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Flow of unit size as a colour image in [-1, 1]; faster flow than 4 is cut off."""
    speed = flow.norm(dim=1, keepdim=True).clamp_min(1e-9)
    kept = flow * (speed.clamp_max(_REACH) / speed) / _REACH
    return torch.einsum("cv,bvhw->bchw", _wheel(flow), kept)


def read_flow(image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2 h w"]:
    """The flow that an image shows; grey parts of its colours say nothing."""
    return _REACH * torch.einsum("vc,bchw->bvhw", torch.linalg.pinv(_wheel(image)), image)


def _wheel(like: Tensor) -> Float[Tensor, "3 2"]:
    angles: Any = torch.arange(3, device=like.device, dtype=like.dtype) * (2 * torch.pi / 3)
    return torch.stack([angles.cos(), angles.sin()], dim=1)
