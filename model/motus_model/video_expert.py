"""The video expert: Wan 2.2's transformer, its self-attention opened for the other experts.

Parameter names are Wan's own, so that its weights load as they are.
"""

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from motus_model.layers import (
    KeyMask,
    RMSNorm,
    Rotary,
    TimeEmbedding,
    attend,
    feed_forward,
    init_linear,
    modulate,
    open_gates,
    rotate,
)


@dataclass(frozen=True)
class VideoConfig:
    """Sizes of the video expert; the joint attention has `heads` x `head_width` for everyone."""

    width: int
    hidden: int  # of the feed-forward network
    layers: int
    heads: int
    channels: int  # of the video latents
    patch: tuple[int, int, int]  # latent frames, rows, columns a token
    text_width: int
    text_tokens: int
    frequency_width: int = 256
    eps: float = 1e-6

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


class QKV(NamedTuple):
    """Queries, keys and values of one expert for the joint attention."""

    q: Float[Tensor, "b n h k"]
    k: Float[Tensor, "b n h k"]
    v: Float[Tensor, "b n h k"]


class Attention(nn.Module):
    """Wan's attention projections: biases, and an RMS norm of q and k over all heads at once."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.heads = config.heads
        width = config.width
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.norm_q = RMSNorm(width, config.eps)
        self.norm_k = RMSNorm(width, config.eps)

    def split(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n h k"]:
        """One axis of heads out of the width."""
        return x.unflatten(-1, (self.heads, -1))

    def query(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n h k"]:
        """Normed queries."""
        return self.split(self.norm_q(self.q(x)))

    def key_value(
        self, x: Float[Tensor, "b n d"]
    ) -> tuple[Float[Tensor, "b n h k"], Float[Tensor, "b n h k"]]:
        """Normed keys, and values."""
        return self.split(self.norm_k(self.k(x))), self.split(self.v(x))


class VideoBlock(nn.Module):
    """One Wan block in the three parts between which the experts meet."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.modulation = open_gates(config.width)
        self.self_attn = Attention(config)
        self.norm3 = nn.LayerNorm(config.width, eps=config.eps)
        self.cross_attn = Attention(config)
        self.ffn = feed_forward(config.width, config.hidden)

    def qkv(self, x: Float[Tensor, "b n d"], m: Float[Tensor, "b #n 6 d"], table: Rotary) -> QKV:
        """Rotated queries and keys, and values, of the modulated tokens."""
        normed = modulate(x, m[..., 0, :], m[..., 1, :], self.eps)
        q = self.self_attn.query(normed)
        k, v = self.self_attn.key_value(normed)
        return QKV(rotate(q, table), rotate(k, table), v)

    def finish(
        self,
        x: Float[Tensor, "b n d"],
        attended: Float[Tensor, "b n d"],
        m: Float[Tensor, "b #n 6 d"],
        text: "TextKeys",
    ) -> Float[Tensor, "b n d"]:
        """Gated residual, cross-attention to the text, feed-forward network."""
        x = self.merge(x, attended, m)
        q = self.cross_attn.query(self.norm3(x))
        x = x + self.cross_attn.o(attend(q, text.k, text.v, text.mask))
        return (
            x + (self.ffn(modulate(x, m[..., 3, :], m[..., 4, :], self.eps)) * m[..., 5, :])
        ).to(x.dtype)

    def merge(
        self,
        x: Float[Tensor, "b n d"],
        attended: Float[Tensor, "b n d"],
        m: Float[Tensor, "b #n 6 d"],
    ) -> Float[Tensor, "b n d"]:
        """The residual stream after joint attention."""
        return (x + self.self_attn.o(attended) * m[..., 2, :]).to(x.dtype)


class TextKeys(NamedTuple):
    """Keys and values of the text for one block; they don't change while denoising."""

    k: Float[Tensor, "b m h k"]
    v: Float[Tensor, "b m h k"]
    mask: KeyMask | None


class Head(nn.Module):
    """Modulated norm and one linear layer back to patches."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.eps = config.eps
        patch = config.patch[0] * config.patch[1] * config.patch[2]
        self.head = nn.Linear(config.width, config.channels * patch)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.width) / config.width**0.5)

    def forward(
        self, x: Float[Tensor, "b n d"], embedding: Float[Tensor, "b #n d"]
    ) -> Float[Tensor, "b n p"]:
        """Velocity of each token's patch."""
        shift, scale = (self.modulation[:, None] + embedding[:, :, None]).unbind(2)
        return self.head(modulate(x, shift, scale, self.eps))


class VideoExpert(TimeEmbedding):
    """Latent frames to tokens, blocks, and back to a velocity of the latent frames."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__(config.width, config.frequency_width)
        self.config = config
        self.patch_embedding = nn.Conv3d(
            config.channels, config.width, config.patch, stride=config.patch
        )
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_width, config.width),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.width, config.width),
        )
        self.blocks = nn.ModuleList(VideoBlock(config) for _ in range(config.layers))
        self.head = Head(config)
        init_linear(self)
        nn.init.zeros_(self.head.head.weight)

    def grid(self, video: Float[Tensor, "b c f h w"]) -> tuple[int, int, int]:
        """Tokens along time, rows and columns."""
        frames, rows, columns = (
            size // patch for size, patch in zip(video.shape[2:], self.config.patch, strict=True)
        )
        return frames, rows, columns

    def block(self, index: int) -> VideoBlock:
        """Layer `index`."""
        return cast(VideoBlock, self.blocks[index])

    def embed(self, video: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b n d"]:
        """Patches of the latent frames as tokens."""
        return self.patch_embedding(video).flatten(2).transpose(1, 2)

    def embed_text(self, text: Float[Tensor, "b m e"]) -> Float[Tensor, "b m d"]:
        """Text embeddings at this expert's width."""
        return self.text_embedding(text)

    def pad_text(
        self, text: Float[Tensor, "b m e"], mask: Bool[Tensor, "b m"] | None
    ) -> tuple[Float[Tensor, "b t e"], Float[Tensor, "b t"] | None]:
        """Text rows with one zero row for all those that fill them up to Wan's number of tokens.

        Wan attends to n equal zero rows after a text. n equal keys of logit s weigh n exp(s) =
        exp(s + log n) in a softmax, and their values are equal, too: so one key does for them,
        with log n added to its logit.

        Args:
            text: Embeddings.
            mask: True for the rows of each text, which come first; None for all.

        Returns:
            The rows, and what is added to the logits of their keys.
        """
        total = self.config.text_tokens
        lengths = torch.full((len(text),), text.shape[1], device=text.device)
        if mask is not None:
            lengths = mask.sum(1)
            text = text[:, : int(lengths.max())]
        elif text.shape[1] >= total:
            return text, None
        rows = torch.arange(text.shape[1], device=text.device)
        own = torch.zeros(text.shape[:2], device=text.device)
        own = own.masked_fill(rows >= lengths[:, None], -torch.inf)
        rest = (total - lengths).float().log()
        return nn.functional.pad(text, (0, 0, 0, 1)), torch.cat([own, rest[:, None]], dim=1)

    def unpatchify(
        self, patches: Float[Tensor, "b n p"], grid: tuple[int, int, int]
    ) -> Float[Tensor, "b c f h w"]:
        """Tokens of the head back to latent frames."""
        pt, ph, pw = self.config.patch
        x = patches.unflatten(1, grid).unflatten(-1, (pt, ph, pw, -1))
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
