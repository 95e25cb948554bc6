"""Wan's video autoencoder and UMT5, and all encoders of `motus-8b` at once."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motus_model.encoders import Encoded
from motus_model.hub import Frozen, Place, load
from motus_model.official import WAN_TEXT_TOKENS
from motus_model.qwen import QwenPerception
from motus_model.roles import Encoders


class WanFrames(Frozen):
    """Wan 2.2's video autoencoder: 16 x 16 pixels and 4 frames to a latent of 48 channels.

    Latents are the mean of the posterior, normalised by the constants of its configuration. It
    is causal: the first frame has a latent of its own, the same with or without a future.
    """

    @classmethod
    def from_pretrained(cls, name: str, dtype: torch.dtype = torch.float32) -> "WanFrames":
        """Load a local folder or hub name (`Wan-AI/Wan2.2-TI2V-5B-Diffusers:vae`).

        Raises:
            WeightsError: When the place holds no such model.
        """
        from diffusers import AutoencoderKLWan

        return cls(load(AutoencoderKLWan, Place.parse(name), torch_dtype=dtype))

    @property
    def channels(self) -> int:
        """Of a latent."""
        return self.network.config.z_dim

    def latent_frames(self, frames: int) -> int:
        """One latent for the first frame and one for every four that follow."""
        return 1 + (frames - 1) // self.network.config.scale_factor_temporal

    @torch.no_grad()
    def encode(self, frames: Float[Tensor, "b 3 f H W"]) -> Float[Tensor, "b c l h w"]:
        """Normalised latents of a clip in [-1, 1]."""
        mean, std = self._constants(frames)
        raw = self.network.encode(frames.to(self.network.dtype)).latent_dist.mode()
        return (raw.to(mean) - mean) / std

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c l h w"]) -> Float[Tensor, "b 3 f H W"]:
        """Images in [-1, 1]."""
        mean, std = self._constants(latents)
        raw = (latents * std + mean).to(self.network.dtype)
        return self.network.decode(raw).sample.float().clamp(-1, 1)

    def _constants(
        self, like: Float[Tensor, "..."]
    ) -> tuple[Float[Tensor, "1 c 1 1 1"], Float[Tensor, "1 c 1 1 1"]]:
        config = self.network.config
        mean, std = (
            torch.tensor(values, device=like.device).view(1, -1, 1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return mean, std


class UMT5Text(Frozen):
    """UMT5's encoder as Wan uses it: zero rows after the end of the text."""

    def __init__(self, network: Any, tokenizer: Any, tokens: int = WAN_TEXT_TOKENS) -> None:
        super().__init__(network)
        self.tokenizer = tokenizer
        self.tokens = tokens

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        tokenizer: str | None = None,
        *,
        tokens: int = WAN_TEXT_TOKENS,
        dtype: torch.dtype = torch.float32,
    ) -> "UMT5Text":
        """Load local folders or hub names (`Wan-AI/Wan2.2-TI2V-5B-Diffusers:text_encoder`).

        Args:
            name: Of the encoder.
            tokenizer: Of the tokenizer, where it lies elsewhere (`...:tokenizer`).
            tokens: Longest text; what is longer is cut off.
            dtype: Of the weights.

        Raises:
            WeightsError: When a place holds no such model.
        """
        from transformers import AutoTokenizer, UMT5EncoderModel

        return cls(
            load(UMT5EncoderModel, Place.parse(name), dtype=dtype, use_safetensors=True),
            load(AutoTokenizer, Place.parse(tokenizer or name)),
            tokens,
        )

    @property
    def width(self) -> int:
        """Numbers of one token."""
        return self.network.config.d_model

    def settings(self) -> dict[str, Any]:
        """The words it knows, and how many it reads."""
        return {"words": self.tokenizer.get_vocab(), "tokens": self.tokens}

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Encoded:
        """Token features of each text; entities and runs of blanks are tidied as Wan does."""
        tidy = [" ".join(html.unescape(html.unescape(text)).split()) for text in texts]
        words = self.tokenizer(
            tidy,
            padding="max_length",
            max_length=self.tokens,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        device = self.network.device
        mask = words["attention_mask"].to(device)
        # Rows after the longest text are zero anyway: don't compute them.
        longest = int(mask.sum(1).max())
        out = self.network(
            input_ids=words["input_ids"][:, :longest].to(device), attention_mask=mask[:, :longest]
        ).last_hidden_state.float()
        out = out * mask[:, :longest, None]
        return Encoded(nn.functional.pad(out, (0, 0, 0, self.tokens - longest)), mask.bool())


@dataclass(frozen=True)
class EncoderPlaces:
    """Local folder or hub name of each pretrained encoder, `name:subfolder`."""

    frames: str = "Wan-AI/Wan2.2-TI2V-5B-Diffusers:vae"
    text: str = "Wan-AI/Wan2.2-TI2V-5B-Diffusers:text_encoder"
    tokenizer: str = "Wan-AI/Wan2.2-TI2V-5B-Diffusers:tokenizer"
    perception: str = "Qwen/Qwen3-VL-2B-Instruct"


def load_encoders(
    places: EncoderPlaces | None = None,
    *,
    text_tokens: int = WAN_TEXT_TOKENS,
    dtype: torch.dtype = torch.float32,
) -> Encoders:
    """The frozen encoders of `motus-8b`, for `MotusModel(config, encoders)`.

    Args:
        places: Local folders or hub names; the originals on the hub when None.
        text_tokens: `VideoConfig.text_tokens` of the network.
        dtype: Of UMT5 and Qwen3-VL; the video autoencoder runs in float32.

    Raises:
        WeightsError: When one of them can't be loaded.
    """
    places = places or EncoderPlaces()
    return Encoders(
        WanFrames.from_pretrained(places.frames),
        UMT5Text.from_pretrained(places.text, places.tokenizer, tokens=text_tokens, dtype=dtype),
        QwenPerception.from_pretrained(places.perception, dtype=dtype),
    )
