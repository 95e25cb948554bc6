"""One sampler for the five modes: integrate what is to be solved, hold everything else."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from motus_model.flow_matching import Step, schedule
from motus_model.guidance import Guide
from motus_model.modes import Mode, Role
from motus_model.network import Actions, Context, Motus, Seen, Velocity, Video
from motus_model.solvers import SOLVERS, Solver


@dataclass(frozen=True)
class SamplerConfig:
    """Steps and time shift of each modality; the official code takes 10 unshifted Euler steps.

    Raises ValueError for a solver that there isn't.

    Attributes:
        video_steps: Steps from noise to video.
        action_steps: Steps from noise to actions.
        video_shift: Moves the video's times towards noise.
        action_shift: Moves the actions' times towards noise.
        solver: A name of `SOLVERS`: `euler`, or `unipc`, which needs fewer steps.
        video_once: In modes that don't ask for video, run its tokens in the first step alone and
            let the actions read what they were then. Many times faster; not equal, since the
            video tokens then know the first step's actions alone.
    """

    video_steps: int = 10
    action_steps: int = 10
    video_shift: float = 1.0
    action_shift: float = 1.0
    solver: str = "euler"
    video_once: bool = False

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"no solver '{self.solver}'; solvers are {', '.join(SOLVERS)}")


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
    noise: Given | None = None,
    config: SamplerConfig | None = None,
    generator: Generator | None = None,
    guide: Guide | None = None,
) -> Sample:
    """Solve for the unknown modalities of a mode.

    Args:
        network: In evaluation mode.
        context: From `network.prepare`.
        mode: Which modality is clean, noise or solved for.
        condition: The clean latent of the condition frame.
        frames: Latent frames in all, the condition frame included.
        given: The clean modalities of the mode.
        noise: What the others start from; drawn from `generator` where it is left out.
        config: Steps and shifts.
        generator: Source of the noise, on the CPU, so that every device draws the same.
        guide: Bends the actions' velocity in every step that moves them.

    Raises:
        ValueError: When a modality that is clean in this mode was not given.
    """
    config = config or SamplerConfig()
    given, noise = given or Given(), noise or Given()
    shape = (*condition.shape[:2], frames, *condition.shape[3:])
    video = _start(mode, "video", given.video, noise.video, shape, condition, generator)
    video[:, :, :1] = condition
    actions = None
    if network.action is not None:
        sizes = network.action.config
        action_shape = (len(condition), sizes.steps, sizes.action_dim)
        actions = _start(
            mode, "action", given.actions, noise.actions, action_shape, condition, generator
        )
    is_once = config.video_once and mode.video is not Role.SOLVE and actions is not None
    memory: list[Seen] | None = [] if is_once else None
    steps = _steps(mode, config)
    move_video = _solver(config, [(step.video, step.video_delta) for step in steps])
    move_actions = _solver(config, [(step.action, step.action_delta) for step in steps])
    for step in steps:
        velocity_at = partial(_velocity, network, context, mode, memory, video, step)
        if guide is not None and actions is not None and step.action_delta:
            velocity = guide(velocity_at, actions, step.action)
        else:
            velocity = velocity_at(actions)
        if step.video_delta:
            video = move_video(video, velocity.video)
            video[:, :, :1] = condition
        if step.action_delta and actions is not None and velocity.action is not None:
            actions = move_actions(actions, velocity.action)
    return Sample(video, actions)


def _velocity(
    network: Motus,
    context: Context,
    mode: Mode,
    memory: list[Seen] | None,
    video: Video,
    step: Step,
    actions: Actions | None,
) -> Velocity:
    """One call of the network; of its action expert alone once the rest is in `memory`."""
    ones = video.new_ones(len(video), dtype=torch.float32)
    if memory and actions is not None:
        return Velocity(video, network.act(context, memory, actions, ones * step.action))
    return network(
        context,
        video,
        ones * step.video,
        actions,
        ones * step.action,
        solve_video=mode.video is Role.SOLVE,
        memory=memory,
    )


def _steps(mode: Mode, config: SamplerConfig) -> list[Step]:
    return list(
        schedule(
            mode,
            video_steps=config.video_steps,
            action_steps=config.action_steps,
            video_shift=config.video_shift,
            action_shift=config.action_shift,
        )
    )


def _solver(config: SamplerConfig, moves: Sequence[tuple[float, float]]) -> Solver:
    """For one modality: from its time and move in every step, those in which it rests left out."""
    return SOLVERS[config.solver]([*(time for time, delta in moves if delta), 0.0])


def _start(
    mode: Mode,
    name: Literal["video", "action"],
    given: Float[Tensor, "b ..."] | None,
    noise: Float[Tensor, "b ..."] | None,
    shape: tuple[int, ...],
    like: Float[Tensor, "b ..."],
    generator: Generator | None,
) -> Float[Tensor, "b ..."]:
    if getattr(mode, name) is Role.CLEAN:
        if given is None:
            raise ValueError(f"mode {mode.name} needs the clean {name}, and none was given")
        return given.clone()
    if noise is not None:
        return noise.to(like, copy=True)
    return torch.randn(shape, generator=generator).to(like)
