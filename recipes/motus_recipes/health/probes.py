"""What can be read from a code of motion: R2 of true end-effector motion on held-out episodes."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn

TWIST = (*range(6), *range(7, 13))  # motion without the grippers, which flow does not show
ALPHAS = tuple(10.0**power for power in range(-3, 5))
FOLDS = 4

Code = Float[np.ndarray, "n z"]
Motion = Float[np.ndarray, "n m"]


@dataclass(frozen=True)
class Steps:
    """Steps of some episodes: what is read from and what is to be read.

    Attributes:
        code: Any numbers of each step.
        motion: True motion, the columns that exist.
        episode: Which episode each step belongs to.
    """

    code: Code
    motion: Motion
    episode: Int[np.ndarray, " n"]


def folds(steps: Steps) -> Int[np.ndarray, " n"]:
    """Which of a few parts each step belongs to; an episode is in one of them.

    A single episode is halved, as nothing better is there.
    """
    episodes, number = np.unique(steps.episode, return_inverse=True)
    if len(episodes) == 1:
        return np.asarray(np.arange(len(number)) >= len(number) // 2, int)
    return np.asarray(number % FOLDS)


def r2(motion: Motion, guess: Motion, usual: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Share of each number's variation about its training mean that a guess explains."""
    rest = ((motion - guess) ** 2).sum(0)
    whole = ((motion - usual) ** 2).sum(0)
    return np.asarray(1 - rest / np.maximum(whole, 1e-12))


def linear_probe(train: Steps, held: Steps) -> Float[np.ndarray, " m"]:
    """R2 by `linear_guess`."""
    return r2(held.motion, linear_guess(train, held.code), train.motion.mean(0))


def linear_guess(train: Steps, code: Code) -> Motion:
    """Motion of codes by ridge regression; its strength is chosen by episodes that are left out."""
    parts = folds(train)
    scores = [
        sum(_fold_error(train, parts == part, alpha) for part in np.unique(parts))
        for alpha in ALPHAS
    ]
    alpha = ALPHAS[int(np.argmin(scores))]
    return _ridge(train.code, train.motion, code, alpha)


def curved_probe(train: Steps, held: Steps, seed: int = 0) -> Float[np.ndarray, " m"]:
    """R2 by a small network of two hidden layers, stopped early on left-out training episodes."""
    center, size = train.code.mean(0), train.code.std(0) + 1e-9
    usual, spread = train.motion.mean(0), train.motion.std(0) + 1e-9
    x, y, kept = (
        torch.from_numpy(np.asarray(values, np.float32))
        for values in (
            (train.code - center) / size,
            (train.motion - usual) / spread,
            (held.code - center) / size,
        )
    )
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Linear(x.shape[1], 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU()),
        nn.Linear(64, y.shape[1]),
    )
    stop = folds(train) == 0
    best = fit_early(network, (x[~stop], y[~stop]), (x[stop], y[stop]), epochs=60)
    torch.random.set_rng_state(state)
    network.load_state_dict(best)
    with torch.no_grad():
        guess = network(kept).numpy() * spread + usual
    return r2(held.motion, guess, usual)


def fit_early(
    network: nn.Module,
    train: tuple[torch.Tensor, torch.Tensor],
    stop: tuple[torch.Tensor, torch.Tensor],
    *,
    epochs: int,
    batch: int = 64,
    rate: float = 2e-3,
) -> dict[str, torch.Tensor]:
    """Least squares by AdamW along a cosine; the weights of the epoch that is best on `stop`."""
    x, y = train
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    steps = epochs * max(1, len(x) // batch)
    pace = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best, least = {k: v.clone() for k, v in network.state_dict().items()}, float("inf")
    for _ in range(epochs):
        order = torch.randperm(len(x))[: max(1, len(x) // batch) * batch]
        for rows in order.split(batch):
            optimizer.zero_grad(set_to_none=True)
            (network(x[rows]) - y[rows]).square().mean().backward()
            optimizer.step()
            pace.step()
        with torch.no_grad():
            parts = zip(stop[0].split(256), stop[1].split(256), strict=True)
            loss = float(torch.cat([(network(a) - b).square() for a, b in parts]).mean())
        if loss < least:
            best, least = {k: v.clone() for k, v in network.state_dict().items()}, loss
    return best


def _fold_error(steps: Steps, left_out: np.ndarray, alpha: float) -> float:
    guess = _ridge(steps.code[~left_out], steps.motion[~left_out], steps.code[left_out], alpha)
    spread = steps.motion.std(0) + 1e-12
    return float((((steps.motion[left_out] - guess) / spread) ** 2).sum())


def _ridge(code: Code, motion: Motion, other: Code, alpha: float) -> Motion:
    """Motion of other codes, by ridge regression on standardised ones."""
    center, size = code.mean(0), code.std(0) + 1e-9
    x, usual = (code - center) / size, motion.mean(0)
    weights = np.linalg.solve(x.T @ x + alpha * np.eye(x.shape[1]), x.T @ (motion - usual))
    return np.asarray((other - center) / size @ weights + usual)
