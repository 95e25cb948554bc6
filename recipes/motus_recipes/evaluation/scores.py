"""How near a prediction came to what was recorded: frames and actions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8

from motus_embodiments import Channel, DataError, MissingError
from motus_recipes.evaluation.backbones import EXTRA
from motus_recipes.evaluation.frechet import SetScores
from motus_recipes.training.checkpoints import read_weights

BATCH = 64  # frames compared at once
Frames = UInt8[np.ndarray, "*n h w 3"]
Chunks = Float[np.ndarray, "n t a"]


@dataclass(frozen=True)
class VideoScores:
    """Of predicted frames against recorded ones.

    Attributes:
        psnr: Peak signal-to-noise ratio over all pixels, dB.
        ssim: Structural similarity, mean over frames; None without the extra `metrics`.
        lpips: Learned perceptual distance (AlexNet), mean over frames; None without its weights.
        st_lpips: Shift-tolerant LPIPS (Ghildyal and Liu 2022, arXiv 2207.13686), which is another
            network with other numbers; mean over frames; None without the extra `metrics`.
        sets: Distances of all frames and clips as sets; None where none was asked for.
    """

    psnr: float
    ssim: float | None
    lpips: float | None
    st_lpips: float | None
    sets: SetScores | None = None


@dataclass(frozen=True)
class ChannelScore:
    """Error of one action channel in canonical units, over all windows.

    Attributes:
        mae: Mean absolute error over all steps.
        mse: Mean squared error over all steps.
        mae_by_step: The same for each step of a chunk: how far ahead it looks.
        mse_by_step: Likewise.
    """

    channel: str
    unit: str
    mae: float
    mse: float
    mae_by_step: tuple[float, ...]
    mse_by_step: tuple[float, ...]


def score_frames(guess: Frames, truth: Frames, lpips: Path | None = None) -> VideoScores:
    """Compare films frame by frame.

    Args:
        guess: Predicted frames.
        truth: Recorded frames, of the same shape.
        lpips: ImageNet weights of torchvision's AlexNet, a safetensors file.

    Raises:
        MissingError: LPIPS is asked for and torchmetrics is not installed.
        DataError: The file holds other weights.
    """
    has_metrics = find_spec("torchmetrics") is not None
    if lpips is not None and not has_metrics:
        raise MissingError("LPIPS needs the package torchmetrics", hint=EXTRA)
    return VideoScores(
        psnr=psnr(guess, truth),
        ssim=_ssim(guess, truth) if has_metrics else None,
        lpips=None if lpips is None else _lpips(guess, truth, lpips),
        st_lpips=_st_lpips(guess, truth) if _has_st_lpips() else None,
    )


def psnr(guess: Frames, truth: Frames) -> float:
    """Peak signal-to-noise ratio over all pixels, dB."""
    error = np.square(guess.astype(np.float64) - truth).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def score_actions(
    guess: Chunks, truth: Chunks, channels: Sequence[Channel]
) -> tuple[ChannelScore, ...]:
    """Errors of canonical action chunks, a row a channel."""
    error = nearest_turns(guess, truth, channels) - truth
    absolute, squared = np.abs(error).mean(0), np.square(error).mean(0)
    return tuple(
        ChannelScore(
            channel=channel.name,
            unit=channel.unit,
            mae=float(absolute[:, column].mean()),
            mse=float(squared[:, column].mean()),
            mae_by_step=tuple(map(float, absolute[:, column])),
            mse_by_step=tuple(map(float, squared[:, column])),
        )
        for column, channel in enumerate(channels)
    )


def nearest_turns(guess: Chunks, truth: Chunks, channels: Sequence[Channel]) -> Chunks:
    """`guess` with each rotation vector in the one of its two forms that is nearer to the truth.

    v and v - 2 pi v/|v| are the same rotation; near half a turn a small error changes the form.
    """
    near = np.array(guess, np.float64)
    turns = [i for i, channel in enumerate(channels) if channel.kind == "rotation"]
    for start in turns[::3]:
        triple = slice(start, start + 3)
        one = near[..., triple]
        angle = np.linalg.norm(one, axis=-1, keepdims=True)
        other = one * (1 - 2 * np.pi / np.maximum(angle, 1e-9))
        apart, flipped = (
            np.linalg.norm(v - truth[..., triple], axis=-1, keepdims=True) for v in (one, other)
        )
        near[..., triple] = np.where((flipped < apart) & (angle > 1e-6), other, one)
    return near


def _ssim(guess: Frames, truth: Frames) -> float:
    from torchmetrics.functional.image import structural_similarity_index_measure

    total = 0.0
    for one, other in _batches(guess, truth):
        found = structural_similarity_index_measure(one, other, data_range=1.0)
        assert isinstance(found, torch.Tensor)
        total += float(found) * len(one)
    return total / _count(guess)


@torch.no_grad()
def _lpips(guess: Frames, truth: Frames, weights: Path) -> float:
    # torchmetrics' own functions download the backbone; its network takes one that is here.
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    network = _NoTrainLpips(net="alex", pnet_rand=True)
    given = read_weights(weights)
    own = {}
    for key in network.net.state_dict():
        _, layer, kind = key.split(".")
        name = f"features.{layer}.{kind}"
        if name not in given:
            raise DataError(
                f"{weights} has no '{name}'",
                hint="LPIPS takes the weights of torchvision's AlexNet as safetensors",
                where=str(weights),
            )
        own[key] = given[name]
    try:
        network.net.load_state_dict(own, strict=True)
    except RuntimeError as error:
        raise DataError(f"{weights} holds no AlexNet: {error}", where=str(weights)) from error
    return _mean_distance(network, guess, truth)


def _has_st_lpips() -> bool:
    # The package needs the others without saying so.
    return all(find_spec(name) for name in ("stlpips_pytorch", "torchsummary", "IPython"))


@torch.no_grad()
def _st_lpips(guess: Frames, truth: Frames) -> float:
    module = import_module("stlpips_pytorch.stlpips")
    return _mean_distance(
        module.LPIPS(net="alex", variant="shift_tolerant", verbose=False), guess, truth
    )


def _mean_distance(network: Callable[..., torch.Tensor], guess: Frames, truth: Frames) -> float:
    """Mean over frames of a network's distance of two pictures."""
    parts = _batches(guess, truth)
    total = sum(float(network(one, other, normalize=True).sum()) for one, other in parts)
    return total / _count(guess)


def _count(frames: Frames) -> int:
    return int(np.prod(frames.shape[:-3]))


def _batches(*films: Frames) -> list[tuple[torch.Tensor, ...]]:
    """[n, 3, h, w] from 0 to 1, a few frames at a time."""
    flat = [film.reshape(-1, *film.shape[-3:]) for film in films]
    starts = range(0, len(flat[0]), BATCH)
    return [
        tuple(
            torch.from_numpy(np.ascontiguousarray(film[at : at + BATCH])).permute(0, 3, 1, 2) / 255
            for film in flat
        )
        for at in starts
    ]
