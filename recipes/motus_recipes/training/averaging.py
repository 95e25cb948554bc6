"""The exponential moving average of the weights (EMA)."""

import torch
from torch import Tensor, nn


class Average:
    """Average of all floating-point weights; with decay 0 it keeps nothing."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            key: value.detach().clone()
            for key, value in module.state_dict().items()
            if decay and value.is_floating_point()
        }

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take up the weights after a step; early ones weigh more, to forget the start."""
        decay = min(self.decay, (step + 1) / (step + 10))
        own = module.state_dict()
        for key, value in self.weights.items():
            value.lerp_(own[key], 1 - decay)

    def swap(self, module: nn.Module) -> None:
        """Exchange the average with the module's own weights."""
        own = {key: value.detach().clone() for key, value in module.state_dict().items()}
        module.load_state_dict({**own, **self.weights})
        self.weights = {key: own[key] for key in self.weights}
