"""One mode of a policy on recorded episodes, beside what really happened."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Float, UInt8
from pydantic import TypeAdapter

from motus_adapters import Policy, check_free, replacing, write_json
from motus_embodiments import DataError, UsageError
from motus_model import MODES, Role, SamplerConfig
from motus_recipes.data.mixture import seeds
from motus_recipes.data.windows import Windows, cut_all, joined
from motus_recipes.evaluation.baselines import Baseline, read_baselines
from motus_recipes.evaluation.frechet import MetricWeights, score_sets
from motus_recipes.evaluation.samples import SAMPLES, ActionScores, SampleReport, SamplesReport
from motus_recipes.evaluation.scores import (
    VideoScores,
    nearest_turns,
    score_actions,
    score_frames,
)
from motus_recipes.reports.films import side_by_side, write_film
from motus_recipes.reports.markup import escape, write_html
from motus_recipes.reports.mode_page import mode_sections
from motus_recipes.reports.rerun_file import check_rerun, write_rerun

NO_WEIGHTS = MetricWeights()

matplotlib.use("agg")  # no window: pictures go to files


@dataclass(frozen=True)
class _How:
    """How windows are solved, and by what they are scored."""

    seed: int
    steps: int
    device: str
    weights: MetricWeights
    baselines: Sequence[Baseline] = ()


def sample(
    bundle: Path,
    dataset: Path,
    episode: int | str,
    mode: str,
    out: Path,
    *,
    seed: int = 0,
    steps: int = 10,
    device: str = "cpu",
    weights: MetricWeights = NO_WEIGHTS,
    baselines: Path | None = None,
    rerun: Path | None = None,
    force: bool = False,
) -> SampleReport:
    """Solve a mode on each window of some episodes; write a film and a plot of the first one.

    Args:
        bundle: A policy.
        dataset: Of the same robot.
        episode: Of the dataset: a number, `FIRST-LAST`, `heldout` or `all`.
        mode: One of five.
        out: Folder for `MODE.mp4`, `MODE.png` and the plot's numbers, `MODE.npz`.
        seed: Of the noise.
        steps: Denoising steps.
        device: For the policy.
        weights: Of LPIPS, FID and FVD, where they are wanted.
        baselines: A run of the recipe `idm`, for mode idm.
        rerun: Also write a recording for the rerun viewer, here.
        force: Replace what is there.

    Raises:
        UsageError: For an unknown mode or episode, an `out` that exists, or a policy of latent
            actions.
        DataError: Weights of a score are not what they should be.
        MismatchError: When the dataset or a baseline is of another robot.
    """
    if mode not in MODES:
        raise UsageError(f"no mode named '{mode}'", hint=f"modes: {', '.join(MODES)}")
    if baselines is not None and not _is_inverse(mode):
        raise UsageError(f"baselines are of inverse dynamics, not of {mode}", hint="--mode idm")
    for name in _files(mode):
        check_free(out / name, force=force)
    if rerun is not None:
        check_rerun(rerun, force=force)
    policy, how = _open(bundle, _How(seed, steps, device, weights), baselines)
    windows = cut_all(policy, dataset, episode)
    one = _write(policy, windows, mode, out, how)
    if rerun is not None:
        write_rerun(rerun, [], [(f"episode {one.episode}", one)], force=force)
    return one


def sample_all(
    bundle: Path,
    dataset: Path,
    episode: int | str,
    out: Path,
    *,
    seed: int = 0,
    steps: int = 10,
    device: str = "cpu",
    weights: MetricWeights = NO_WEIGHTS,
    baselines: Path | None = None,
    rerun: Path | None = None,
    force: bool = False,
) -> SamplesReport:
    """`sample` in all five modes; also `samples.json` and a page, `index.html`."""
    for name in ("index.html", SAMPLES, *(name for mode in MODES for name in _files(mode))):
        check_free(out / name, force=force)
    if rerun is not None:
        check_rerun(rerun, force=force)
    policy, how = _open(bundle, _How(seed, steps, device, weights), baselines)
    windows = cut_all(policy, dataset, episode)
    samples = tuple(_write(policy, windows, mode, out, how) for mode in MODES)
    page = out / "index.html"
    report = SamplesReport(samples, page)
    write_json(out / SAMPLES, TypeAdapter(SamplesReport).dump_python(report, mode="json"))
    first = windows[0]
    title = f"Five modes on episode {first.episode} of {dataset.name}"
    told = f"<p>Policy <code>{escape(bundle)}</code>, told: {escape(first.task)}</p>"
    write_html(page, title, [told, *mode_sections([("", one) for one in samples])])
    if rerun is not None:
        named = [(f"episode {first.episode}", one) for one in samples]
        write_rerun(rerun, [], named, force=force)
    return report


def _files(mode: str) -> tuple[str, str]:
    """The film and the plot of a mode, which may have one of them only."""
    return f"{mode}.mp4", f"{mode}.png"


def _open(bundle: Path, how: _How, baselines: Path | None) -> tuple[Policy, _How]:
    """The policy, and what its windows are held against."""
    for path in astuple(how.weights):
        if path is not None and not path.is_file():
            raise DataError(f"there is no file {path}", where=str(path))
    policy = Policy.load(bundle, how.device)
    if policy.decoder:
        raise UsageError(
            f"{bundle} solves for latent actions, which recordings of '{policy.card.name}' do not "
            "hold: it cannot be sampled",
            hint="motus sample takes policies of runs that learnt a robot's own actions, exported "
            "without --anchoring; motus eval measures this one",
        )
    how = replace(how, device=str(policy.device))
    if baselines is not None:
        model = replace(policy.model.config, window=policy.config.window)
        how = replace(how, baselines=read_baselines(baselines, policy.card.name, model))
    return policy, how


def _write(
    policy: Policy, episodes: Sequence[Windows], mode: str, out: Path, how: _How
) -> SampleReport:
    """One mode: film and plot of the first episode, numbers of all."""
    solved = [solve(policy, windows, mode, seed=how.seed, steps=how.steps) for windows in episodes]
    video, actions = (np.concatenate(part) for part in zip(*solved, strict=True))
    whole, shown = joined(episodes), len(episodes[0].pictures)
    out.mkdir(parents=True, exist_ok=True)
    film = plot = scores = still = None
    own: ActionScores | None = None
    if MODES[mode].video is Role.SOLVE:
        film = out / f"{mode}.mp4"
        pair = side_by_side(_film(whole.future[:shown]), _film(video[:shown]))
        write_film(film, pair, policy.config.window.video_rate)
        scores, still = _score_video(whole, video, how)
    if MODES[mode].action is Role.SOLVE:
        plot = out / f"{mode}.png"
        channels = policy.card.action_channels
        true = whole.actions[:shown]
        near = nearest_turns(actions[:shown], true, channels)
        rate = policy.config.window.action_rate
        draw_actions(plot, true, near, [f"{c.name} ({c.unit})" for c in channels], rate)
        _keep_actions(plot, true, near, [c.name for c in channels], rate)
        own = _score("motus", policy, whole, actions)
    return SampleReport(
        mode=mode,
        episode=whole.episode,
        episodes=len(episodes),
        windows=len(whole.pictures),
        film=film,
        plot=plot,
        video=scores,
        still=still,
        action_mae=own.mae if own else None,
        action_mse=own.mse if own else None,
        actions=own.actions if own else (),
        inverse_dynamics=_beside(own, policy, whole, how) if own and _is_inverse(mode) else (),
    )


def _is_inverse(mode: str) -> bool:
    """Whether actions are solved from frames that are given."""
    return MODES[mode].action is Role.SOLVE and MODES[mode].video is Role.CLEAN


def _score_video(
    whole: Windows, video: UInt8[np.ndarray, "n f h w 3"], how: _How
) -> tuple[VideoScores, ...]:
    """Of the prediction, and of repeating the condition frame."""
    films = (video, np.broadcast_to(whole.pictures[:, None], whole.future.shape))
    sets = score_sets(films, whole.future, whole.pictures, how.weights, device=how.device)
    return tuple(
        replace(score_frames(film, whole.future, how.weights.lpips), sets=found)
        for film, found in zip(films, sets, strict=True)
    )


def _score(
    name: str, policy: Policy, whole: Windows, actions: Float[np.ndarray, "n t a"]
) -> ActionScores:
    errors = score_actions(actions, whole.actions, policy.card.action_channels)
    mae, mse = (float(np.mean([getattr(e, key) for e in errors])) for key in ("mae", "mse"))
    return ActionScores(name, mae, mse, errors)


def _beside(
    own: ActionScores, policy: Policy, whole: Windows, how: _How
) -> tuple[ActionScores, ...]:
    """The policy's scores and those of the baselines, of the same windows."""
    if not how.baselines:
        return ()
    frames = np.concatenate([whole.pictures[:, None], whole.future], axis=1)
    others = [
        _score(one.name, policy, whole, one.solve(frames, whole.state)) for one in how.baselines
    ]
    return (own, *others)


