"""One training step counted without numbers: operations, tokens, bytes kept for the backward pass.

The step is run on fake tensors, which have shapes alone: torch counts its floating-point
operations and the bytes that it keeps. Layers are alike, so deep networks are counted at two
depths and drawn out in a straight line.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from motus_model import (
    LATENT_WIDTH,
    CodecConfig,
    DeepCompression,
    FrameAutoencoder,
    LatentActionCodec,
    ModelConfig,
    Motus,
)
from motus_recipes.data.cache import FLOW_SHAPE
from motus_recipes.schema import Lora
from motus_recipes.training.lora import add_lora

VLM_TOKENS = 140  # of the vision-language model for one picture and an instruction


@dataclass(frozen=True)
class Step:
    """One training step of a network, counted on fake tensors.

    Attributes:
        parameters: By expert, adapters included.
        trained: Those of them that train where the expert does.
        tokens: Of one sample, in all experts.
        flops: Forward and backward.
        activations: Most bytes at once that operations made, gradients left out.
        activations_checkpointed: The same with activation checkpointing.
    """

    parameters: dict[str, int]
    trained: dict[str, int]
    tokens: int
    flops: float
    activations: float
    activations_checkpointed: float

    @staticmethod
    @lru_cache(maxsize=16)
    def count(model: ModelConfig, batch: int, lora: Lora | None = None) -> "Step":
        """Count a step at two small depths, and draw the line to the model's own.

        With LoRA operations and activations are those of full training: somewhat too many.
        """
        layers = model.network.video.layers
        low, high = (_run(_deep(model, depth), batch) for depth in (2, 4))
        with torch.device("meta"):
            network = Motus(model.network)
            if lora is not None:
                add_lora(network, lora)
        parts = {name: list(part.parameters()) for name, part in network.named_children()}

        def at(name: str) -> float:
            slope = (getattr(high, name) - getattr(low, name)) / 2
            return float(getattr(low, name) + slope * (layers - 2))

        return Step(
            parameters={name: sum(p.numel() for p in own) for name, own in parts.items()},
            trained={
                name: sum(p.numel() for p in own if p.requires_grad) for name, own in parts.items()
            },
            tokens=low.tokens,
            flops=at("flops"),
            activations=at("activations"),
            activations_checkpointed=at("activations_checkpointed"),
        )


def _deep(model: ModelConfig, layers: int) -> ModelConfig:
    video = replace(model.network.video, layers=layers)
    return replace(model, network=replace(model.network, video=video))


def count_codec(batch: int, *, deep: bool = False) -> tuple[Step, int]:
    """A step of the latent-action codec, and the frozen parameters in it.

    Args:
        batch: Steps computed at once.
        deep: With the paper's deep-compression autoencoder instead of the small convolutions.
    """
    with FakeTensorMode(), torch.random.fork_rng():
        frozen = DeepCompression.outline() if deep else None
        module = LatentActionCodec(CodecConfig(autoencoder="outline" if deep else None), frozen)
        flow = torch.randn(batch, *FLOW_SHAPE)
        numbers = [torch.randn(batch, LATENT_WIDTH) for _ in range(3)]
        step = _alone("codec", module, lambda: module(flow, *numbers).total.mean())
        return step, sum(p.numel() for p in frozen.network.parameters()) if frozen else 0


def count_frames(model: ModelConfig, batch: int) -> Step:
    """A step of the small frame autoencoder."""
    assert model.frames is not None
    with FakeTensorMode(), torch.random.fork_rng():
        module = FrameAutoencoder(model.frames)
        pictures = torch.randn(batch, 3, *model.canvas)
        noise = torch.randn(batch, *module.noise_shape(pictures))
        return _alone("frames", module, lambda: module(pictures, noise).total.mean())


def _alone(name: str, module: nn.Module, loss: Callable[[], Tensor]) -> Step:
    flops, kept = _measure(module, loss)
    parameters = {name: sum(p.numel() for p in module.parameters())}
    return Step(parameters, parameters, 0, flops, kept, kept)


def _run(model: ModelConfig, batch: int) -> Step:
    """Forward and backward of a whole network on fake tensors, plain and checkpointed."""
    with FakeTensorMode(), torch.random.fork_rng():
        network = Motus(model.network).train()
        tokens = forward(network, model, batch)[1]

        def loss() -> Tensor:
            return forward(network, model, batch)[0]

        flops, plain = _measure(network, loss)
        network.checkpointing = True
        checkpointed = _most(network, loss)
    return Step({}, {}, tokens, flops, plain, checkpointed)


def _measure(module: nn.Module, loss: Callable[[], Tensor]) -> tuple[float, float]:
    """Operations of forward and backward, and most bytes at once, gradients left out."""
    with FlopCounterMode(display=False) as counter:
        most = _most(module, loss)
    return counter.get_total_flops(), most


def _most(module: nn.Module, loss: Callable[[], Tensor]) -> float:
    """Most bytes at once in forward and backward, gradients left out."""
    hooks = [  # gradients are counted apart
        parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
        for parameter in module.parameters()
    ]
    with _Allocated(module) as allocated:
        loss().backward()
    for hook in hooks:
        hook.remove()
    return allocated.highest


class _Allocated(TorchDispatchMode):
    """Bytes of the storages that operations made and nobody has let go of yet."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.highest = 0
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()
        for weight in (*network.parameters(), *network.buffers()):
            self._known[weight.untyped_storage()] = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self._count, out)
        return out

    def _count(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            size = storage.nbytes()
            self._known[storage] = size
            self.now += size
            self.highest = max(self.highest, self.now)
            weakref.finalize(storage, self._free, size)
        return tensor

    def _free(self, size: int) -> None:
        self.now -= size


def forward(network: Motus, model: ModelConfig, batch: int) -> tuple[Tensor, int]:
    """A loss of random inputs, and the tokens of one sample."""
    video, window = network.config.video, model.window
    height, width = model.canvas
    # Wan's autoencoder shrinks space by 16 and time by 4, the small one space by its stride.
    stride = model.frames.stride if model.frames else 16
    frames = window.video_frames if model.frames else window.video_frames // 4
    latents = torch.randn(batch, video.channels, 1 + frames, height // stride, width // stride)
    time = torch.rand(batch)
    features = actions = state = None
    tokens = latents[0, 0].numel() // (video.patch[0] * video.patch[1] * video.patch[2])
    if network.understanding is not None and network.config.understanding is not None:
        seen = VLM_TOKENS if model.encoders is None else model.encoders.tokens
        features = torch.randn(batch, seen, network.config.understanding.feature_width)
        tokens += seen
    if network.action is not None and network.config.action is not None:
        action = network.config.action
        actions = torch.randn(batch, action.steps, action.action_dim)
        state = torch.randn(batch, action.state_dim)
        tokens += action.steps + 5  # a state token and four registers
    text = torch.randn(batch, video.text_tokens, video.text_width)
    context = network.prepare(text, features=features, state=state)
    velocity = network(context, latents, time, actions, None if actions is None else time)
    loss = velocity.video.square().mean()
    return (loss if velocity.action is None else loss + velocity.action.square().mean()), tokens
