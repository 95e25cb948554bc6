"""What a recipe costs before anything starts: parameters, memory, FLOPs, hours.

One training step of the network is run on fake tensors, which have shapes and no numbers: torch
counts its floating-point operations and the bytes that it keeps for the backward pass. Layers are
alike, so deep networks are counted at two depths and drawn out in a straight line.
"""

import os
import re
import shutil
import weakref
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from motus_embodiments import UsageError, nearest
from motus_model import ModelConfig, Motus
from motus_recipes.library import Recipe
from motus_recipes.schema import EngineSpec, Stage

FEATURE_TOKENS = 140  # of the vision-language model for one picture and an instruction
FLOAT = 4  # bytes of a float32, in which weights, gradients and moments are kept
GIB = 2**30

# Memory in GiB and dense bfloat16 TFLOPS, from the makers' data sheets.
DEVICES = {
    "A100": (80, 312),
    "H100": (80, 989),
    "H200": (141, 989),
    "B200": (180, 2250),
    "L40S": (48, 362),
    "RTX4090": (24, 165),
}
PAPER_HOURS = {"stage1": 8000, "stage2": 10000, "stage3": 400}  # GPU hours, paper's table 7


@dataclass(frozen=True)
class Memory:
    """Gibibytes on one device at the step's worst moment.

    Attributes:
        weights: Resting weights, sharded where the recipe shards.
        gathered: The whole weights that a sharded step puts together.
        gradients: Of what trains, whole at the end of the backward pass.
        optimizer: AdamW's two moments.
        average: The moving average, if the recipe keeps one.
        activations: Kept for the backward pass.
        activations_checkpointed: The same with activation checkpointing.
    """

    weights: float
    gathered: float
    gradients: float
    optimizer: float
    average: float
    activations: float
    activations_checkpointed: float


@dataclass(frozen=True)
class StagePlan:
    """One stage on the given devices.

    Attributes:
        trained: Parameters that the optimizer moves.
        tokens: Video, action and understanding tokens of one step, over all devices.
        tflops: Of one step, over all devices.
        peak_gib: Memory of one device at the step's worst moment.
        fits: Whether that is below what the device has.
        paper_gpu_hours: What the paper says that its stage took.
    """

    name: str
    trained: int
    microbatch: int
    tokens: int
    tflops: float
    peak_gib: float
    fits: bool
    steps_per_hour: float
    gpu_hours: float
    paper_gpu_hours: int | None
    memory: Memory


@dataclass(frozen=True)
class Plan:
    """A recipe on a cluster, and what this machine is."""

    recipe: str
    size: str
    devices: str
    utilisation: float
    stages: tuple[StagePlan, ...]
    here: dict[str, object]


def plan(recipe: Recipe, devices: str = "8xH100", utilisation: float = 0.4) -> Plan:
    """Count one step of each stage that trains the network.

    Args:
        recipe: From `load_recipe`.
        devices: Number and kind, as `64xH100`.
        utilisation: Share of the devices' peak FLOPS that training reaches.

    Raises:
        UsageError: For an unknown device, or a batch that does not split over so many.
    """
    count, kind = parse_devices(devices)
    memory, tflops = DEVICES[kind]
    spec = recipe.spec.engine
    stages = tuple(
        _stage(stage, recipe.model, spec, count, memory, tflops * utilisation)
        for stage in recipe.spec.stages
        if stage.objective == "motus"
    )
    return Plan(recipe.spec.name, recipe.spec.size, devices, utilisation, stages, here())


