"""Rectified flow with one time per modality (paper, section 4.3.1).

x_t = (1 - t) x_0 + t e is data at t = 0 and noise at t = 1; the network predicts e - x_0.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from motus_model.modes import MODES, Mode, Role

Times = Float[Tensor, " b"]

LEARN_RATE_SHIFT = 5.0  # official training scheduler: FlowMatchScheduler(shift=5)


def interpolate(
    data: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."], times: Times
) -> Float[Tensor, "b ..."]:
    """The point x_t on the straight path from `data` (t = 0) to `noise` (t = 1)."""
    t = times.view(-1, *[1] * (data.dim() - 1)).to(data.dtype)
    return (1 - t) * data + t * noise


def target_velocity(
    data: Float[Tensor, "b ..."], noise: Float[Tensor, "b ..."]
) -> Float[Tensor, "b ..."]:
    """dx_t / dt, the same at every time."""
    return noise - data


def logit_normal(count: int, generator: Generator) -> Times:
    """Times of the paper (Implementation Details): sigmoid of a standard normal."""
    return torch.randn(count, generator=generator).sigmoid()


def shift_times(times: Float[Tensor, "*n"], shift: float) -> Float[Tensor, "*n"]:
    """Move times towards noise: s t / (1 + (s - 1) t)."""
    return shift * times / (1 + (shift - 1) * times)


def shifted_uniform(count: int, generator: Generator) -> Times:
    """Times of the official code: one of 1000 even steps, shifted by 5."""
    index = torch.randint(0, 1000, (count,), generator=generator)
    return shift_times(1 - index / 1000, LEARN_RATE_SHIFT)


TIME_SAMPLERS: dict[str, Callable[[int, Generator], Times]] = {
    "logit_normal": logit_normal,
    "shifted_uniform": shifted_uniform,
}


def draw_normal(generators: Sequence[Generator], *shape: int) -> Float[Tensor, "b ..."]:
    """Standard normal numbers, each row from its own generator.

    So a sample's noise does not depend on the batch, the process or the order it is drawn in.
    """
    return torch.stack([torch.randn(shape, generator=generator) for generator in generators])


class Drawn(NamedTuple):
    """Times of a batch, and how much each sample's error of a modality counts.

    Where a mode holds a modality at 0 or 1 there is nothing to predict: its weight is 0. The
    others weigh one over the share of modes that solve it, so that the mean over a batch is, on
    average, the mean over the solved ones, and sums over any split of the batch add up to it.
    """

    video: Times
    action: Times
    video_weight: Times
    action_weight: Times


@dataclass(frozen=True)
class TimeSampler:
    """Draws a (video, action) pair of times for every sample of a batch.

    Attributes:
        distribution: A name of `TIME_SAMPLERS`, for every modality that is to be solved.
        modes: How often each mode is practised; `{"joint": 1}` is the paper's independent pair.
            The others hold one modality at exactly 0 or 1, as it will be at inference.
    """

    distribution: str
    modes: tuple[tuple[str, float], ...] = (("joint", 1.0),)

    def draw(self, generators: Sequence[Generator]) -> Drawn:
        """One pair for each generator, each time in [0, 1]."""
        weights = torch.tensor([weight for _, weight in self.modes])
        sampler = TIME_SAMPLERS[self.distribution]
        rows = []
        for generator in generators:
            chosen = int(torch.multinomial(weights, 1, generator=generator))
            mode = MODES[self.modes[chosen][0]]
            video, action = sampler(1, generator), sampler(1, generator)
            rows.append(
                (
                    hold(mode.video, video),
                    hold(mode.action, action),
                    video.new_tensor([self._weight("video", mode.video)]),
                    video.new_tensor([self._weight("action", mode.action)]),
                )
            )
        return Drawn(*(torch.cat(column) for column in zip(*rows, strict=True)))

    def _weight(self, modality: str, role: Role) -> float:
        if role is not Role.SOLVE:
            return 0.0
        total = sum(weight for _, weight in self.modes)
        solving = sum(
            weight for name, weight in self.modes if getattr(MODES[name], modality) is Role.SOLVE
        )
        return total / solving


def hold(role: Role, times: Times) -> Times:
    """The time a modality has in its role: 0 when clean, 1 when noise, else as given."""
    match role:
        case Role.CLEAN:
            return torch.zeros_like(times)
        case Role.NOISE:
            return torch.ones_like(times)
        case Role.SOLVE:
            return times


@dataclass(frozen=True)
class Step:
    """One call of the network: the times it sees and how far each modality moves."""

    video: float
    action: float
    video_delta: float
    action_delta: float


def schedule(
    mode: Mode, *, video_steps: int, action_steps: int, video_shift: float, action_shift: float
) -> Iterator[Step]:
    """The calls that integrate from noise to data; only what is `solve` moves.

    The modality with fewer steps rests while the other goes on, so that both end together.
    """
    lines = {
        "video": _line(mode.video, video_steps, video_shift),
        "action": _line(mode.action, action_steps, action_shift),
    }
    count = max(len(line) - 1 for line in lines.values())
    for index in range(count):
        now = {}
        delta = {}
        for name, line in lines.items():
            steps = len(line) - 1
            here, there = index * steps // count, (index + 1) * steps // count
            now[name] = line[here]
            delta[name] = line[there] - line[here]
        yield Step(now["video"], now["action"], delta["video"], delta["action"])


def _line(role: Role, steps: int, shift: float) -> list[float]:
    if role is not Role.SOLVE:
        return [float(hold(role, torch.zeros(1)))] * 2  # one call, no move
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)  # in float32, 1 would shift past 1
    return [float(t) for t in shift_times(even, shift)]
