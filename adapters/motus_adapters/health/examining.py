"""`motus inspect DATASET --health`: whether a dataset can be learned from, and what is wrong."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from motus_adapters.health.checks import Check, Findings, duplicates_of, judge, lags_of
from motus_adapters.health.episode import EpisodeHealth, Look, look
from motus_adapters.unified.manifest import ACTION, STATE
from motus_adapters.unified.reading import UnifiedDataset
from motus_adapters.workers import check_engine, count, run

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ChannelHealth:
    """One channel of state or action over all episodes, in canonical units.

    Attributes:
        feature: "observation.state" or "action".
        name: The channel.
        unit: Its unit.
        low: Smallest value.
        high: Largest value.
        least: What the card allows, None where unknown.
        most: What the card allows, None where unknown.
        lag: Frames by which the state follows this action; None where it cannot be told.
        correlation: Of the increments at that lag.
    """

    feature: str
    name: str
    unit: str
    low: float
    high: float
    least: float | None
    most: float | None
    lag: int | None
    correlation: float | None


@dataclass(frozen=True)
class ViewHealth:
    """One camera's view over all episodes.

    Attributes:
        role: head, left_wrist or right_wrist.
        static: Share of frames that are the one before.
        black: Share of frames without light.
        sharpness: Median of the episodes' sharpness, the variance of the Laplacian.
        softest: The same of the least sharp episode.
    """

    role: str
    static: float
    black: float
    sharpness: float
    softest: float


@dataclass(frozen=True)
class HealthReport:
    """The health of a dataset.

    Attributes:
        path: The dataset.
        embodiment: Name of its card.
        episodes: Number of episodes.
        frames: Number of frames.
        rate: Frames a second.
        lengths: Frames of each episode.
        checks: The questions and their answers.
        views: The cameras.
        channels: The numbers.
        grippers: "feature channel" -> shares of ten bins from closed to open.
        tasks: Task -> episodes, the most frequent ten.
        duplicates: Groups of episodes with the same numbers or the same pictures.
    """

    path: Path
    embodiment: str
    episodes: int
    frames: int
    rate: float
    lengths: tuple[int, ...]
    checks: tuple[Check, ...]
    views: tuple[ViewHealth, ...]
    channels: tuple[ChannelHealth, ...]
    grippers: Mapping[str, tuple[float, ...]]
    tasks: Mapping[str, int]
    duplicates: tuple[tuple[int, ...], ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if check.verdict == "fail")


def check_health(
    path: Path | str, *, workers: int = 1, on_progress: Progress | None = None
) -> HealthReport:
    """Read a unified dataset whole and judge it.

    Args:
        path: The dataset.
        workers: Processes; 0 for one a core.
        on_progress: Called with (episodes done, episodes in all, name of the last).

    Raises:
        DataError: There is none, it is half written, or its metadata is damaged. A damaged
            episode is a finding, not an error.
    """
    check_engine(workers, "local")
    dataset = UnifiedDataset(path)
    findings, grippers = _look_at_all(dataset, workers, on_progress)
    lengths = tuple(episode.length for episode in dataset.episodes)
    tasks = Counter(episode.task for episode in dataset.episodes)
    return HealthReport(
        path=dataset.path,
        embodiment=dataset.meta.card.name,
        episodes=len(lengths),
        frames=dataset.num_frames,
        rate=dataset.meta.rate,
        lengths=lengths,
        checks=tuple(judge(findings)),
        views=tuple(_views(findings)),
        channels=tuple(_channels(findings)),
        grippers={
            name: tuple((counts / max(1, counts.sum())).tolist())
            for name, counts in grippers.items()
        },
        tasks=dict(tasks.most_common(10)),
        duplicates=findings.duplicates,
    )


def _look_at_all(
    dataset: UnifiedDataset, workers: int, on_progress: Progress | None
) -> tuple[Findings, dict[str, np.ndarray]]:
    """The findings, and the grippers' histograms; what adds up is added up as it comes."""
    episodes: list[EpisodeHealth] = []
    low: dict[str, np.ndarray] = {}
    high: dict[str, np.ndarray] = {}
    grippers: dict[str, np.ndarray] = {}
    lags: np.ndarray | None = None
    tasks = [Look(dataset.path, episode.index) for episode in dataset.episodes]
    for found in run(look, tasks, count(workers, len(tasks))):
        for name, (least, most) in found.ranges.items():
            low[name] = np.minimum(low.get(name, least), least)
            high[name] = np.maximum(high.get(name, most), most)
        for name, counts in found.grippers.items():
            grippers[name] = grippers.get(name, np.zeros_like(counts)) + counts
        if found.lags is not None:
            lags = found.lags if lags is None else lags + found.lags
        episodes.append(replace(found, ranges={}, grippers={}, lags=None))
        if on_progress is not None:
            on_progress(len(episodes), len(tasks), f"episode {found.index}")
    episodes.sort(key=lambda episode: episode.index)
    findings = Findings(
        dataset=dataset,
        episodes=episodes,
        low=low,
        high=high,
        lags=() if lags is None else lags_of(lags),
        duplicates=duplicates_of(episodes),
    )
    return findings, grippers


def _views(findings: Findings) -> Iterator[ViewHealth]:
    for role in findings.roles:
        sharpness = [episode.views[role].sharpness for episode in findings.sound] or [0.0]
        yield ViewHealth(
            role=role,
            static=findings.share(role, "static"),
            black=findings.share(role, "black"),
            sharpness=float(np.median(sharpness)),
            softest=min(sharpness),
        )


def _channels(findings: Findings) -> Iterator[ChannelHealth]:
    card = findings.dataset.meta.card
    for feature, channels in ((STATE, card.state_channels), (ACTION, card.action_channels)):
        if feature not in findings.low:
            continue
        for column, channel in enumerate(channels):
            lag = findings.lags[column] if feature == ACTION and findings.lags else None
            yield ChannelHealth(
                feature=feature,
                name=channel.name,
                unit=channel.unit,
                low=float(findings.low[feature][column]),
                high=float(findings.high[feature][column]),
                least=channel.low if math.isfinite(channel.low) else None,
                most=channel.high if math.isfinite(channel.high) else None,
                lag=None if lag is None else lag.frames,
                correlation=None if lag is None else round(lag.correlation, 3),
            )
