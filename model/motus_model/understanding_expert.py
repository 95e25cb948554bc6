"""The understanding expert: what the vision-language model saw, brought into joint attention.

It has no time: plain residual blocks without adaptive norms (paper, section 4.3.3).
"""

from dataclasses import dataclass
from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from motus_model.action_expert import JointProjection
from motus_model.layers import feed_forward, init_linear, layer_norm, mlp_silu
from motus_model.video_expert import QKV, VideoConfig


@dataclass(frozen=True)
class UnderstandingConfig:
    """Sizes of the understanding expert and of the features it reads.

    Attributes:
        width: Of the tokens.
        hidden: Of the feed-forward network.
        feature_width: Of the vision-language model.
        adapter_layers: Linear layers between features and tokens; official: 3. Small encoders
            that train along learn much faster through one.
    """

    width: int
    hidden: int
    feature_width: int
    adapter_layers: int = 3
    eps: float = 1e-5


class UnderstandingBlock(JointProjection):
    """Residual joint attention and feed-forward network."""

    def __init__(self, config: UnderstandingConfig, video: VideoConfig) -> None:
        super().__init__(config.width, video, config.eps)
        self.eps = config.eps
        self.ffn = feed_forward(config.width, config.hidden)

    def joint_qkv(self, x: Float[Tensor, "b n d"]) -> QKV:
        """Queries, keys and values of the normed tokens."""
        return self.project(layer_norm(x, self.eps).to(x.dtype))

    def merge(
        self, x: Float[Tensor, "b n d"], attended: Float[Tensor, "b n i"]
    ) -> Float[Tensor, "b n d"]:
        """The residual stream after joint attention."""
        return x + self.o(attended)

    def feed(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        """The residual stream after the feed-forward network."""
        return x + self.ffn(layer_norm(x, self.eps).to(x.dtype))


class UnderstandingExpert(nn.Module):
    """Features of a vision-language model as tokens of the joint attention."""

    def __init__(self, config: UnderstandingConfig, video: VideoConfig) -> None:
        super().__init__()
        self.config = config
        self.vlm_adapter = mlp_silu(config.feature_width, config.width, config.adapter_layers)
        self.blocks = nn.ModuleList(UnderstandingBlock(config, video) for _ in range(video.layers))
        init_linear(self)

    def block(self, index: int) -> UnderstandingBlock:
        """Layer `index`."""
        return cast(UnderstandingBlock, self.blocks[index])

    def embed(self, features: Float[Tensor, "b n e"]) -> Float[Tensor, "b n d"]:
        """Features after the vision-language model's last norm, at this expert's width."""
        return self.vlm_adapter(features)
