"""One sampler for the five modes: integrate what is to be solved, hold everything else."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from motus_model.flow_matching import schedule
from motus_model.modes import Mode, Role
from motus_model.network import Actions, Context, Motus, Seen, Video


@dataclass(frozen=True)
class SamplerConfig:
    """Steps and time shift of each modality; the official code takes 10 unshifted Euler steps.

    Attributes:
        video_steps: Steps from noise to video.
        action_steps: Steps from noise to actions.
        video_shift: Moves the video's times towards noise.
        action_shift: Moves the actions' times towards noise.
        video_once: In modes that don't ask for video, run its tokens in the first step alone and
            let the actions read what they were then. Many times faster; not equal, since the
            video tokens then know the first step's actions alone.
    """

    video_steps: int = 10
    action_steps: int = 10
    video_shift: float = 1.0
    action_shift: float = 1.0
    video_once: bool = False


class Sample(NamedTuple):
    """Latent frames with the condition frame first, and actions in the network's units."""

    video: Video
    actions: Actions | None


class Given(NamedTuple):
    """What the caller hands in for the modalities that are clean in a mode."""

    video: Video | None = None  # all latent frames, the condition frame included
    actions: Actions | None = None


@torch.no_grad()
def sample(
    network: Motus,
    context: Context,
    mode: Mode,
    condition: Float[Tensor, "b c 1 h w"],
    frames: int,
    *,
    given: Given | None = None,
    config: SamplerConfig | None = None,
    generator: Generator | None = None,
) -> Sample:
    """Solve for the unknown modalities of a mode.

    Args:
        network: In evaluation mode.
        context: From `network.prepare`.
        mode: Which modality is clean, noise or solved for.
        condition: The clean latent of the condition frame.
        frames: Latent frames in all, the condition frame included.
        given: The clean modalities of the mode.
        config: Steps and shifts.
        generator: Source of the noise, on the CPU, so that every device draws the same.

    Raises:
        ValueError: When a modality that is clean in this mode was not given.
    """
    config = config or SamplerConfig()
    given = given or Given()
    shape = (*condition.shape[:2], frames, *condition.shape[3:])
    video = _start(mode, "video", mode.video, given.video, shape, condition, generator)
    video[:, :, :1] = condition
    actions = None
    if network.action is not None:
        sizes = network.action.config
        action_shape = (len(condition), sizes.steps, sizes.action_dim)
        actions = _start(
            mode, "action", mode.action, given.actions, action_shape, condition, generator
        )
    is_once = config.video_once and mode.video is not Role.SOLVE and actions is not None
    memory: list[Seen] | None = [] if is_once else None
    for step in schedule(
        mode,
        video_steps=config.video_steps,
        action_steps=config.action_steps,
        video_shift=config.video_shift,
        action_shift=config.action_shift,
    ):
        ones = condition.new_ones(len(condition), dtype=torch.float32)
        if memory and actions is not None:
            speed = network.act(context, memory, actions, ones * step.action)
            actions = actions + speed * step.action_delta
            continue
        velocity = network(
            context,
            video,
            ones * step.video,
            actions,
            ones * step.action,
            solve_video=mode.video is Role.SOLVE,
            memory=memory,
        )
        if mode.video is Role.SOLVE:
            video = video + velocity.video * step.video_delta
            video[:, :, :1] = condition
        if mode.action is Role.SOLVE and actions is not None and velocity.action is not None:
            actions = actions + velocity.action * step.action_delta
    return Sample(video, actions)


def _start(
    mode: Mode,
    name: str,
    role: Role,
    given: Tensor | None,
    shape: tuple[int, ...],
    like: Tensor,
    generator: Generator | None,
) -> Tensor:
    if role is Role.CLEAN:
        if given is None:
            raise ValueError(f"mode {mode.name} needs the clean {name}, and none was given")
        return given.clone()
    return torch.randn(shape, generator=generator).to(like)
