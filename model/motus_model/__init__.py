"""The network and its mathematics; it knows no robot, no dataset, no command."""

from motus_model.codec import LATENT_WIDTH, CodecConfig, LatentActionCodec, load_codec
from motus_model.flow_matching import TimeSampler
from motus_model.frames import FrameAutoencoder, FrameConfig
from motus_model.model import Batch, FlowLoss, MotusModel
from motus_model.modes import MODES, Mode, Role
from motus_model.network import Motus, MotusConfig
from motus_model.pretrained import EncoderPlaces, load_encoders
from motus_model.qwen import PROMPT, vlm_parameters
from motus_model.roles import Encoders
from motus_model.sampler import Sample, SamplerConfig
from motus_model.sizes import SIZES, ModelConfig, Window

__all__ = [
    "LATENT_WIDTH",
    "MODES",
    "PROMPT",
    "SIZES",
    "Batch",
    "CodecConfig",
    "EncoderPlaces",
    "Encoders",
    "FlowLoss",
    "FrameAutoencoder",
    "FrameConfig",
    "LatentActionCodec",
    "Mode",
    "ModelConfig",
    "Motus",
    "MotusConfig",
    "MotusModel",
    "Role",
    "Sample",
    "SamplerConfig",
    "TimeSampler",
    "Window",
    "load_codec",
    "load_encoders",
    "vlm_parameters",
]
