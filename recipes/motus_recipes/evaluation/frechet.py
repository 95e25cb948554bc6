"""How far predicted films are from recorded ones as sets: FID, FVD, and what can stand in.

All are the Frechet distance of two Gaussians (Heusel et al. 2017, arXiv 1706.08500), computed by
torchmetrics; they differ in the network whose features the Gaussians describe.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from motus_embodiments import DataError, MissingError
from motus_recipes.evaluation.backbones import EXTRA, Backbone, has_lite0, open_backbone
from motus_recipes.training.checkpoints import read_weights

FEWEST = 100  # frames below which the stand-ins, for which nobody asked, are left out
BATCH = 16
INCEPTION = 2048  # features of InceptionV3's last pooling, those of FID
I3D_FRAMES = 9  # that I3D's last pooling needs
Column = Sequence[float | None]
Films = UInt8[np.ndarray, "n f h w 3"]


@dataclass(frozen=True)
class MetricWeights:
    """Weights of the scores that need some.

    Attributes:
        lpips: ImageNet weights of torchvision's AlexNet, safetensors.
        fid: InceptionV3 as torch-fidelity has it, safetensors.
        fvd: I3D trained on Kinetics-400, the TorchScript file of StyleGAN-V.
    """

    lpips: Path | None = None
    fid: Path | None = None
    fvd: Path | None = None


@dataclass(frozen=True)
class SetScores:
    """How far a set of predicted films is from the recorded ones.

    Attributes:
        frames: Predicted frames; a distance depends on how many there are.
        clips: Windows, each its condition frame and its future frames.
        fid: Frechet Inception distance; None without its weights.
        fvd: Frechet video distance; None without its weights.
        frechet_lite0: The Frechet distance in the features of EfficientNet-Lite0, ImageNet's: of
            how frames look. Not FID, and not comparable with it. None where FID or FVD is there,
            with few frames, or without the extra `metrics`.
        frechet_lite0_change: The same of how a clip's last frame differs from its first one in
            these features: of what moves. Not FVD.
    """

    frames: int
    clips: int
    fid: float | None
    fvd: float | None
    frechet_lite0: float | None
    frechet_lite0_change: float | None


def score_sets(
    guesses: Sequence[Films],
    truth: Films,
    pictures: UInt8[np.ndarray, "n h w 3"],
    weights: MetricWeights,
    *,
    device: str = "cpu",
) -> tuple[SetScores | None, ...]:
    """Distances of each set of predicted films from the recorded ones; None if none applies.

    Args:
        guesses: Predicted future frames, several sets of them.
        truth: Recorded ones.
        pictures: The condition frames of all.
        weights: What is asked for.
        device: For the networks.

    Raises:
        DataError: There are too few films, or the weights are other ones.
        MissingError: torchmetrics or torch-fidelity is not installed.
    """
    frames, clips = int(np.prod(truth.shape[:2])), len(truth)
    is_asked = weights.fid is not None or weights.fvd is not None
    has_standin = not is_asked and frames >= FEWEST and has_lite0() and _has_metrics()
    if not is_asked and not has_standin:
        return (None,) * len(guesses)
    if not _has_metrics():
        raise MissingError("FID and FVD need the package torchmetrics", hint=EXTRA)
    if clips < 2:
        raise DataError(
            "a Frechet distance is one of sets, and this is one film",
            hint="score more of them: --episode heldout, or --episode 0-19",
        )
    fid: Column = [None] * len(guesses)
    fvd, look, change = fid, fid, fid
    true_clips, *clips_of = (_with_condition(film, pictures) for film in (truth, *guesses))
    true_frames, *frames_of = (film.reshape(-1, *film.shape[2:]) for film in (truth, *guesses))
    if weights.fid is not None:
        fid = _distances(_fid(weights.fid), true_frames, frames_of, device)
    if weights.fvd is not None:
        if (length := true_clips.shape[1]) < I3D_FRAMES:
            raise DataError(
                f"FVD needs clips of {I3D_FRAMES} frames or more; these have {length}",
                hint="leave --fvd-weights out; the window of a recipe decides about its clips",
            )
        fvd = frechet_distance(_I3D(weights.fvd), true_clips, clips_of, device)
    if has_standin:
        eye = open_backbone("efficientnet-lite0").eval()
        look = frechet_distance(_Look(eye), true_frames, frames_of, device)
        change = frechet_distance(_Change(eye), true_clips, clips_of, device)
    rows = zip(fid, fvd, look, change, strict=True)
    return tuple(SetScores(frames, clips, *row) for row in rows)


def frechet_distance(
    network: nn.Module, truth: np.ndarray, guesses: Sequence[np.ndarray], device: str = "cpu"
) -> list[float]:
    """The Frechet distance of each set from the true one, in a network's features.

    Args:
        network: Gives `num_features` features of each sample.
        truth: Samples [n, ..., h, w, 3]; the network sees them as [n, ..., 3, h, w].
        guesses: Sets of samples.
        device: For the network.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(network, reset_real_features=False)
    return _distances(metric, truth, guesses, device)