def solve(
    policy: Policy, windows: Windows, mode: str, *, seed: int = 0, steps: int = 10
) -> tuple[UInt8[np.ndarray, "n f h w 3"], Float[np.ndarray, "n t a"]]:
    """Predicted future frames and canonical actions of every window.

    The noise of a window follows from the seed, its episode and its place in it.
    """
    space, device = policy.space, policy.device
    relative = space.adapter.relative(windows.actions, windows.state)
    solved = policy.model.sample(
        MODES[mode],
        _tensor(windows.pictures).to(device).permute(0, 3, 1, 2),
        [windows.task] * len(windows.pictures),
        torch.from_numpy(space.encode_state(windows.state)).to(device),
        video=_tensor(windows.future).to(device).permute(0, 4, 1, 2, 3),
        actions=torch.from_numpy(space.action.normalize(relative)).to(device),
        config=SamplerConfig(steps, steps),
        noise=policy.noise(seeds((seed, windows.episode), len(windows.pictures))),
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
    columns = min(2, len(names))  # readable on a phone
    rows = -(-len(names) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(2.6 * columns, 1.5 * rows), squeeze=False, layout="constrained"
    )
    time = np.arange(len(true)) / rate
    for index, axis in enumerate(axes.flat):
        if index >= len(names):
            axis.set_axis_off()
            continue
        axis.plot(time, true[:, index], color="#333333", label="recorded")
        axis.plot(time, predicted[:, index], "--", color="#d9480f", label="predicted")
        axis.set_title(names[index], fontsize=9)
        axis.tick_params(labelsize=7)
    axes[0, 0].legend(fontsize=7)
    figure.supxlabel("time (s)", fontsize=9)
    figure.savefig(path, dpi=160)
    pyplot.close(figure)


def _keep_actions(
    plot: Path,
    truth: Float[np.ndarray, "n t a"],
    guess: Float[np.ndarray, "n t a"],
    channels: list[str],
    rate: float,
) -> None:
    """The numbers of a plot beside it, for other programs and for rerun."""
    recorded, predicted = (a.reshape(-1, len(channels)).astype(np.float32) for a in (truth, guess))
    arrays = {"recorded": recorded, "predicted": predicted, "channels": np.array(channels)}
    with replacing(plot.with_suffix(".npz")) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, rate=np.float64(rate), **arrays)  # type: ignore[arg-type]


def _film(video: UInt8[np.ndarray, "n f h w 3"]) -> UInt8[np.ndarray, "t h w 3"]:
    return video.reshape(-1, *video.shape[2:])


def _tensor(pixels: UInt8[np.ndarray, "..."]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
