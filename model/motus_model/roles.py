"""What stands around the network: three roles, filled by small encoders or by pretrained ones."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor

from motus_model.encoders import Encoded
from motus_model.network import MotusConfig
from motus_model.official import WeightsError


class Trainable(Protocol):
    """The part of a torch module that the training loop uses on a role."""

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Train it or freeze it; pretrained encoders stay frozen."""

    def load_state_dict(self, state_dict: Any, strict: bool = True) -> Any:
        """Load weights; pretrained encoders have none in a checkpoint."""


class FrameCodec(Trainable, Protocol):
    """Images to latents of about unit variance, and back."""

    @property
    def channels(self) -> int:
        """Of a latent."""

    def encode(self, frames: Float[Tensor, "b 3 f H W"]) -> Float[Tensor, "b c l h w"]:
        """Latents of a clip in [-1, 1] that begins with the condition frame."""

    def decode(self, latents: Float[Tensor, "b c l h w"]) -> Float[Tensor, "b 3 f H W"]:
        """Images in [-1, 1]."""

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip of so many frames, the condition frame included."""


class TextEncoder(Trainable, Protocol):
    """Instructions to the tokens that Wan's cross-attention reads."""

    @property
    def width(self) -> int:
        """Numbers of a token."""

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Features, zero where the mask is False."""


class Perception(Trainable, Protocol):
    """A condition frame and an instruction to the features of the understanding expert."""

    @property
    def width(self) -> int:
        """Numbers of a feature."""

    def __call__(self, images: Float[Tensor, "b 3 H W"], texts: Sequence[str]) -> Encoded:
        """Features of images in [0, 1]."""


class Encoders(NamedTuple):
    """All three of a model."""

    frames: FrameCodec
    text: TextEncoder
    perception: Perception

    def check(self, network: MotusConfig) -> None:
        """Make sure that the network reads what they give.

        Raises:
            WeightsError: For the first one of another width.
        """
        widths = [
            ("frames", self.frames.channels, network.video.channels),
            ("text", self.text.width, network.video.text_width),
        ]
        if network.understanding is not None:
            widths.append(
                ("perception", self.perception.width, network.understanding.feature_width)
            )
        for name, given, read in widths:
            if given != read:
                raise WeightsError(
                    f"the encoder '{name}' gives {given} numbers and the network reads {read}: "
                    "they are not of the same model"
                )
