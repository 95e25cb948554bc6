"""The text and vision encoders of size `tiny`, trained together with the experts.

They stand where UMT5 and Qwen3-VL stand at full size: a bag of hashed words, and a small
convolutional eye with spatial-softmax keypoints.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

# Sharper maps from the first step on; untrained ones would all point at the middle.
SHARPNESS = 4.0


class Encoded(NamedTuple):
    """Token features and which of them are real."""

    tokens: Float[Tensor, "b n d"]
    mask: Bool[Tensor, "b n"]


@dataclass(frozen=True)
class TinyEncoderConfig:
    """Sizes of the small encoders.

    Attributes:
        width: Of every token, text and vision.
        words: Rows of the word table.
        text_tokens: Longest instruction, in words.
        canvas: Height and width of the image.
        regions: Boxes (top, bottom, left, right; as shares of the canvas) in which keypoints are
            sought: the head view and the two wrist views.
        keypoints: Per region.
    """

    width: int = 128
    words: int = 4096
    text_tokens: int = 12
    canvas: tuple[int, int] = (144, 96)
    regions: tuple[tuple[float, float, float, float], ...] = (
        (0.0, 2 / 3, 0.0, 1.0),
        (2 / 3, 1.0, 0.0, 0.5),
        (2 / 3, 1.0, 0.5, 1.0),
    )
    keypoints: int = 32

    @property
    def tokens(self) -> int:
        """Features of one canvas and an instruction: a coarse grid, the regions, the words."""
        rows, columns = (size // 16 for size in self.canvas)
        return rows * columns + len(self.regions) + self.text_tokens


def split_words(text: str) -> list[str]:
    """An instruction's words, as the table has them; of long ones only the first are read."""
    return re.findall(r"\w+", text.lower())


class WordEncoder(nn.Module):
    """Each word hashed to a row of a learned table; no vocabulary file is needed."""

    def __init__(self, config: TinyEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.words, config.width)
        self.positions = nn.Parameter(torch.randn(config.text_tokens, config.width) * 0.02)

    @property
    def width(self) -> int:
        """Numbers of one token."""
        return self.config.width

    def forward(self, texts: Sequence[str]) -> Encoded:
        """Word tokens of each text, zero-padded to a fixed number."""
        return self.embed(*self.look_up(texts))

    def look_up(self, texts: Sequence[str]) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Rows of the table, and which of them are real."""
        size = self.config.text_tokens
        rows = torch.zeros(len(texts), size, dtype=torch.long)
        mask = torch.zeros(len(texts), size, dtype=torch.bool)
        for index, text in enumerate(texts):
            words = split_words(text)[:size] or ["nothing"]
            codes = [zlib.crc32(word.encode()) % self.config.words for word in words]
            rows[index, : len(words)] = torch.tensor(codes)
            mask[index, : len(words)] = True
        device = self.table.weight.device
        return rows.to(device), mask.to(device)

    def embed(self, rows: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]) -> Encoded:
        """Word tokens of what `look_up` gave."""
        return Encoded((self.table(rows) + self.positions) * mask[..., None], mask)


class Eye(nn.Module):
    """A canvas as a coarse grid of tokens and one token of keypoint positions per region.

    The keypoints (spatial softmax) took a small policy from 60 to 78 % in a first trial: what
    fails without them is localisation.
    """

    def __init__(self, config: TinyEncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.fine = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2, padding=1),
            nn.GroupNorm(8, 32),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GroupNorm(8, 64),
            nn.SiLU(),
        )
        self.coarse = nn.Sequential(
            nn.Conv2d(64, 128, 3, stride=2, padding=1),
            nn.GroupNorm(8, 128),
            nn.SiLU(),
            nn.Conv2d(128, width, 3, stride=2, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
        )
        rows, columns = (size // 16 for size in config.canvas)
        # As large as the features: attention finds a place by it, since these tokens have no
        # rotary positions. At 0.02 a policy does not learn in 250 steps where the cube is.
        self.positions = nn.Parameter(torch.randn(rows * columns, width) * 0.5)
        regions = len(config.regions)
        self.heat = nn.ModuleList(nn.Conv2d(64, config.keypoints, 1) for _ in range(regions))
        self.point = nn.ModuleList(nn.Linear(2 * config.keypoints, width) for _ in range(regions))

    def forward(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b n d"]:
        """Tokens of images in [0, 1]."""
        fine = self.fine(images * 2 - 1)
        grid = self.coarse(fine)
        points = []
        for heat, linear, box in zip(self.heat, self.point, self.config.regions, strict=True):
            point = linear(expected_positions(heat(crop(fine, box))))
            # Every token of a view carries its keypoints, so that attention, which is even at
            # first, passes them on from the first step.
            crop(grid, box).add_(point[:, :, None, None])
            points.append(point)
        tokens = grid.flatten(2).transpose(1, 2) + self.positions
        return torch.cat([tokens, torch.stack(points, dim=1)], dim=1)


def crop(
    image: Float[Tensor, "b c h w"], box: tuple[float, float, float, float]
) -> Float[Tensor, "b c i j"]:
    """The part of a feature map inside a box given as shares of its sides."""
    rows, columns = image.shape[-2:]
    top, bottom, left, right = box
    return image[
        ...,
        round(top * rows) : round(bottom * rows),
        round(left * columns) : round(right * columns),
    ]


def expected_positions(heat: Float[Tensor, "b k h w"]) -> Float[Tensor, "b 2*k"]:
    """Spatial softmax: the mean (x, y) of each map, in [-1, 1]."""
    rows, columns = heat.shape[-2:]
    share = F.softmax(SHARPNESS * heat.flatten(2).float(), dim=-1).unflatten(-1, (rows, columns))
    x = (share.sum(-2) * torch.linspace(-1, 1, columns, device=heat.device)).sum(-1)
    y = (share.sum(-1) * torch.linspace(-1, 1, rows, device=heat.device)).sum(-1)
    return torch.cat([x, y], dim=-1).to(heat.dtype)


class TinyPerception(nn.Module):
    """Image and words as one sequence of features: the vision-language model of size `tiny`."""

    def __init__(self, config: TinyEncoderConfig) -> None:
        super().__init__()
        self.words = WordEncoder(config)
        self.eye = Eye(config)

    @property
    def width(self) -> int:
        """Numbers of one feature."""
        return self.words.width

    def forward(self, images: Float[Tensor, "b 3 H W"], texts: Sequence[str]) -> Encoded:
        """Features of the condition frame (in [0, 1]) and the instruction."""
        return self.look(images, self.words(texts))

    def look(self, images: Float[Tensor, "b 3 H W"], words: Encoded) -> Encoded:
        """The same with the words embedded already."""
        seen = self.eye(images)
        mask = torch.cat([seen.new_ones(seen.shape[:2], dtype=torch.bool), words.mask], dim=1)
        return Encoded(torch.cat([seen, words.tokens], dim=1), mask)
