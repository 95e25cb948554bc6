"""The network and its mathematics; it knows no robot, no dataset, no command."""

from motus_model.codec import (
    LATENT_WIDTH,
    CodecConfig,
    LatentActionCodec,
    MotionFrame,
    load_codec,
)
from motus_model.codec_trunks import DeepCompression
from motus_model.encoders import Encoded
from motus_model.flow_matching import TimeSampler, draw_normal
from motus_model.frames import FrameAutoencoder, FrameConfig, shipped_frames
from motus_model.guidance import Guide, PrefixGuide, prefix_weights
from motus_model.hub import Frozen
from motus_model.model import Batch, FlowLoss, MotusModel, Noise
from motus_model.modes import MODES, Mode, Role
from motus_model.network import Motus, MotusConfig
from motus_model.network_folder import network_config, read_network, read_sizes
from motus_model.official import WeightsError
from motus_model.pretrained import EncoderPlaces, load_encoders
from motus_model.qwen import PROMPT, vlm_parameters
from motus_model.roles import Encoders
from motus_model.sampler import Given, Sample, SamplerConfig
from motus_model.sizes import SIZES, ModelConfig, Window
from motus_model.solvers import SOLVERS

__all__ = [
    "LATENT_WIDTH",
    "MODES",
    "PROMPT",
    "SIZES",
    "SOLVERS",
    "Batch",
    "CodecConfig",
    "DeepCompression",
    "Encoded",
    "EncoderPlaces",
    "Encoders",
    "FlowLoss",
    "FrameAutoencoder",
    "FrameConfig",
    "Frozen",
    "Given",
    "Guide",
    "LatentActionCodec",
    "Mode",
    "ModelConfig",
    "MotionFrame",
    "Motus",
    "MotusConfig",
    "MotusModel",
    "Noise",
    "PrefixGuide",
    "Role",
    "Sample",
    "SamplerConfig",
    "TimeSampler",
    "WeightsError",
    "Window",
    "draw_normal",
    "load_codec",
    "load_encoders",
    "network_config",
    "prefix_weights",
    "read_network",
    "read_sizes",
    "shipped_frames",
    "vlm_parameters",
]
