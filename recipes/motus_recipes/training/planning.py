"""What a recipe costs before anything starts: parameters, memory, FLOPs, hours."""

import math
import os
import re
import shutil
from dataclasses import dataclass, replace

import torch

from motus_embodiments import UsageError, nearest
from motus_model import ModelConfig, vlm_parameters
from motus_recipes.library import Recipe
from motus_recipes.schema import EncodersSpec, EngineSpec, Stage
from motus_recipes.training.counting import Step, count_codec, count_frames

UMT5, WAN_VAE = 5_680_910_336, 704_688_668  # parameters of the frozen encoders of size motus-8b
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
NODE = "H100", 8  # kind and most devices of a plan that names none
PAPER_HOURS = {"stage1": 8000, "stage2": 10000, "stage3": 400}  # GPU hours, paper's table 7


@dataclass(frozen=True)
class Memory:
    """Gibibytes on one device at a stage's worst moment.

    Attributes:
        peak: All of it, with or without activation checkpointing, as the recipe says.
        weights: Resting weights, sharded where the recipe shards.
        gathered: The whole weights that a sharded step puts together.
        gradients: Of what trains, whole at the end of the backward pass.
        optimizer: AdamW's two moments.
        average: The moving average, if the recipe keeps one.
        encoders: The frozen ones of size motus-8b.
        activations: Kept for the backward pass.
        activations_checkpointed: The same with activation checkpointing.
    """

    stage: str
    peak: float
    weights: float
    gathered: float
    gradients: float
    optimizer: float
    average: float
    encoders: float
    activations: float
    activations_checkpointed: float


@dataclass(frozen=True)
class StagePlan:
    """One stage on the given devices.

    Attributes:
        trained: Parameters that the optimizer moves.
        microbatch: Windows that a device computes at once.
        tokens: Video, action and understanding tokens of one step, over all devices; the codec
            and the frame autoencoder have none.
        tflops: Of one step, over all devices.
        paper_gpu_hours: What the paper says that its stage took.
        fits: Whether the peak of its memory is below what the device has.
        microbatch_here: The largest one that would fit on this machine alone; 0 for none.
    """

    name: str
    trained: int
    microbatch: int
    tokens: int
    tflops: float
    steps_per_hour: float
    gpu_hours: float
    paper_gpu_hours: int | None
    fits: bool
    microbatch_here: int


@dataclass(frozen=True)
class Plan:
    """A recipe on a cluster, and what this machine is."""

    recipe: str
    size: str
    devices: str
    utilisation: float
    stages: tuple[StagePlan, ...]
    memory_gib: tuple[Memory, ...]
    here: dict[str, object]


def plan(recipe: Recipe, devices: str | None = None, utilisation: float = 0.4) -> Plan:
    """Count one step of each stage.

    Args:
        recipe: From `load_recipe`.
        devices: As `choose_devices` takes them.
        utilisation: Share of the devices' peak FLOPS that training reaches.

    Raises:
        UsageError: For an unknown device, a batch that does not split over so many, or a stage
            that is a baseline.
    """
    devices = choose_devices(recipe, devices)
    count, kind = parse_devices(devices)
    memory, tflops = DEVICES[kind]
    stages, used = [], []
    for stage in recipe.spec.stages:
        part = recipe.spec.engine.microbatch or stage.batch // count
        load = Load.of(stage, recipe, part)
        used.append(load.memory(part, count))
        flops = load.flops * stage.batch / 1e12
        seconds = flops / (count * tflops * utilisation)
        stages.append(
            StagePlan(
                name=stage.name,
                trained=load.trained,
                microbatch=part,
                tokens=load.step.tokens * stage.batch,
                tflops=flops,
                steps_per_hour=3600 / seconds,
                gpu_hours=stage.steps * seconds / 3600 * count,
                paper_gpu_hours=PAPER_HOURS.get(stage.name) if load.is_paper else None,
                fits=used[-1].peak < memory,
                microbatch_here=load.largest(memory_here()),
            )
        )
    name, size = recipe.spec.name, recipe.spec.size
    return Plan(name, size, devices, utilisation, tuple(stages), tuple(used), here())


