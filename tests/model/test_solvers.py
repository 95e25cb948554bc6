"""Solvers on a flow whose velocity is known: a mixture of three normals, in closed form."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from motus_model.flow_matching import shift_times
from motus_model.solvers import SOLVERS, UniPC

MEANS = torch.tensor([-1.5, 0.5, 2.0])
SHARES = torch.tensor([0.3, 0.5, 0.2])
SPREAD = 0.4


def velocity(x: Tensor, time: float) -> Tensor:
    """E[noise - data | x_t] of the mixture, by Bayes' rule."""
    kept = 1 - time
    variance = (kept * SPREAD) ** 2 + time**2
    away = x[..., None] - kept * MEANS
    share = (SHARES.log() - away.square() / (2 * variance)).softmax(-1)
    data = MEANS + kept * SPREAD**2 / variance * away
    noise = time / variance * away
    return (share * (noise - data)).sum(-1)


def start() -> Tensor:
    return torch.randn(20, 10, generator=torch.Generator().manual_seed(0))


def exact() -> Tensor:
    """Where the flow ends: in one dimension it keeps the order, so quantiles go to quantiles."""
    wanted = Normal(0.0, 1.0).cdf(start().double())
    low, high = torch.full_like(wanted, -9), torch.full_like(wanted, 9)
    for _ in range(60):
        middle = (low + high) / 2
        below = (SHARES * Normal(MEANS, SPREAD).cdf(middle[..., None])).sum(-1) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low.float()


def solve(name: str, steps: int, shift: float = 1.0) -> Tensor:
    even = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    times = [float(t) for t in shift_times(even, shift)]
    solver, x = SOLVERS[name](times), start()
    for time in times[:-1]:
        x = solver(x, velocity(x, time))
    return x


def error(name: str, steps: int, shift: float = 1.0) -> float:
    return float((solve(name, steps, shift) - exact()).square().mean().sqrt())


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [5, 10, 20, 40])
def test_the_higher_order_comes_nearer_in_as_many_steps(steps, shift):
    assert error("unipc", steps, shift) < 0.7 * error("euler", steps, shift)


def test_euler_is_of_order_one_and_unipc_of_order_two():
    """From 40 to 80 steps the error falls to a half, and to a quarter."""
    assert error("euler", 80) / error("euler", 40) == pytest.approx(1 / 2, abs=0.05)
    assert error("unipc", 80) / error("unipc", 40) == pytest.approx(1 / 4, abs=0.05)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2])
def test_one_and_two_steps_are_those_of_euler(steps, shift):
    torch.testing.assert_close(
        solve("unipc", steps, shift), solve("euler", steps, shift), atol=1e-4, rtol=0
    )


def test_a_straight_path_is_followed_exactly_by_both():
    """Constant velocity: any number of steps ends at x - v."""
    start, speed = torch.randn(3, 4), torch.randn(3, 4)
    for name, make in SOLVERS.items():
        solver, x = make([1.0, 0.7, 0.4, 0.1, 0.0]), start
        for _ in range(4):
            x = solver(x, speed)
        torch.testing.assert_close(x, start - speed, atol=1e-4, rtol=0, msg=name)


def test_what_never_moves_needs_no_scheduler():
    assert "_scheduler" not in vars(UniPC([0.0]))
