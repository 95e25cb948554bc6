"""Weights stored in fewer bits, and widened to float32 where they are used."""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.nn.utils import parametrize

Precision = Literal["float32", "int8", "bf16"]
PRECISIONS = get_args(Precision)
SMALLEST = 1024  # numbers of a weight that is worth storing in fewer bits


class _Bfloat16(nn.Module):
    def forward(self, stored: Tensor) -> Float[Tensor, "..."]:
        return stored.float()

    def right_inverse(self, weight: Float[Tensor, "..."]) -> tuple[Tensor]:
        return (weight.bfloat16(),)


class _Int8(nn.Module):
    """Symmetric, with a scale for each row, which is an output channel or an entry of a table."""

    def forward(
        self, codes: Int8[Tensor, "n ..."], scale: Float[Tensor, "n ..."]
    ) -> Float[Tensor, "n ..."]:
        return codes.float() * scale

    def right_inverse(
        self, weight: Float[Tensor, "n ..."]
    ) -> tuple[Int8[Tensor, "n ..."], Float[Tensor, "n ..."]]:
        largest = weight.abs().amax(dim=tuple(range(1, weight.dim())), keepdim=True)
        scale = largest.clamp(min=torch.finfo(torch.float32).tiny) / 127
        return (weight / scale).round().to(torch.int8), scale


def narrow(module: nn.Module, precision: Precision) -> nn.Module:
    """Store a module's large weights in fewer bits, in place.

    Args:
        module: Its weights are frozen and float32.
        precision: `float32` leaves it as it is.
    """
    if precision == "float32":
        return module
    how = _Int8 if precision == "int8" else _Bfloat16
    large = [
        (owner, name)
        for owner in module.modules()
        for name, weight in owner.named_parameters(recurse=False)
        if weight.dim() > 1 and weight.numel() >= SMALLEST
    ]
    for owner, name in large:
        parametrize.register_parametrization(owner, name, how(), unsafe=True)
    return module