def choose_devices(recipe: Recipe, devices: str | None = None) -> str:
    """The devices that are named, or else as many H100 of one node as each batch splits over.

    Args:
        recipe: From `load_recipe`.
        devices: Number and kind, as `64xH100`.

    Raises:
        UsageError: For an unknown device, or a batch that does not split over so many.
    """
    part = recipe.spec.engine.microbatch or 1
    whole = math.gcd(*(stage.batch for stage in recipe.spec.stages))
    kind, most = NODE
    fitting = [count for count in range(1, most + 1) if not whole % (count * part)]
    devices = devices or f"{max(fitting, default=1)}x{kind}"
    count, _ = parse_devices(devices)
    for stage in recipe.spec.stages:
        if stage.batch % (count * part):
            raise UsageError(
                f"stage '{stage.name}' has batches of {stage.batch}, which do not split over "
                f"{count} devices in parts of {part}",
                hint=f"name a number of devices that divides {whole // part}"
                if fitting
                else f"engine.microbatch must divide {whole}",
            )
    return devices


def memory_here() -> float:
    """Gibibytes of this machine's first CUDA device, or of its main memory where there is none."""
    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(0).total_memory) / GIB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


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


@dataclass(frozen=True)
class Load:
    """What a stage asks of devices.

    Attributes:
        step: Counted at a microbatch of `counted`.
        trained: Parameters that the optimizer moves.
        encoders: Bytes of frozen encoders.
    """

    stage: Stage
    engine: EngineSpec
    step: Step
    counted: int
    trained: int
    encoders: int
    is_paper: bool

    @staticmethod
    def of(stage: Stage, recipe: Recipe, part: int) -> "Load":
        """Count a stage's step with a microbatch."""
        model, encoders = recipe.model, 0
        match stage.objective:
            case "codec":
                step, frozen = count_codec(part, deep=stage.codec.autoencoder is not None)
                encoders = FLOAT * frozen
            case "frames":
                step = count_frames(model, part)
            case "idm":
                raise UsageError(
                    f"stage '{stage.name}' is a baseline of inverse dynamics, which is not counted",
                    hint="plan a recipe without it",
                )
            case "motus":
                step = Step.count(_shape(stage, model), part, stage.lora)
                encoders = _encoders(model, recipe.spec.encoders or EncodersSpec())
        trained = [n for name, n in step.trained.items() if name in (stage.experts or [name])]
        return Load(
            stage, recipe.spec.engine, step, part, sum(trained), encoders, model.size == "motus-8b"
        )

    @property
    def flops(self) -> float:
        """Of one window; with checkpointing the forward pass, a third of the rest, comes twice."""
        again = self.engine.checkpointing and self.stage.objective == "motus"
        return self.step.flops / self.counted * (4 / 3 if again else 1)

    def memory(self, part: int, count: int) -> Memory:
        """On one of `count` devices that computes `part` windows at once."""
        total = sum(self.step.parameters.values()) * FLOAT / GIB
        gradients = self.trained * FLOAT / GIB
        sharded = self.engine.sharding == "fsdp" and count > 1 and self.stage.objective == "motus"
        shard = count if sharded else 1
        scale = part / self.counted / GIB
        activations = {
            False: self.step.activations * scale,
            True: self.step.activations_checkpointed * scale,
        }
        used = {
            "weights": total / shard,
            "gathered": total if sharded else 0.0,
            "optimizer": 2 * gradients / shard,
            "average": (total if self.stage.optimizer.ema else 0) / shard,
            "encoders": self.encoders / GIB,
        }
        # Gradients grow while activations shrink: the worst moment has either of them whole.
        moving = max(activations[self.engine.checkpointing], gradients)
        return Memory(
            stage=self.stage.name,
            peak=sum(used.values()) + moving + gradients / shard * sharded,
            gradients=gradients,
            activations=activations[False],
            activations_checkpointed=activations[True],
            **used,
        )

    def largest(self, memory: float) -> int:
        """Most windows at once, of those that divide the batch, for one device with such memory."""
        batch = self.stage.batch
        parts = (part for part in range(batch, 0, -1) if batch % part == 0)
        return next((part for part in parts if self.memory(part, 1).peak < memory), 0)


def _encoders(model: ModelConfig, spec: EncodersSpec) -> int:
    """Bytes of the frozen encoders that a size loads; the small ones of others don't weigh."""
    if model.encoders is not None:
        return 0
    each = {"bf16": 2, "float32": FLOAT}[spec.precision]
    return each * (UMT5 + vlm_parameters()) + FLOAT * WAN_VAE


def _shape(stage: Stage, model: ModelConfig) -> ModelConfig:
    if stage.action == "none":
        return replace(model, network=replace(model.network, action=None, understanding=None))
    assert model.network.action is not None
    action = replace(model.network.action, steps=model.window.action_steps)
    return replace(model, network=replace(model.network, action=action))
