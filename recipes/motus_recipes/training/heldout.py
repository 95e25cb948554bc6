"""Held-out losses: by source, by modality, by noise time; always the same windows and noise."""

from collections.abc import Sequence

import torch
from torch import nn

from motus_recipes.data.mixture import number
from motus_recipes.training.engine import Engine, Objective

BATCHES = 4  # that a source's held-out loss is measured on, at most
BUCKETS = 4  # of the noise time, from 0 to 1


@torch.no_grad()
def evaluate(
    objective: Objective,
    module: nn.Module,
    engine: Engine,
    source: str,
    windows: Sequence[int],
    batch: int,
) -> dict[str, float]:
    """Mean losses over evenly spread held-out windows.

    Args:
        objective: What is trained.
        module: Its module as the engine wrapped it, in evaluation mode.
        engine: Every process computes a part.
        source: The dataset.
        windows: Its held-out windows.
        batch: Windows computed together, over all processes.

    Returns:
        Each loss part by its name (`loss` is the total), and the plain error of a modality
        at noise times in a range as `video@0.25-0.50`.
    """
    count = min(len(windows), BATCHES * batch)
    chosen = [windows[i * len(windows) // count] for i in range(count)]
    sums: dict[str, torch.Tensor] = {}
    for at in range(0, count, batch):
        pairs = [(source, int(window)) for window in chosen[at : at + batch]]
        # Every process must compute as often as the others: short batches are filled up.
        filled = pairs + pairs[:1] * (-len(pairs) % engine.world)
        whole = engine.share(number(filled, (0, 3, at)))
        for rows in whole:
            inputs = objective.inputs(rows, train=False)
            counted = torch.tensor([row.slot < len(pairs) for row in rows], device=engine.device)
            with engine.part(module, last=True):
                losses = module(*inputs)
            found = {name: (part, counted) for name, part in losses._asdict().items()}
            for name, (times, weight) in objective.times(inputs).items():
                solved = counted & (weight > 0)
                bucket = (times * BUCKETS).long().clamp(max=BUCKETS - 1)
                for index in range(BUCKETS):
                    low, high = index / BUCKETS, (index + 1) / BUCKETS
                    error = found[name][0] / weight.clamp_min(1e-9)
                    found[f"{name}@{low:.2f}-{high:.2f}"] = (error, solved & (bucket == index))
            for name, (part, here) in found.items():
                pair = torch.stack([part[here].double().sum(), here.sum().double()])
                sums[name] = sums.get(name, 0) + pair
    totals = engine.sum(torch.stack(list(sums.values()))).tolist()
    means = {n: total / seen for n, (total, seen) in zip(sums, totals, strict=True) if seen}
    return {"loss": means.pop("total"), **means}
