"""One mode of a policy on a recorded episode, beside what really happened."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8

from motus_adapters import Policy, UnifiedDataset, letterbox
from motus_embodiments import MismatchError, UsageError
from motus_model import MODES, Role, SamplerConfig
from motus_recipes.films import side_by_side, write_film

matplotlib.use("agg")  # no window: pictures go to files


@dataclass(frozen=True)
class SampleReport:
    """What `motus sample` wrote, and how near it came.

    Attributes:
        video_psnr: Of the predicted future frames, dB; None when the mode solves no video.
        still_psnr: Of simply repeating the condition frame: what a prediction has to beat.
        action_mae: Mean absolute error of the actions as the network learns them (relative to the
            condition frame where the card says so; a rotation vector near half a turn may flip
            its sign and mean the same); None likewise.
        action_mae_by_channel: The same per channel.
    """

    mode: str
    episode: int
    film: Path | None
    plot: Path | None
    video_psnr: float | None
    still_psnr: float | None
    action_mae: float | None
    action_mae_by_channel: Mapping[str, float] | None


@dataclass(frozen=True)
class Windows:
    """A recorded episode cut into windows that follow each other."""

    pictures: UInt8[np.ndarray, "n h w 3"]
    future: UInt8[np.ndarray, "n f h w 3"]
    state: Float[np.ndarray, "n s"]
    actions: Float[np.ndarray, "n t a"]
    task: str


def sample(
    bundle: Path,
    dataset: Path,
    episode: int,
    mode: str,
    out: Path,
    *,
    seed: int = 0,
    steps: int = 10,
    device: str = "cpu",
    force: bool = False,
) -> SampleReport:
    """Solve a mode on each window of an episode; write a film and a plot.

    Raises:
        UsageError: For an unknown mode or episode, or an `out` that exists.
        MismatchError: When the dataset is of another robot.
    """
    if mode not in MODES:
        raise UsageError(f"no mode named '{mode}'", hint=f"modes: {', '.join(MODES)}")
    film, plot = out / f"{mode}.mp4", out / f"{mode}.png"
    for path in (film, plot):
        if path.exists() and not force:
            raise UsageError(f"{path} exists", hint="--force overwrites it", where=str(path))
    policy = Policy.load(bundle, "cpu" if device == "auto" else device)
    windows = cut(policy, UnifiedDataset(dataset), episode)
    video, actions = solve(policy, windows, mode, seed=seed, steps=steps)
    out.mkdir(parents=True, exist_ok=True)
    chosen = MODES[mode]
    names = [channel.name for channel in policy.card.action_channels]
    report: dict[str, Any] = dict.fromkeys(
        ("video_psnr", "still_psnr", "action_mae", "action_mae_by_channel")
    )
    if chosen.video is Role.SOLVE:
        write_film(
            film, side_by_side(_film(windows.future), _film(video)), policy.config.window.video_rate
        )
        report["video_psnr"] = psnr(video, windows.future)
        still = np.broadcast_to(windows.pictures[:, None], windows.future.shape)
        report["still_psnr"] = psnr(still, windows.future)
    if chosen.action is Role.SOLVE:
        relative = policy.space.adapter.relative
        truth, guess = (relative(a, windows.state) for a in (windows.actions, actions))
        draw_actions(plot, truth, guess, names, policy.config.window.action_rate)
        error = np.abs(guess - truth)
        report["action_mae"] = float(error.mean())
        report["action_mae_by_channel"] = {
            name: float(value) for name, value in zip(names, error.mean((0, 1)), strict=True)
        }
    return SampleReport(
        mode=mode,
        episode=episode,
        film=film if chosen.video is Role.SOLVE else None,
        plot=plot if chosen.action is Role.SOLVE else None,
        **report,
    )


def cut(policy: Policy, dataset: UnifiedDataset, episode: int) -> Windows:
    """Windows of an episode, each beginning where the last one's actions end."""
    if dataset.meta.card.name != policy.card.name:
        raise MismatchError(
            f"{dataset.path} was recorded on '{dataset.meta.card.name}', "
            f"the policy is for '{policy.card.name}'"
        )
    if not 0 <= episode < len(dataset.episodes):
        raise UsageError(
            f"no episode {episode} in {dataset.path}",
            hint=f"episodes are 0 to {len(dataset.episodes) - 1}",
        )
    height, width = policy.model.config.canvas
    frames = np.stack([letterbox(f, (width, height)) for f in dataset.frames(episode)])
    arrays = dataset.arrays(episode)
    window, rate = policy.config.window, dataset.meta.rate
    last = len(frames) - 1
    ahead = np.round(np.arange(1, window.video_frames + 1) * rate / window.video_rate)
    steps = np.round(np.arange(window.action_steps) * rate / window.action_rate)
    span = max(1, round(window.action_steps * rate / window.action_rate))
    starts = np.arange(0, max(1, len(frames) - span // 2), span)
    return Windows(
        pictures=frames[starts],
        future=frames[np.minimum(starts[:, None] + ahead.astype(int), last)],
        state=arrays["state"][starts],
        actions=arrays["action"][np.minimum(starts[:, None] + steps.astype(int), last)],
        task=dataset.episodes[episode].task,
    )


def solve(
    policy: Policy, windows: Windows, mode: str, *, seed: int = 0, steps: int = 10
) -> tuple[UInt8[np.ndarray, "n f h w 3"], Float[np.ndarray, "n t a"]]:
    """Predicted future frames and canonical actions of every window."""
    space = policy.space
    relative = space.adapter.relative(windows.actions, windows.state)
    solved = policy.model.sample(
        MODES[mode],
        _tensor(windows.pictures).permute(0, 3, 1, 2),
        [windows.task] * len(windows.pictures),
        torch.from_numpy(space.encode_state(windows.state)),
        video=_tensor(windows.future).permute(0, 4, 1, 2, 3),
        actions=torch.from_numpy(space.action.normalize(relative)),
        config=SamplerConfig(steps, steps),
        generator=torch.Generator().manual_seed(seed),
    )
    assert solved.actions is not None
    video = policy.model.decode(solved.video)[:, :, 1:].permute(0, 2, 3, 4, 1)
    pixels = (video * 255).round().clamp(0, 255).byte().cpu().numpy()
    return pixels, space.decode_actions(solved.actions.cpu().numpy(), windows.state)


def psnr(guess: UInt8[np.ndarray, "..."], truth: UInt8[np.ndarray, "..."]) -> float:
    """Peak signal-to-noise ratio over all pixels, dB."""
    error = np.square(guess.astype(np.float64) - truth).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def draw_actions(
    path: Path,
    truth: Float[np.ndarray, "n t a"],
    guess: Float[np.ndarray, "n t a"],
    names: list[str],
    rate: float,
) -> None:
    """One panel per channel: recorded and predicted over time (s)."""
    from matplotlib import pyplot

    true, predicted = truth.reshape(-1, len(names)), guess.reshape(-1, len(names))
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(3.2 * columns, 2.2 * rows), squeeze=False, layout="constrained"
    )
    time = np.arange(len(true)) / rate
    for index, axis in enumerate(axes.flat):
        if index >= len(names):
            axis.set_axis_off()
            continue
        axis.plot(time, true[:, index], color="#333333", label="recorded")
        axis.plot(time, predicted[:, index], color="#d9480f", label="predicted")
        axis.set_title(names[index], fontsize=9)
        axis.tick_params(labelsize=7)
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("time (s)", fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _film(video: UInt8[np.ndarray, "n f h w 3"]) -> UInt8[np.ndarray, "t h w 3"]:
    return video.reshape(-1, *video.shape[2:])


def _tensor(pixels: UInt8[np.ndarray, "..."]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