def _has_metrics() -> bool:
    return find_spec("torchmetrics") is not None


class _Look(nn.Module):
    """Features of frames."""

    def __init__(self, eye: Backbone) -> None:
        super().__init__()
        self.eye, self.num_features = eye, eye.num_features

    def forward(self, frames: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b n"]:
        features: Tensor = self.eye(frames.float() / 255)
        return features


class _Change(_Look):
    """Features of a clip's last frame less those of its first."""

    def forward(self, clips: UInt8[Tensor, "b f 3 h w"]) -> Float[Tensor, "b n"]:
        ends = super().forward(torch.cat([clips[:, 0], clips[:, -1]]))
        return ends[len(clips) :] - ends[: len(clips)]


class _I3D(nn.Module):
    """Features of clips by a TorchScript file; it scales and resizes them itself."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            self.network: Any = torch.jit.load(str(path), map_location="cpu").eval()
            blank = torch.zeros(1, I3D_FRAMES, 3, 32, 32, dtype=torch.uint8)
            self.num_features = int(self(blank).shape[-1])
        except (RuntimeError, ValueError, OSError, TypeError) as error:
            raise DataError(
                f"{path} holds no I3D as TorchScript: {str(error).splitlines()[0]}",
                hint="FVD takes i3d_torchscript.pt, as StyleGAN-V uses it",
                where=str(path),
            ) from error

    def forward(self, clips: UInt8[Tensor, "b f 3 h w"]) -> Float[Tensor, "b n"]:
        films = clips.transpose(1, 2).float()
        features: Tensor = self.network(films, rescale=True, resize=True, return_features=True)
        return features


def _fid(path: Path, features: int = INCEPTION) -> Any:
    """FID proper; torch-fidelity reads its weights from a file of torch's, which is made here."""
    from torchmetrics.image.fid import FrechetInceptionDistance

    if find_spec("torch_fidelity") is None:
        raise MissingError("FID needs the package torch-fidelity", hint=EXTRA)
    given = read_weights(path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inception.pth"
        torch.save(given, file)
        try:
            return FrechetInceptionDistance(
                features, reset_real_features=False, feature_extractor_weights_path=str(file)
            )
        except RuntimeError as error:
            told = " ".join(str(error).splitlines()[:2])
            raise DataError(
                f"{path} holds no InceptionV3 of torch-fidelity's: {told}",
                hint="docs/guides/evaluate.md says which weights FID takes",
                where=str(path),
            ) from error


@torch.no_grad()
def _distances(
    metric: Any, truth: np.ndarray, guesses: Sequence[np.ndarray], device: str
) -> list[float]:
    metric = metric.to(device).eval()
    for part in _batches(truth):
        metric.update(part.to(device), real=True)
    found = []
    for guess in guesses:
        for part in _batches(guess):
            metric.update(part.to(device), real=False)
        found.append(max(0.0, float(metric.compute())))  # rounding can pass below
        metric.reset()
    return found


def _batches(samples: np.ndarray) -> Iterator[Tensor]:
    for at in range(0, len(samples), BATCH):
        part = torch.from_numpy(np.ascontiguousarray(samples[at : at + BATCH]))
        yield part.movedim(-1, -3)


def _with_condition(films: Films, pictures: UInt8[np.ndarray, "n h w 3"]) -> Films:
    return np.concatenate([pictures[:, None], films], axis=1)
