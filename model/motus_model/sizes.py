"""The sizes of the one network: `tiny`, `small`, and `motus-8b`, the paper's."""

from dataclasses import dataclass, replace

from motus_model.action_expert import ActionConfig
from motus_model.encoders import TinyEncoderConfig
from motus_model.frames import FrameConfig
from motus_model.network import MotusConfig
from motus_model.understanding_expert import UnderstandingConfig
from motus_model.video_expert import VideoConfig


@dataclass(frozen=True)
class Window:
    """One training sample in time: a condition frame and what follows it.

    Attributes:
        video_frames: Future frames.
        video_rate: Hz of the future frames.
        action_steps: Actions in a chunk.
        action_rate: Hz of the actions.
    """

    video_frames: int
    video_rate: float
    action_steps: int
    action_rate: float


@dataclass(frozen=True)
class ModelConfig:
    """Everything that shapes the weights.

    Attributes:
        size: Name of the size.
        canvas: Height and width of the image that the model sees.
        network: The three experts.
        frames: The small frame autoencoder, or None where Wan's is loaded.
        encoders: The small encoders, or None where UMT5 and Qwen3-VL are loaded.
        window: Frames and actions of one sample.
    """

    size: str
    canvas: tuple[int, int]
    network: MotusConfig
    frames: FrameConfig | None
    encoders: TinyEncoderConfig | None
    window: Window

    def for_robot(self, *, state_dim: int, action_dim: int) -> "ModelConfig":
        """The same model with a robot's own numbers of channels."""
        assert self.network.action is not None
        action = replace(
            self.network.action,
            state_dim=state_dim,
            action_dim=action_dim,
            steps=self.window.action_steps,
        )
        return replace(self, network=replace(self.network, action=action))


def _action(width: int, hidden: int, steps: int) -> ActionConfig:
    return ActionConfig(width=width, hidden=hidden, action_dim=14, steps=steps, state_dim=14)


TINY = ModelConfig(
    size="tiny",
    canvas=(144, 96),
    network=MotusConfig(
        video=VideoConfig(
            width=128,
            hidden=384,
            layers=4,
            heads=4,
            channels=8,
            patch=(1, 3, 3),
            text_width=128,
            text_tokens=12,
            frequency_width=64,
        ),
        action=ActionConfig(
            width=128, hidden=512, action_dim=14, steps=8, state_dim=14, frequency_width=64
        ),
        understanding=UnderstandingConfig(
            width=128, hidden=384, feature_width=128, adapter_layers=1
        ),
    ),
    frames=FrameConfig(),
    encoders=TinyEncoderConfig(),
    window=Window(video_frames=2, video_rate=2.5, action_steps=8, action_rate=10.0),
)

SMALL = ModelConfig(
    size="small",
    canvas=(288, 192),
    network=MotusConfig(
        video=VideoConfig(
            width=768,
            hidden=3072,
            layers=12,
            heads=12,
            channels=8,
            patch=(1, 2, 2),
            text_width=512,
            text_tokens=32,
        ),
        action=_action(512, 2048, 48),
        understanding=UnderstandingConfig(
            width=256, hidden=1024, feature_width=512, adapter_layers=1
        ),
    ),
    frames=FrameConfig(),
    encoders=TinyEncoderConfig(width=512, text_tokens=32, canvas=(288, 192)),
    window=Window(video_frames=8, video_rate=5.0, action_steps=48, action_rate=30.0),
)

MOTUS_8B = ModelConfig(
    size="motus-8b",
    canvas=(384, 320),
    network=MotusConfig(
        video=VideoConfig(
            width=3072,
            hidden=14336,
            layers=30,
            heads=24,
            channels=48,
            patch=(1, 2, 2),
            text_width=4096,
            text_tokens=512,
        ),
        action=_action(1024, 4096, 48),
        understanding=UnderstandingConfig(width=512, hidden=2048, feature_width=2048),
        attend_text_padding=True,  # what its Wan weights are used to
    ),
    frames=None,
    encoders=None,
    window=Window(video_frames=8, video_rate=5.0, action_steps=48, action_rate=30.0),
)

SIZES: dict[str, ModelConfig] = {model.size: model for model in (TINY, SMALL, MOTUS_8B)}
