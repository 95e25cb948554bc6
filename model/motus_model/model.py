"""The whole model: encoders around the network, its training loss, and its sampler in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from motus_model.encoders import TinyPerception, WordEncoder
from motus_model.flow_matching import TimeSampler, interpolate, target_velocity
from motus_model.frames import FrameAutoencoder
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
    """

    images: Float[Tensor, "b 3 H W"]
    latents: Float[Tensor, "b c f h w"]
    texts: Sequence[str]
    state: Float[Tensor, "b s"] | None
    actions: Float[Tensor, "b t a"] | None


class FlowLoss(NamedTuple):
    """Flow-matching losses; `total` is what is trained on."""

    total: Tensor
    video: Tensor
    action: Tensor


class MotusModel(nn.Module):
    """Frame autoencoder (frozen), text and vision encoders, and the three experts."""

    frames: FrameCodec
    text: TextEncoder
    perception: Perception

    def __init__(self, config: ModelConfig, encoders: Encoders | None = None) -> None:
        super().__init__()
        if encoders is None:
            encoders = small_encoders(config)
        self.config = config
        self.frames, self.text, self.perception = encoders
        self.network = Motus(config.network)

    def context(
        self,
        images: Float[Tensor, "b 3 H W"],
        texts: Sequence[str],
        state: Float[Tensor, "b s"] | None,
    ) -> Context:
        """Encode what is given: the condition frame, the instruction, the robot's state."""
        words = self.text(texts)
        features = mask = None
        if self.network.understanding is not None:
            features, mask = self.perception(images, texts)
        return self.network.prepare(
            words.tokens, text_mask=words.mask, features=features, feature_mask=mask, state=state
        )

    def loss(self, batch: Batch, times: TimeSampler, generator: Generator) -> FlowLoss:
        """Flow matching of future frames and actions at independent times (paper, 4.3.1).

        The condition frame stays clean and is left out of the video's mean.
        """
        latents = batch.latents
        video_time, action_time = (
            t.to(latents.device) for t in times.draw(len(latents), generator)
        )
        video_noise = torch.randn(latents.shape, generator=generator).to(latents)
        noisy = interpolate(latents, video_noise, video_time)
        noisy[:, :, :1] = latents[:, :, :1]
        noisy_actions = action_noise = None
        if batch.actions is not None:
            action_noise = torch.randn(batch.actions.shape, generator=generator).to(batch.actions)
            noisy_actions = interpolate(batch.actions, action_noise, action_time)
        context = self.context(batch.images, batch.texts, batch.state)
        velocity = self.network(context, noisy, video_time, noisy_actions, action_time)
        wanted = target_velocity(latents, video_noise)[:, :, 1:]
        # A modality that is held at 0 or 1 in a practised mode is not predicted there.
        video_error = (velocity.video[:, :, 1:] - wanted).square().flatten(1).mean(1)
        video = weighted_mean(video_error, solved(video_time))
        action = torch.zeros((), device=latents.device)
        if batch.actions is not None and velocity.action is not None and action_noise is not None:
            action_error = (velocity.action - target_velocity(batch.actions, action_noise)).square()
            action = weighted_mean(action_error.flatten(1).mean(1), solved(action_time))
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
        config: SamplerConfig | None = None,
        generator: Generator | None = None,
    ) -> Sample:
        """Run one mode from pixels; `video` and `actions` are what is clean in it.

        Args:
            mode: One of the five.
            images: Condition frames in [0, 1].
            texts: Instructions.
            state: Normalised states.
            video: Future frames in [0, 1], for inverse dynamics.
            actions: Normalised actions, for the world model.
            config: Steps and shifts.
            generator: Source of the noise.
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
            config=config,
            generator=generator,
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


def solved(times: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """1 where a modality is to be predicted, 0 where it was held clean or left as noise."""
    return ((times > 0) & (times < 1)).float()


def weighted_mean(values: Float[Tensor, " b"], weights: Float[Tensor, " b"]) -> Tensor:
    """Mean over the samples with weight; 0 when there is none."""
    return (values * weights).sum() / weights.sum().clamp_min(1)
