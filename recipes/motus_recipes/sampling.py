"""One mode of a policy on a recorded episode, beside what really happened."""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import TypeAdapter

from motus_adapters import Policy, UnifiedDataset, letterbox, write_json
from motus_embodiments import MismatchError, UsageError
from motus_model import MODES, Role, SamplerConfig
from motus_recipes.films import side_by_side, write_film
from motus_recipes.markup import escape, write_html
from motus_recipes.mode_page import mode_sections
from motus_recipes.scores import (
    ChannelScore,
    VideoScores,
    nearest_turns,
    score_actions,
    score_frames,
)

SAMPLES = "samples.json"

matplotlib.use("agg")  # no window: pictures go to files


@dataclass(frozen=True)
class SampleReport:
    """What `motus sample` wrote, and how near it came.

    Attributes:
        video: Scores of the predicted future frames; None when the mode solves no video.
        still: Of simply repeating the condition frame: what a prediction has to beat.
        action_mae: Mean absolute error over all canonical channels, steps and windows; None when
            the mode solves no actions.
        actions: Errors by channel and by step ahead.
    """

    mode: str
    episode: int
    film: Path | None
    plot: Path | None
    video: VideoScores | None
    still: VideoScores | None
    action_mae: float | None
    actions: tuple[ChannelScore, ...]


@dataclass(frozen=True)
class SamplesReport:
    """All five modes on one episode.

    Attributes:
        page: Films, plots and numbers on one page.
    """

    samples: tuple[SampleReport, ...]
    page: Path


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
    lpips: Path | None = None,
    force: bool = False,
) -> SampleReport:
    """Solve a mode on each window of an episode; write a film and a plot.

    Args:
        bundle: A policy.
        dataset: Of the same robot.
        episode: Of the dataset.
        mode: One of five.
        out: Folder for `MODE.mp4` and `MODE.png`.
        seed: Of the noise.
        steps: Denoising steps.
        device: For the policy.
        lpips: Weights that LPIPS needs; see `score_frames`.
        force: Replace what is there.

    Raises:
        UsageError: For an unknown mode or episode, or an `out` that exists.
        MismatchError: When the dataset is of another robot.
    """
    if mode not in MODES:
        raise UsageError(f"no mode named '{mode}'", hint=f"modes: {', '.join(MODES)}")
    _check_free([out / f"{mode}.mp4", out / f"{mode}.png"], force=force)
    policy = Policy.load(bundle, "cpu" if device == "auto" else device)
    windows = cut(policy, UnifiedDataset(dataset), episode)
    return _write(policy, windows, episode, mode, out, seed, steps, lpips)


def sample_all(
    bundle: Path,
    dataset: Path,
    episode: int,
    out: Path,
    *,
    seed: int = 0,
    steps: int = 10,
    device: str = "cpu",
    lpips: Path | None = None,
    force: bool = False,
) -> SamplesReport:
    """`sample` in all five modes; also `samples.json` and a page, `index.html`."""
    _check_free([out / "index.html", out / SAMPLES], force=force)
    policy = Policy.load(bundle, "cpu" if device == "auto" else device)
    windows = cut(policy, UnifiedDataset(dataset), episode)
    samples = tuple(
        _write(policy, windows, episode, mode, out, seed, steps, lpips) for mode in MODES
    )
    page = out / "index.html"
    report = SamplesReport(samples, page)
    write_json(out / SAMPLES, TypeAdapter(SamplesReport).dump_python(report, mode="json"))
    title = f"Five modes on episode {episode} of {dataset.name}"
    told = f"<p>Policy <code>{escape(bundle)}</code>, told: {escape(windows.task)}</p>"
    write_html(page, title, [told, *mode_sections(samples)])
    return report


def _check_free(paths: list[Path], *, force: bool) -> None:
    for path in paths:
        if path.exists() and not force:
            raise UsageError(f"{path} exists", hint="--force overwrites it", where=str(path))


def _write(
    policy: Policy,
    windows: Windows,
    episode: int,
    mode: str,
    out: Path,
    seed: int,
    steps: int,
    lpips: Path | None,
) -> SampleReport:
    """One mode: its film, its plot, its numbers."""
    video, actions = solve(policy, windows, mode, seed=seed, steps=steps)
    out.mkdir(parents=True, exist_ok=True)
    film = plot = scores = still = mae = None
    errors: tuple[ChannelScore, ...] = ()
    if MODES[mode].video is Role.SOLVE:
        film = out / f"{mode}.mp4"
        shown = side_by_side(_film(windows.future), _film(video))
        write_film(film, shown, policy.config.window.video_rate)
        repeated = np.broadcast_to(windows.pictures[:, None], windows.future.shape)
        scores = score_frames(video, windows.future, lpips)
        still = score_frames(repeated, windows.future, lpips)
    if MODES[mode].action is Role.SOLVE:
        plot = out / f"{mode}.png"
        channels = policy.card.action_channels
        near = nearest_turns(actions, windows.actions, channels)
        names = [f"{channel.name} ({channel.unit})" for channel in channels]
        draw_actions(plot, windows.actions, near, names, policy.config.window.action_rate)
        errors = score_actions(actions, windows.actions, channels)
        mae = float(np.mean([error.mae for error in errors]))
    return SampleReport(mode, episode, film, plot, scores, still, mae, errors)


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