def here() -> dict[str, object]:
    """This machine: cores, memory, free disk, devices."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "free_disk_gib": round(shutil.disk_usage(".").free / GIB, 1),
        "cuda": cuda,
    }


def parse_devices(devices: str) -> tuple[int, str]:
    """Number and kind of `64xH100`.

    Raises:
        UsageError: When it is written otherwise, or the kind is unknown.
    """
    found = re.fullmatch(r"(\d+)x(\w+)", devices)
    if not found or not int(found[1]):
        raise UsageError(f"--devices '{devices}' is not COUNTxKIND", hint="for example 64xH100")
    if found[2] not in DEVICES:
        raise UsageError(f"no device '{found[2]}' is known", hint=nearest(found[2], DEVICES))
    return int(found[1]), found[2]


def _stage(
    stage: Stage, model: ModelConfig, spec: EngineSpec, count: int, memory: float, tflops: float
) -> StagePlan:
    if stage.batch % count:
        raise UsageError(
            f"stage '{stage.name}' has batches of {stage.batch}, which do not split over {count}",
            hint="name a number of devices that divides the batch",
        )
    part = spec.microbatch or stage.batch // count
    step = Step.count(_shape(stage, model), part)
    trained = sum(step.parameters[expert] for expert in stage.experts)
    peak, used = _memory(step, trained, spec, count, averaged=bool(stage.optimizer.ema))
    flops = step.flops / part * stage.batch / 1e12
    if spec.checkpointing:
        flops *= 4 / 3  # the forward pass is a third of the rest, and is computed again
    seconds = flops / (count * tflops)
    return StagePlan(
        name=stage.name,
        trained=trained,
        microbatch=part,
        tokens=step.tokens * stage.batch,
        tflops=flops,
        peak_gib=peak,
        fits=peak < memory,
        steps_per_hour=3600 / seconds,
        gpu_hours=stage.steps * seconds / 3600 * count,
        paper_gpu_hours=PAPER_HOURS.get(stage.name) if model.size == "motus-8b" else None,
        memory=used,
    )


def _memory(
    step: "Step", trained: int, spec: EngineSpec, count: int, *, averaged: bool
) -> tuple[float, Memory]:
    """The peak of one device, and what it is made of (GiB)."""
    total = sum(step.parameters.values()) * FLOAT / GIB
    gradients = trained * FLOAT / GIB
    sharded = spec.sharding == "fsdp" and count > 1
    shard = count if sharded else 1
    activations = {False: step.activations / GIB, True: step.activations_checkpointed / GIB}
    resting = total / shard
    optimizer, average = 2 * gradients / shard, (total if averaged else 0) / shard
    gathered = total if sharded else 0.0
    # Gradients grow while activations shrink: the worst moment has either of them whole.
    moving = max(activations[spec.checkpointing], gradients)
    used = Memory(
        weights=resting,
        gathered=gathered,
        gradients=gradients,
        optimizer=optimizer,
        average=average,
        activations=activations[False],
        activations_checkpointed=activations[True],
    )
    return resting + gathered + optimizer + average + moving + gradients / shard * sharded, used


def _shape(stage: Stage, model: ModelConfig) -> ModelConfig:
    if stage.action == "none":
        return replace(model, network=replace(model.network, action=None, understanding=None))
    return model


@dataclass(frozen=True)
class Step:
    """One training step of a network, counted on fake tensors.

    Attributes:
        parameters: By expert.
        tokens: Of one sample.
        flops: Forward and backward.
        activations: Most bytes at once that operations made, gradients left out.
        activations_checkpointed: The same with activation checkpointing.
    """

    parameters: dict[str, int]
    tokens: int
    flops: float
    activations: float
    activations_checkpointed: float

    @staticmethod
    @lru_cache(maxsize=16)
    def count(model: ModelConfig, batch: int) -> "Step":
        """Count a step at two small depths, and draw the line to the model's own."""
        layers = model.network.video.layers
        low, high = (_run(_deep(model, depth), batch) for depth in (2, 4))
        with torch.device("meta"):
            network = Motus(model.network)
        parameters = {
            name: sum(p.numel() for p in part.parameters())
            for name, part in network.named_children()
        }

        def at(name: str) -> float:
            slope = (getattr(high, name) - getattr(low, name)) / 2
            return float(getattr(low, name) + slope * (layers - 2))

        return Step(
            parameters=parameters,
            tokens=low.tokens,
            flops=at("flops"),
            activations=at("activations"),
            activations_checkpointed=at("activations_checkpointed"),
        )


def _deep(model: ModelConfig, layers: int) -> ModelConfig:
    video = replace(model.network.video, layers=layers)
    return replace(model, network=replace(model.network, video=video))


def _run(model: ModelConfig, batch: int) -> Step:
    """Forward and backward of a whole network on fake tensors, plain and checkpointed."""
    with FakeTensorMode(), torch.random.fork_rng():
        network = Motus(model.network).train()
        for parameter in network.parameters():  # gradients are counted apart
            parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
        with FlopCounterMode(display=False) as counter:
            loss, tokens = _forward(network, model, batch)
            loss.backward()
        highest = {}
        for checkpointing in (False, True):
            network.checkpointing = checkpointing
            with _Allocated(network) as allocated:
                loss, _ = _forward(network, model, batch)
                loss.backward()
            highest[checkpointing] = allocated.highest
    return Step({}, tokens, counter.get_total_flops(), highest[False], highest[True])


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


def _forward(network: Motus, model: ModelConfig, batch: int) -> tuple[torch.Tensor, int]:
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
        features = torch.randn(batch, FEATURE_TOKENS, network.config.understanding.feature_width)
        tokens += FEATURE_TOKENS
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
