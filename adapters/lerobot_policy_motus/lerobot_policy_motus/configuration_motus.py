"""`--policy.type=motus`: what LeRobot's commands and `config.json` say of a Motus policy."""

from dataclasses import dataclass, field
from typing import Any

from lerobot.configs import NormalizationMode, PreTrainedConfig
from lerobot.optim import AdamWConfig, CosineDecayWithWarmupSchedulerConfig

from motus_adapters import BundleConfig
from motus_adapters.deployment.bundle import BUNDLE_VERSION
from motus_adapters.deployment.lerobot_files import POLICY_TYPE
from motus_embodiments import UsageError, nearest
from motus_model import MODES, SIZES


@PreTrainedConfig.register_subclass(POLICY_TYPE)
@dataclass
class MotusConfig(PreTrainedConfig):  # type: ignore[misc]
    """Attributes up to `encoders` are those of a bundle's `config.json`.

    Attributes:
        size: Name of the model's size.
        window: Frames and actions of a sample; left out, made of `chunk_size` and `video_frames`.
        canvas: The canvas; left out, made of the dataset's cameras.
        rate: Control rate in Hz; left out, the dataset's.
        mode: Solved at inference.
        steps: Denoising steps.
        execute: Actions of a chunk to carry out before asking again.
        instruction: For simulators that give no task.
        decoder: Of a policy of latent actions.
        network: Sizes of the network, where they are not the size's own.
        encoders: Where the pretrained encoders lie, of a size that carries none of its own.
        embodiment: Card of the dataset's robot; a unified dataset carries its own.
        chunk_size: Actions of a chunk, one a frame; the size's own if left out.
        video_frames: Future frames, spread over the chunk; the size's own if left out.
        modes: How often each mode is practised in training.
        times: Distribution of the noise times.
        noise_seed: First seed of the noise at inference.
        learning_rate: Peak of the AdamW preset.
        weight_decay: Of the AdamW preset.
        warmup: Steps of linear rise of the preset, in a run of `decay` steps.
        decay: Steps until the rate is zero; a shorter run shrinks both to fit.
    """

    bundle_version: int = BUNDLE_VERSION
    size: str = "tiny"
    window: dict[str, Any] | None = None
    canvas: dict[str, Any] | None = None
    rate: float | None = None
    mode: str = "vla"
    steps: int = 5
    execute: int = 2
    instruction: str = ""
    decoder: dict[str, Any] | None = None
    network: dict[str, Any] | None = None
    encoders: dict[str, str] | None = None

    embodiment: str | None = None
    chunk_size: int | None = None
    video_frames: int | None = None
    modes: dict[str, float] = field(
        default_factory=lambda: {"joint": 0.5, "vla": 0.3, "idm": 0.1, "wm": 0.1}
    )
    times: str = "shifted_uniform"
    noise_seed: int = 0
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 5_000
    decay: int = 100_000
    normalization_mapping: dict[str, NormalizationMode] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size not in SIZES:
            raise UsageError(f"no size named '{self.size}'", hint=nearest(self.size, SIZES))
        for name in (self.mode, *self.modes):
            if name not in MODES:
                raise UsageError(f"no mode named '{name}'", hint=nearest(name, MODES))

    @property
    def chunk(self) -> int:
        """Actions of a sample."""
        if self.window:
            return int(self.window["action_steps"])
        return self.chunk_size or SIZES[self.size].window.action_steps

    @property
    def future(self) -> int:
        """Future frames of a sample."""
        if self.window:
            return int(self.window["video_frames"])
        return self.video_frames or SIZES[self.size].window.video_frames

    @property
    def observation_delta_indices(self) -> list[int]:
        """The condition frame and the future frames, in frames of the dataset."""
        if self.window and self.rate:
            stride = self.rate / self.window["video_rate"]
        else:
            stride = self.chunk / self.future
        return [round(stride * index) for index in range(self.future + 1)]

    @property
    def action_delta_indices(self) -> list[int]:
        """The action chunk, in frames of the dataset."""
        stride = self.rate / self.window["action_rate"] if self.window and self.rate else 1
        return [round(stride * index) for index in range(self.chunk)]

    @property
    def reward_delta_indices(self) -> None:
        """None: no reward is learnt from."""

    def get_optimizer_preset(self) -> AdamWConfig:
        """As recipe `full`'s last stage."""
        return AdamWConfig(
            lr=self.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=self.weight_decay,
            grad_clip_norm=1.0,
        )

    def get_scheduler_preset(self) -> CosineDecayWithWarmupSchedulerConfig:
        """Linear rise, then a cosine to zero."""
        return CosineDecayWithWarmupSchedulerConfig(
            num_warmup_steps=self.warmup,
            num_decay_steps=self.decay,
            peak_lr=self.learning_rate,
            decay_lr=0.0,
        )

    def validate_features(self) -> None:
        """Nothing: cameras and widths are held against the card when they arrive."""

    def bundle(self) -> BundleConfig:
        """The bundle's own configuration, once window, canvas and rate are known."""
        return BundleConfig.from_dict(
            {name: getattr(self, name) for name in ("bundle_version", *_BUNDLE)}
        )

    def take(self, bundle: BundleConfig) -> None:
        """Write a bundle's configuration into this one."""
        for name, value in bundle.to_dict().items():
            setattr(self, name, value)


_BUNDLE = (
    *("size", "window", "canvas", "rate", "mode", "steps", "execute", "instruction"),
    *("decoder", "network", "encoders"),
)
