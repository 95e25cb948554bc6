"""The action expert: a narrow transformer that attends in the video expert's head space."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from motus_model.layers import (
    RMSNorm,
    TimeEmbedding,
    feed_forward,
    init_linear,
    mlp_silu,
    modulate,
    open_gates,
    scaled_normal_,
    sincos_positions,
)
from motus_model.video_expert import QKV, VideoConfig


@dataclass(frozen=True)
class ActionConfig:
    """Sizes of the action expert and of the robot's numbers.

    `state_dim` 0 leaves out the state token and `registers` 0 the registers: the pre-training
    form of the official code.
    """

    width: int
    hidden: int
    action_dim: int
    steps: int  # of the action chunk
    state_dim: int
    registers: int = 4
    frequency_width: int = 256
    eps: float = 1e-5


class JointProjection(nn.Module):
    """An expert's way into and out of the joint attention: bias-free q, k, v, o, normed q and k."""

    def __init__(self, width: int, video: VideoConfig, eps: float) -> None:
        super().__init__()
        inner = video.heads * video.head_width
        self.qkv = nn.Parameter(torch.empty(3, video.heads, width, video.head_width))
        self.o = nn.Linear(inner, width, bias=False)
        self.norm_q = RMSNorm(inner, eps)
        self.norm_k = RMSNorm(inner, eps)
        scaled_normal_(self.qkv, width)

    def project(self, x: Float[Tensor, "b n d"]) -> QKV:
        """Queries, keys and values; the norms run over all heads at once."""
        q, k, v = torch.einsum("bnd,shdk->sbnhk", x, self.qkv)
        shape = q.shape[-2:]
        return QKV(
            self.norm_q(q.flatten(-2)).unflatten(-1, shape),
            self.norm_k(k.flatten(-2)).unflatten(-1, shape),
            v,
        )


class ActionBlock(JointProjection):
    """Adaptive norms around joint attention and feed-forward network, gates as in Wan."""

    def __init__(self, config: ActionConfig, video: VideoConfig) -> None:
        super().__init__(config.width, video, config.eps)
        self.eps = config.eps
        self.modulation = open_gates(config.width)
        self.ffn = feed_forward(config.width, config.hidden)

    def joint_qkv(self, x: Float[Tensor, "b n d"], m: Float[Tensor, "b #n 6 d"]) -> QKV:
        """Queries, keys and values of the modulated tokens."""
        return self.project(modulate(x, m[..., 0, :], m[..., 1, :], self.eps))

    def merge(
        self,
        x: Float[Tensor, "b n d"],
        attended: Float[Tensor, "b n i"],
        m: Float[Tensor, "b #n 6 d"],
    ) -> Float[Tensor, "b n d"]:
        """The residual stream after joint attention."""
        return (x + self.o(attended) * m[..., 2, :]).to(x.dtype)

    def feed(
        self, x: Float[Tensor, "b n d"], m: Float[Tensor, "b #n 6 d"]
    ) -> Float[Tensor, "b n d"]:
        """The residual stream after the feed-forward network."""
        normed = modulate(x, m[..., 3, :], m[..., 4, :], self.eps)
        return (x + self.ffn(normed) * m[..., 5, :]).to(x.dtype)


class ActionExpert(TimeEmbedding):
    """[state, actions, registers] as tokens, and the velocity of the actions back."""

    positions: Float[Tensor, "1 n d"]

    def __init__(self, config: ActionConfig, video: VideoConfig) -> None:
        super().__init__(config.width, config.frequency_width)
        self.config = config
        width = config.width
        self.action_encoder = mlp_silu(config.action_dim, width)
        tokens = config.steps
        if config.state_dim:
            self.state_encoder = mlp_silu(config.state_dim, width)
            # The official buffer has one row more than it uses when a state is there.
            tokens += 2
        if config.registers:
            self.registers = nn.Parameter(torch.randn(1, config.registers, width) * 0.02)
            tokens += config.registers
        self.register_buffer("positions", sincos_positions(tokens, width), persistent=False)
        self.blocks = nn.ModuleList(ActionBlock(config, video) for _ in range(video.layers))
        self.head = nn.Linear(width, config.action_dim)
        self.head_modulation = nn.Parameter(torch.randn(1, 2, width) / width**0.5)
        init_linear(self)
        nn.init.zeros_(self.head.weight)

    def block(self, index: int) -> ActionBlock:
        """Layer `index`."""
        return cast(ActionBlock, self.blocks[index])

    def embed(
        self, actions: Float[Tensor, "b t a"], state: Float[Tensor, "b s"] | None
    ) -> Float[Tensor, "b n d"]:
        """State first, then the actions, then the registers; fixed positions on all."""
        tokens = [self.action_encoder(actions)]
        if self.config.state_dim:
            assert state is not None, "this action expert has a state token"
            tokens.insert(0, self.state_encoder(state[:, None]))
        if self.config.registers:
            tokens.append(self.registers.expand(len(actions), -1, -1))
        x = torch.cat(tokens, dim=1)
        return x + self.positions[:, : x.shape[1]].to(x.dtype)

    def velocity(
        self, x: Float[Tensor, "b n d"], embedding: Float[Tensor, "b 1 d"]
    ) -> Float[Tensor, "b t a"]:
        """Velocity of the action rows only."""
        return self.head_all(x, embedding)[:, self._action_rows()]

    def head_all(
        self, x: Float[Tensor, "b n d"], embedding: Float[Tensor, "b 1 d"]
    ) -> Float[Tensor, "b n a"]:
        """The head on every row, state and registers included."""
        shift, scale = (self.head_modulation[:, None] + embedding[:, :, None]).unbind(2)
        return self.head(modulate(x, shift, scale, self.config.eps))

    def _action_rows(self) -> slice:
        first = 1 if self.config.state_dim else 0
        return slice(first, first + self.config.steps)
