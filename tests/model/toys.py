"""The smallest network that has all three experts, and random inputs for it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from motus_model import Motus, MotusConfig
from motus_model.action_expert import ActionConfig
from motus_model.network import Context, Velocity
from motus_model.understanding_expert import UnderstandingConfig
from motus_model.video_expert import VideoConfig

torch.set_num_threads(1)

SMALLEST = MotusConfig(
    video=VideoConfig(
        width=24,
        hidden=32,
        layers=2,
        heads=2,
        channels=4,
        patch=(1, 2, 2),
        text_width=10,
        text_tokens=6,
        frequency_width=16,
    ),
    action=ActionConfig(
        width=16, hidden=24, action_dim=3, steps=4, state_dim=5, registers=2, frequency_width=16
    ),
    understanding=UnderstandingConfig(width=12, hidden=20, feature_width=14),
)


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter noise, so that nothing is hidden by a zero or a one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


@dataclass(frozen=True)
class Inputs:
    """Random inputs of the smallest network."""

    text: Tensor
    text_mask: Tensor
    features: Tensor
    feature_mask: Tensor
    state: Tensor
    video: Tensor
    actions: Tensor
    video_time: Tensor
    action_time: Tensor


def prepare(network: Motus, given: "Inputs", *, masked: bool = True) -> Context:
    return network.prepare(
        given.text,
        text_mask=given.text_mask if masked else None,
        features=given.features,
        feature_mask=given.feature_mask if masked else None,
        state=given.state,
    )


def velocity(network: Motus, given: "Inputs", *, masked: bool = True) -> Velocity:
    return network(
        prepare(network, given, masked=masked),
        given.video,
        given.video_time,
        given.actions,
        given.action_time,
    )


def make_inputs(batch: int = 2) -> Inputs:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator)

    return Inputs(
        text=normal(6, 10),
        text_mask=torch.arange(6)[None] < torch.tensor([4, 6] * batch)[:batch, None],
        features=normal(7, 14),
        feature_mask=torch.arange(7)[None] < torch.tensor([7, 5] * batch)[:batch, None],
        state=normal(5),
        video=normal(4, 3, 4, 6),
        actions=normal(4, 3),
        video_time=torch.tensor([0.7, 0.2] * batch)[:batch],
        action_time=torch.tensor([0.1, 0.9] * batch)[:batch],
    )


def make_network(config: MotusConfig = SMALLEST) -> Motus:
    torch.manual_seed(0)
    network = Motus(config)
    randomise(network)
    return network.eval()
