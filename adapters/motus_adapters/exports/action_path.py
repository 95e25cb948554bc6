"""The network as two graphs: what is computed once a call, and one denoising step."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from motus_adapters.deployment.policy import Policy
from motus_adapters.exports.runner import words
from motus_embodiments import UsageError
from motus_model import MODES, Mode, MotusModel, Role
from motus_model.encoders import TinyPerception, WordEncoder
from motus_model.network import Context
from motus_model.video_expert import TextKeys

# What `Encode` gives and `Step` takes; keys and values of the text are stacked over the layers.
ENCODED = (
    *("condition", "text_k", "text_v", "text_mask"),
    *("understanding", "understanding_mask"),
)


class Encode(nn.Module):
    """Frame autoencoder, words, eye, and everything of the network that no step changes."""

    def __init__(self, model: MotusModel) -> None:
        super().__init__()
        assert isinstance(model.text, WordEncoder)
        assert isinstance(model.perception, TinyPerception)
        self.frames, self.text, self.perception = model.frames, model.text, model.perception
        self.network = model.network

    def forward(
        self,
        image: Float[Tensor, "1 3 H W"],
        words: Int[Tensor, "1 n"],
        word_mask: Bool[Tensor, "1 n"],
    ) -> tuple[Tensor, ...]:
        """Encode a picture in [0, 1] and an instruction's words."""
        condition = self.frames.encode(image[:, :, None] * 2 - 1)
        own = self.perception.words.embed(words, word_mask)
        features, mask = self.perception.look(image, own)
        text = self.text.embed(words, word_mask)
        context = self.network.prepare(
            text.tokens, text_mask=text.mask, features=features, feature_mask=mask
        )
        assert context.understanding is not None
        return (
            condition,
            torch.stack([keys.k for keys in context.text]),
            torch.stack([keys.v for keys in context.text]),
            torch.ones_like(word_mask) if context.text[0].mask is None else context.text[0].mask,
            context.understanding,
            torch.ones_like(mask) if context.key_mask is None else context.key_mask,
        )


class Step(nn.Module):
    """One call of the network at given times; its velocities."""

    def __init__(self, model: MotusModel, mode: Mode) -> None:
        super().__init__()
        self.network = model.network
        self.solve_video = mode.video is Role.SOLVE

    def forward(
        self,
        video: Float[Tensor, "1 c f h w"],
        actions: Float[Tensor, "1 t a"],
        times: Float[Tensor, "1 2"],
        text_k: Float[Tensor, "l 1 m h k"],
        text_v: Float[Tensor, "l 1 m h k"],
        text_mask: Bool[Tensor, "1 m"],
        understanding: Float[Tensor, "1 n d"],
        understanding_mask: Bool[Tensor, "1 n"],
        state: Float[Tensor, "1 s"],
    ) -> tuple[Tensor, ...]:
        """Velocity of the actions, and before it that of the video in modes that solve it."""
        keys = zip(text_k.unbind(0), text_v.unbind(0), strict=True)
        context = Context(
            tuple(TextKeys(k, v, text_mask) for k, v in keys),
            understanding,
            understanding_mask,
            state,
        )
        velocity = self.network(
            context, video, times[:, 0], actions, times[:, 1], solve_video=self.solve_video
        )
        return (velocity.video, velocity.action) if self.solve_video else (velocity.action,)


class Graph(NamedTuple):
    """A module to be exported, an example of its inputs, and the names of both ends."""

    name: str
    module: nn.Module
    example: dict[str, Tensor]
    outputs: tuple[str, ...]


def graphs(policy: Policy) -> tuple[Graph, Graph]:
    """The two graphs of a policy's action path, for one robot (batch of 1), in float32.

    Raises:
        UsageError: For a size with pretrained encoders.
    """
    mode = MODES[policy.config.mode]
    assert policy.decoder is None, "a policy of latent actions has no graphs"
    if not isinstance(policy.model.perception, TinyPerception):
        raise UsageError(
            f"size {policy.config.size} takes pretrained encoders, which bring exporters of "
            "their own",
            hint="other formats are for the sizes tiny and small",
        )
    size = policy.model.perception.words.config
    model = copy.deepcopy(policy.model)  # tracing leaves its own tensors in caches
    model = model.cpu().float().requires_grad_(False)
    codes, mask = words(policy.config.instruction, size.words, size.text_tokens)
    home = np.asarray(policy.card.home())[None]
    first: dict[str, Tensor] = {
        "image": torch.zeros(1, 3, *model.config.canvas),
        "words": torch.from_numpy(codes),
        "word_mask": torch.from_numpy(mask),
    }
    encode = Encode(model).eval()
    with torch.no_grad():
        encoded = dict(zip(ENCODED, encode(**first), strict=True))
    noise = policy.noise([0])
    assert noise.video is not None
    assert noise.actions is not None
    del encoded["condition"]
    second = {
        "video": noise.video,
        "actions": noise.actions,
        "times": torch.ones(1, 2),
        **encoded,
        "state": torch.from_numpy(policy.space.encode_state(home)),
    }
    moves = ("video_velocity",) if mode.video is Role.SOLVE else ()
    return (
        Graph("encode", encode, first, ENCODED),
        Graph("step", Step(model, mode).eval(), second, (*moves, "action_velocity")),
    )
