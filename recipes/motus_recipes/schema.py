"""What a recipe may say: datasets, and the stages that are run over them."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from motus_model import MODES, EncoderPlaces, MotionFrame, Role

Expert = Literal["video", "action", "understanding"]
BackboneKind = Literal["resnet18", "dinov2", "efficientnet-lite0"]
Beta = Annotated[float, Field(ge=0, lt=1)]
SLOWEST = 0.01  # Hz
# Keys of a stage that only some objectives read.
READ_BY = {
    "experts": ("motus",),
    "action": ("motus",),
    "times": ("motus",),
    "modes": ("motus",),
    "augment": ("motus", "idm"),
    "lora": ("motus",),
    "start": ("motus",),
    "labelled": ("codec",),
    "codec": ("codec",),
}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _unknown(told: str, wrong: str, allowed: Iterable[str]) -> PydanticCustomError:
    """An error from which `load_recipe` makes a hint."""
    context = {"told": told, "wrong": wrong, "allowed": list(allowed)}
    return PydanticCustomError("unknown_name", "{told} '{wrong}'", context)


class DatasetSpec(_Frozen):
    """A dataset that the stages name.

    Attributes:
        level: Rung of the data pyramid that it must come from.
        path: Its folder; left out, it is looked for under ./data by its level.
        required: Whether the recipe cannot do without it.
    """

    level: int = Field(ge=1, le=6)
    path: str | None = None
    required: bool = True


class Optimizer(_Frozen):
    """AdamW with warm-up and a schedule.

    The schedule falls from the first step on, also during the warm-up: the rate itself is only
    reached where it is constant.

    Attributes:
        learning_rate: What warm-up and schedule take shares of.
        experts: Other rates for single experts; 0 leaves one as it is.
        weight_decay: Decoupled.
        betas: Of the two moments.
        warmup: Steps of linear rise.
        schedule: From the first step to the last: to zero along a cosine or a line, or constant.
        clip: Largest norm of the gradient.
        ema: Decay of the averaged weights that the stage ends with; 0 for none.
    """

    learning_rate: float = Field(gt=0)
    experts: dict[Expert, NonNegativeFloat] = {}
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    warmup: int = Field(default=0, ge=0)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1)


class Lora(_Frozen):
    """Low-rank adapters in place of full training, merged into the weights at the stage's end.

    Attributes:
        experts: Whose linear layers get one; other experts train as the stage says, and so does
            the way of these into joint attention, where it is no linear layer.
        rank: Of each adapter.
        alpha: An adapter's output is scaled by alpha / rank.
    """

    experts: tuple[Expert, ...]
    rank: int = Field(default=16, gt=0)
    alpha: int = Field(default=16, gt=0)


class BackboneSpec(_Frozen):
    """The picture network of a baseline.

    Attributes:
        kind: Its name.
        weights: Where they lie, if the kind has none of its own: a safetensors file for resnet18,
            else random ones; a folder for dinov2.
        frozen: Train the MLP alone.
    """

    kind: BackboneKind
    weights: str | None = None
    frozen: bool = False


class CodecSpec(_Frozen):
    """What a latent-action codec is, and how it is taught.

    Attributes:
        frame: Along whose axes true motion is shown: the arm's base (the paper's), the head
            camera, or the arm's own wrist camera.
        smoothing: Seconds over which its labels are averaged, 0 for each step by itself.
        own_heads: Whether each source also teaches a head of its own along its arms' bases, and
            another by its mirror images.
        unlabelled: Sources whose true motion is never shown.
        twins: Source to a dataset of the same motion under other looks: each step is seen as
            either shows it, and its latent is to be the same.
        agreement: How much that counts in the loss.
        held_out: Share of each source's episodes, the last ones, that it never trains on.
        autoencoder: Folder or hub name of a deep-compression autoencoder (DC-AE, the paper's),
            which stays frozen; left out, the codec has small convolutions of its own.
        flow: How the flow that it learns from is estimated, as `motus label --flow` says it; what
            it labels later must be had the same way.
    """

    frame: MotionFrame = "base"
    smoothing: float = Field(default=0.0, ge=0, le=1)
    own_heads: bool = False
    unlabelled: tuple[str, ...] = ()
    twins: dict[str, str] = {}
    agreement: float = Field(default=10.0, ge=0)
    held_out: float = Field(default=0.1, gt=0, lt=1)
    autoencoder: str | None = None
    flow: str = "dis"


class EngineSpec(_Frozen):
    """How steps are computed; what is learnt is changed by the precision and by `keep_best` alone.

    Where a stage looks at a batch as a whole (`idm`, a codec's twins) so does `microbatch`.

    Attributes:
        precision: float32, or bf16 with float32 weights and the float32 islands of the model.
        sharding: With several processes: a whole copy in each (`ddp`), or gradients, optimizer
            and resting weights split among them (`fsdp`, PyTorch's FSDP2).
        microbatch: Windows that one process computes at once; all of its share if left out.
        checkpointing: Recompute activations in the backward pass.
        compile: Compile the network with torch.compile.
        cache: GB beside each dataset for its frames and flows at the model's size; those of other
            sizes and windows make room.
        encoder_cache: GB beside each dataset for what frozen encoders make of it; 0 computes it in
            every step.
        checkpoint_every: Steps between checkpoints.
        keep: Newest checkpoints to keep.
        keep_best: Measure the held-out loss at each checkpoint, and end with the best of them.
        trackers: Where metrics go beside metrics.jsonl and TensorBoard.
        timeout: Seconds after which a process that doesn't answer is taken for lost.
    """

    precision: Literal["float32", "bf16"] = "float32"
    sharding: Literal["ddp", "fsdp"] = "ddp"
    microbatch: int | None = Field(default=None, gt=0)
    checkpointing: bool = False
    compile: bool = False
    cache: float = Field(default=100.0, gt=0)
    encoder_cache: float = Field(default=100.0, ge=0)
    checkpoint_every: int = Field(default=100, gt=0)
    keep: int = Field(default=1, gt=0)
    keep_best: bool = False
    trackers: tuple[Literal["wandb", "trackio"], ...] = ()
    timeout: float = Field(default=600.0, gt=0)


class EncodersSpec(_Frozen):
    """Where the pretrained encoders of a size lie: local folders or hub names, `name:subfolder`.

    Attributes:
        frames: Wan 2.2's video autoencoder.
        text: UMT5.
        tokenizer: Of UMT5.
        perception: Qwen3-VL.
        precision: Of UMT5 and Qwen3-VL; the autoencoder runs in float32.
    """

    frames: str = EncoderPlaces.frames
    text: str = EncoderPlaces.text
    tokenizer: str = EncoderPlaces.tokenizer
    perception: str = EncoderPlaces.perception
    precision: Literal["float32", "bf16"] = "bf16"


class Stage(_Frozen):
    """One run of the training loop.

    Attributes:
        name: Its folder and its row in the tables.
        objective: What is trained: the frame autoencoder, the latent-action codec, Motus, or a
            baseline of inverse dynamics.
        backbone: Picture network, for objective `idm`.
        experts: Which experts train, for objective `motus`. Small encoders train along: the text's
            in every stage, perception with the understanding expert.
        action: What the action expert learns: nothing, latent actions, or the robot's own.
        sources: Dataset name to weight in the mixture.
        labelled: Share of each batch whose true motion the codec may see (paper: 0.1); of a small
            batch at least one window, unless it is 0.
        codec: The codec, for objective `codec`.
        steps: Optimizer steps.
        batch: Windows a step.
        times: Distribution of the noise times.
        modes: How often each mode is practised.
        augment: Vary brightness and contrast of the picture that perception (or a baseline) sees,
            and the state, a little; the video expert's frames stay.
        lora: Train low-rank adapters of some experts.
        start: A folder that `motus import` wrote, or a stage of another run, in place of what
            earlier stages leave; the sizes of an imported one become the network's.
    """

    name: str
    objective: Literal["frames", "codec", "motus", "idm"]
    backbone: BackboneSpec | None = None
    experts: tuple[Expert, ...] = ()
    action: Literal["none", "latent", "native"] = "none"
    sources: dict[str, PositiveFloat] = Field(min_length=1)
    labelled: float = Field(default=0.1, ge=0, le=1)
    codec: CodecSpec = CodecSpec()
    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    optimizer: Optimizer
    times: Literal["logit_normal", "shifted_uniform"] = "logit_normal"
    modes: dict[str, NonNegativeFloat] = {"joint": 1.0}
    augment: bool = False
    lora: Lora | None = None
    start: str | None = None

    @property
    def datasets(self) -> tuple[str, ...]:
        """All that it reads: its sources, then their twins."""
        return (*self.sources, *self.codec.twins.values())

    @model_validator(mode="after")
    def _has_its_backbone(self) -> "Stage":
        if (self.objective == "idm") != (self.backbone is not None):
            raise ValueError("a stage has a backbone if its objective is idm, and only then")
        return self

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "Stage":
        for key, objectives in READ_BY.items():
            usual = type(self).model_fields[key].default
            if self.objective not in objectives and getattr(self, key) != usual:
                raise ValueError(
                    f"objective {self.objective} has no use for `{key}`: leave it out, or take "
                    f"objective {' or '.join(objectives)}"
                )
        if self.objective == "motus" and not self.experts:
            raise ValueError(
                f"stage '{self.name}' names no experts: list some of {', '.join(get_args(Expert))}"
            )
        if self.action == "none":
            named = (*self.experts, *(self.lora.experts if self.lora else ()))
            lacking = [expert for expert in named if expert != "video"]
            if lacking:
                raise ValueError(
                    f"with action: none there is no {lacking[0]} expert: leave it out, or learn "
                    "action: latent or native"
                )
            for mode, weight in self.modes.items():
                if weight and MODES[mode].video != Role.SOLVE:
                    raise ValueError(
                        f"with action: none mode {mode} has nothing to learn: practise vgm or joint"
                    )
        for what, names in (("unlabelled", self.codec.unlabelled), ("twins", self.codec.twins)):
            for name in names:
                if name not in self.sources:
                    raise _unknown(f"codec.{what}: the stage has no source", name, self.sources)
        return self

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError("a stage's name has letters, digits, '_' and '-' only")
        return name

    @field_validator("modes")
    @classmethod
    def _known_modes(cls, modes: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(modes) - set(MODES))
        if unknown:
            raise _unknown("there is no mode", unknown[0], MODES)
        if not any(modes.values()):
            raise ValueError(f"none is practised: give one of {', '.join(MODES)} a weight above 0")
        return modes


class WindowSpec(_Frozen):
    """One sample in time: future frames at their rate, actions at theirs (Hz)."""

    video_frames: int = Field(gt=0)
    video_rate: float = Field(ge=SLOWEST)
    action_steps: int = Field(gt=0)
    action_rate: float = Field(ge=SLOWEST)


class RecipeSpec(_Frozen):
    """A recipe file, whole."""

    name: str
    title: str
    size: str
    seed: int = Field(default=0, ge=0)
    window: WindowSpec
    engine: EngineSpec = EngineSpec()
    encoders: EncodersSpec | None = None
    datasets: dict[str, DatasetSpec]
    stages: tuple[Stage, ...] = Field(min_length=1)

    @property
    def flow(self) -> str:
        """How all stages have their flow: as the recipe's own codec learns from it."""
        return next((s.codec.flow for s in self.stages if s.objective == "codec"), "dis")

    @field_validator("stages")
    @classmethod
    def _differ_by_name(cls, stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
        names = [stage.name for stage in stages]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two are named '{twice}': give each a name of its own")
        return stages

    @model_validator(mode="after")
    def _known_sources(self) -> "RecipeSpec":
        for stage in self.stages:
            for name in stage.datasets:
                if name not in self.datasets:
                    told = f"stage '{stage.name}' names a dataset that the recipe lacks:"
                    raise _unknown(told, name, self.datasets)
        return self
