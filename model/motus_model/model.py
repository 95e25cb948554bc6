"""The whole model: encoders around the network, its training loss, and its sampler in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from motus_model.encoders import Encoded, TinyPerception, WordEncoder
from motus_model.flow_matching import (
    Drawn,
    TimeSampler,
    draw_normal,
    interpolate,
    target_velocity,
)
from motus_model.frames import FrameAutoencoder
from motus_model.guidance import Guide
from motus_model.modes import Mode
from motus_model.network import Context, Motus
from motus_model.roles import Encoders, FrameCodec, Perception, TextEncoder
from motus_model.sampler import Given, Sample, SamplerConfig, sample
from motus_model.sizes import ModelConfig


@dataclass(frozen=True)
class Batch:
    """Windows as the network wants them.

    Attributes:
        images: Condition frames for perception, in [0, 1].
        latents: Latents of the condition frame and the future frames.
        texts: Instructions.
        state: Robot states at the condition frame, normalised.
        actions: Action chunks, normalised; None in stage 1.
        words: What the text encoder makes of `texts`, where it was computed before.
        seen: What perception makes of `images` and `texts`, likewise.
    """

    images: Float[Tensor, "b 3 H W"]
    latents: Float[Tensor, "b c f h w"]
    texts: Sequence[str]
    state: Float[Tensor, "b s"] | None
    actions: Float[Tensor, "b t a"] | None
    words: Encoded | None = None
    seen: Encoded | None = None


@dataclass(frozen=True)
class Noise:
    """What is drawn for a batch: the times and the noise of both modalities."""

    times: Drawn
    video: Float[Tensor, "b c f h w"]
    action: Float[Tensor, "b t a"] | None

    @staticmethod
    def draw(batch: Batch, times: TimeSampler, generators: Sequence[Generator]) -> "Noise":
        """Noise of each sample from its own generator."""
        drawn = times.draw(generators)
        video = draw_normal(generators, *batch.latents.shape[1:]).to(batch.latents)
        action = None
        if batch.actions is not None:
            action = draw_normal(generators, *batch.actions.shape[1:]).to(batch.actions)
        return Noise(Drawn(*(t.to(batch.latents.device) for t in drawn)), video, action)


class FlowLoss(NamedTuple):
    """Flow-matching losses of each sample; the mean of `total` is what is trained on."""

    total: Float[Tensor, " b"]
    video: Float[Tensor, " b"]
    action: Float[Tensor, " b"]


class MotusModel(nn.Module):
    """Frame autoencoder (frozen), text and vision encoders, and the three experts."""

    frames: FrameCodec
    text: TextEncoder
    perception: Perception

    def __init__(self, config: ModelConfig, encoders: Encoders | None = None) -> None:
        super().__init__()
        if encoders is None:
            encoders = small_encoders(config)
        encoders.check(config.network)
        self.config = config
        self.frames, self.text, self.perception = encoders
        self.network = Motus(config.network)

    def context(
        self,
        images: Float[Tensor, "b 3 H W"],
        texts: Sequence[str],
        state: Float[Tensor, "b s"] | None,
        *,
        words: Encoded | None = None,
        seen: Encoded | None = None,
    ) -> Context:
        """Encode what is given: the condition frame, the instruction, the robot's state.

        `words` and `seen` stand in for the text encoder and for perception.
        """
        if words is None:
            words = self.text(texts)
        features = mask = None
        if self.network.understanding is not None:
            features, mask = seen or self.perception(images, texts)
        return self.network.prepare(
            words.tokens, text_mask=words.mask, features=features, feature_mask=mask, state=state
        )

    def forward(self, batch: Batch, noise: Noise) -> FlowLoss:
        """Flow matching of future frames and actions at independent times (paper, 4.3.1).

        The condition frame stays clean and is left out of the video's mean.
        """
        latents, times = batch.latents, noise.times
        noisy = interpolate(latents, noise.video, times.video)
        noisy[:, :, :1] = latents[:, :, :1]
        noisy_actions = None
        if batch.actions is not None and noise.action is not None:
            noisy_actions = interpolate(batch.actions, noise.action, times.action)
        context = self.context(
            batch.images, batch.texts, batch.state, words=batch.words, seen=batch.seen
        )
        velocity = self.network(context, noisy, times.video, noisy_actions, times.action)
        wanted = target_velocity(latents, noise.video)[:, :, 1:]
        video = squared_error(velocity.video[:, :, 1:], wanted) * times.video_weight
        action = torch.zeros_like(video)
        if batch.actions is not None and velocity.action is not None and noise.action is not None:
            wanted = target_velocity(batch.actions, noise.action)
            action = squared_error(velocity.action, wanted) * times.action_weight
        return FlowLoss(video + action, video, action)

    @torch.no_grad()
    def sample(
        self,
        mode: Mode,
        images: Float[Tensor, "b 3 H W"],
        texts: Sequence[str],
        state: Float[Tensor, "b s"] | None,
        *,
        video: Float[Tensor, "b 3 f H W"] | None = None,
        actions: Float[Tensor, "b t a"] | None = None,
        noise: Given | None = None,
        config: SamplerConfig | None = None,
        generator: Generator | None = None,
        guide: Guide | None = None,
    ) -> Sample:
        """Run one mode from pixels; `video` and `actions` are what is clean in it.

        Args:
            mode: One of the five.
            images: Condition frames in [0, 1].
            texts: Instructions.
            state: Normalised states.
            video: Future frames in [0, 1], for inverse dynamics.
            actions: Normalised actions, for the world model.
            noise: What the others start from; drawn from `generator` where it is left out.
            config: Steps and shifts.
            generator: Source of the noise.
            guide: Bends the actions' velocity, as `PrefixGuide` does.
        """
        first = images[:, :, None]
        condition = self.frames.encode(first * 2 - 1)
        latents = None
        if video is not None:
            latents = self.frames.encode(torch.cat([first, video], dim=2) * 2 - 1)
        return sample(
            self.network,
            self.context(images, texts, state),
            mode,
            condition,
            self.frames.latent_frames(1 + self.config.window.video_frames),
            given=Given(latents, actions),
            noise=noise,
            config=config,
            generator=generator,
            guide=guide,
        )

    def decode(self, latents: Float[Tensor, "b c f h w"]) -> Float[Tensor, "b 3 f H W"]:
        """Latent frames as images in [0, 1]."""
        return (self.frames.decode(latents) + 1) / 2


def small_encoders(config: ModelConfig) -> Encoders:
    """The encoders of sizes tiny and small, which are trained with the network.

    Raises:
        ValueError: For a size that takes pretrained ones.
    """
    if config.frames is None or config.encoders is None:
        raise ValueError(
            f"size {config.size} has pretrained encoders: "
            "give MotusModel what motus_model.pretrained.load_encoders returns"
        )
    return Encoders(
        FrameAutoencoder(config.frames).requires_grad_(False),
        WordEncoder(config.encoders),
        TinyPerception(config.encoders),
    )


def squared_error(
    predicted: Float[Tensor, "b ..."], wanted: Float[Tensor, "b ..."]
) -> Float[Tensor, " b"]:
    """Mean squared error of each sample, in float32."""
    return (predicted.float() - wanted.float()).square().flatten(1).mean(1)
