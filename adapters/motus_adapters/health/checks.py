"""The questions of `motus inspect DATASET --health`, and when an answer is bad."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from motus_adapters.files import read_json
from motus_adapters.health.episode import EpisodeHealth
from motus_adapters.unified.manifest import ACTION, STATE
from motus_adapters.unified.reading import UnifiedDataset

Verdict = Literal["pass", "warn", "fail"]

_ODD = 10.0  # times longer or shorter than the median episode
_LATE = 0.5  # s; no robot follows later
_APART = 0.25  # s by which the lags of joints may differ: heavy joints follow later
_CERTAIN = 0.5  # correlation from which a lag is believed
_IDLE = 0.9  # share of rows from which an action is a copy of its state
_DRIFT = 1e-4  # s, LeRobot's own tolerance
_BLACK = 0.01  # share of black frames that is too much
_STATIC = 0.3  # share of unchanged frames that is worth a look
_SOFT = 0.2  # of the median sharpness
_SOFT_EPISODES = 3  # from which a median of sharpness means something
_STILL = 1e-6  # range of a channel that never moves


@dataclass(frozen=True)
class Check:
    """One question and its answer.

    Attributes:
        name: What was looked at.
        verdict: "pass"; "warn" for what a user should know; "fail" for what spoils training.
        found: What was found, with the worst place.
    """

    name: str
    verdict: Verdict
    found: str


@dataclass(frozen=True)
class Lag:
    """How a channel's states follow its actions.

    Attributes:
        frames: Frames from action to state; negative where the action comes after its state.
        correlation: Of the increments at that lag.
    """

    frames: int
    correlation: float


@dataclass(frozen=True)
class Findings:
    """What all checks look at.

    Attributes:
        dataset: The dataset.
        episodes: What each episode showed, in order.
        low: Feature -> smallest values [n].
        high: Feature -> largest values [n].
        lags: Lag of each action channel, None where it cannot be told; empty without actions.
        duplicates: Groups of episodes with the same numbers or pictures.
    """

    dataset: UnifiedDataset
    episodes: Sequence[EpisodeHealth]
    low: Mapping[str, np.ndarray]
    high: Mapping[str, np.ndarray]
    lags: Sequence[Lag | None]
    duplicates: tuple[tuple[int, ...], ...]

    @property
    def sound(self) -> list[EpisodeHealth]:
        """Episodes that could be read to their end."""
        return [episode for episode in self.episodes if not episode.problem]

    @property
    def roles(self) -> tuple[str, ...]:
        """Cameras on the canvas."""
        return tuple(self.dataset.meta.layout.boxes)

    def share(self, role: str, what: Literal["static", "black"]) -> float:
        """Share of a view's frames."""
        counted = sum(getattr(episode.views[role], what) for episode in self.sound)
        return counted / max(1, sum(episode.frames for episode in self.sound))


def lags_of(sums: np.ndarray) -> list[Lag | None]:
    """The lag of each channel at the peak of its cross-correlation.

    Args:
        sums: What `lag_sums` gave, added up over episodes: [3, k, n].
    """
    most = sums.shape[1] // 2
    power = np.sqrt(sums[1] * sums[2])
    correlation = np.divide(sums[0], power, out=np.zeros_like(power), where=power > _STILL**2)
    peaks = correlation.argmax(0)
    found: list[Lag | None] = []
    for channel, peak in enumerate(peaks):
        value = float(correlation[peak, channel])
        found.append(Lag(int(peak) - most, value) if value >= _CERTAIN else None)
    return found


def duplicates_of(episodes: Sequence[EpisodeHealth]) -> tuple[tuple[int, ...], ...]:
    """Groups of episodes whose numbers, or whose videos, are the same."""
    groups: dict[str, list[int]] = {}
    for episode in episodes:
        for key in {episode.numbers, episode.pictures} - {""}:
            groups.setdefault(key, []).append(episode.index)
    return tuple(sorted({tuple(group) for group in groups.values() if len(group) > 1}))


def judge(findings: Findings) -> Iterator[Check]:
    """Every check that applies to the dataset."""
    yield _files(findings)
    yield _lengths(findings)
    yield _rate(findings)
    yield _timestamps(findings)
    yield _finite(findings)
    yield _limits(findings)
    yield _still(findings)
    if findings.lags:
        yield _lag(findings)
    yield _frozen(findings)
    yield _black(findings)
    yield _static(findings)
    yield _sharpness(findings)
    yield _duplicates(findings)
    yield _language(findings)


def _files(findings: Findings) -> Check:
    bad = [episode for episode in findings.episodes if episode.problem]
    if not bad:
        return Check("files", "pass", f"all {len(findings.episodes)} episodes can be read")
    return Check("files", "fail", f"{_episodes(bad)} cannot be read: {bad[0].problem}")


def _lengths(findings: Findings) -> Check:
    lengths = np.asarray([episode.length for episode in findings.dataset.episodes])
    median = float(np.median(lengths))
    odd = np.flatnonzero((lengths * _ODD < median) | (lengths > median * _ODD))
    told = f"{lengths.min()} to {lengths.max()} frames, median {median:g}"
    if not len(odd):
        return Check("lengths", "pass", told)
    far = ", ".join(f"{i} has {lengths[i]}" for i in odd[:5])
    return Check("lengths", "warn", f"{told}; episode {far}")


def _rate(findings: Findings) -> Check:
    rate = findings.dataset.meta.rate
    stated = float(read_json(findings.dataset.path / "meta/info.json").get("fps", 0))
    if abs(stated - rate) > 1e-3 * rate:
        return Check("rate", "fail", f"info.json says {stated:g} Hz, motus.json {rate:g} Hz")
    odd = [e for e in findings.sound if abs(e.video_rate - rate) > 1e-3 * rate]
    if odd:
        found = f"the videos of {_episodes(odd)} play at {odd[0].video_rate:g} Hz, not {rate:g} Hz"
        return Check("rate", "fail", found)
    return Check("rate", "pass", f"{rate:g} Hz in metadata and videos")


def _timestamps(findings: Findings) -> Check:
    worst = max(findings.sound, key=lambda episode: episode.drift, default=None)
    if worst is None or worst.drift <= _DRIFT:
        return Check("timestamps", "pass", "frame_index / rate in every row")
    found = f"off by up to {worst.drift:.3g} s, in episode {worst.index}"
    return Check("timestamps", "fail", found)


def _finite(findings: Findings) -> Check:
    bad = [(episode, place) for episode in findings.sound for place in episode.bad]
    if not bad:
        return Check("finite", "pass", "every number is finite")
    episode, (feature, channel, frame) = bad[0]
    found = f"{feature} '{channel}' is not finite at frame {frame} of episode {episode.index}"
    more = len({e.index for e, _ in bad}) - 1
    return Check("finite", "fail", found + (f", and in {more} more episodes" if more else ""))


def _limits(findings: Findings) -> Check:
    beyond = [(e, message) for e in findings.sound for _, message in e.beyond]
    if not beyond:
        return Check("limits", "pass", f"within the limits of '{findings.dataset.meta.card.name}'")
    count = len({episode.index for episode, _ in beyond})
    found = f"{beyond[0][1]} ({count} of {len(findings.episodes)} episodes)"
    if "limits" in findings.dataset.meta.options.get("allow", ()):
        return Check("limits", "warn", f"{found}; let through by --allow limits")
    return Check("limits", "fail", found)


def _still(findings: Findings) -> Check:
    still = [
        f"{feature} '{name}'"
        for feature in (STATE, ACTION)
        if feature in findings.low
        for name, low, high in zip(
            findings.dataset.meta.channels[feature],
            findings.low[feature],
            findings.high[feature],
            strict=True,
        )
        if high - low < _STILL
    ]
    if still:
        return Check("movement", "warn", f"never moves: {_listed(still)}")
    return Check("movement", "pass", "every channel moves")


def _lag(findings: Findings) -> Check:
    rate = findings.dataset.meta.rate
    names = findings.dataset.meta.channels[ACTION]
    told = [(name, lag) for name, lag in zip(names, findings.lags, strict=True) if lag is not None]
    rows = sum(e.frames for e in findings.sound if e.idle >= 0)
    idle = sum(e.idle for e in findings.sound if e.idle >= 0)
    if rows and idle >= _IDLE * rows:
        found = f"{idle / rows:.0%} of the actions are the state of their own frame"
        return Check("lag", "fail", f"{found}: have them made from the following state")
    if not told:
        return Check("lag", "warn", "cannot be told: states do not move as actions do")
    middle = int(np.median([lag.frames for _, lag in told]))
    early = [(name, lag) for name, lag in told if lag.frames < 0]
    apart = max(3, round(_APART * rate))
    odd = [(n, lag) for n, lag in told if abs(lag.frames - middle) > apart and "gripper" not in n]
    if early:
        name, lag = min(early, key=lambda item: item[1].frames)
        late = _frames(-lag.frames)
        found = f"action '{name}' comes {late} after the state it should bring about"
        return Check("lag", "fail", f"{found} (r {lag.correlation:.2f}): shift the actions back")
    if middle > _LATE * rate:
        found = f"states follow actions by {_frames(middle)}, {middle / rate:.2g} s: a wrong shift"
        return Check("lag", "fail", found)
    wanted = findings.dataset.meta.card.action.lag
    if wanted is not None and abs(middle - wanted) > 1:
        found = f"states follow actions by {_frames(middle)}, the card says {wanted}: a wrong shift"
        return Check("lag", "fail", found)
    if odd:
        name, lag = max(odd, key=lambda item: abs(item[1].frames - middle))
        found = f"state follows action '{name}' by {lag.frames} frames, the others by {middle}"
        return Check("lag", "fail", f"{found}: a wrong shift of this channel")
    found = f"states follow actions by {_frames(middle)} ({len(told)} of {len(names)} channels)"
    return Check("lag", "pass", found)


def _frozen(findings: Findings) -> Check:
    frozen = [
        (view.frozen, role, episode.index, view.frozen_from)
        for episode in findings.sound
        for role, view in episode.views.items()
        if view.frozen
    ]
    if not frozen:
        return Check("frozen", "pass", "no view stands still while the robot moves")
    run, role, index, start = max(frozen)
    count = len({place[2] for place in frozen})
    found = f"the {role} view stands still for {run} frames while the robot moves"
    where = f"episode {index} from frame {start} ({count} of {len(findings.episodes)} episodes)"
    return Check("frozen", "fail", f"{found}: {where}")


def _black(findings: Findings) -> Check:
    dark = {role: findings.share(role, "black") for role in findings.roles}
    role = max(dark, key=dark.__getitem__)
    if dark[role] <= _BLACK:
        return Check("black", "pass", f"{dark[role]:.2%} of the frames")
    worst = max(findings.sound, key=lambda episode: episode.views[role].black)
    found = f"{dark[role]:.1%} of the {role} view's frames, most in episode {worst.index}"
    return Check("black", "fail", found)


def _static(findings: Findings) -> Check:
    shares = {role: findings.share(role, "static") for role in findings.roles}
    found = ", ".join(f"{role} {share:.1%}" for role, share in shares.items())
    verdict: Verdict = "warn" if max(shares.values()) > _STATIC else "pass"
    return Check("static", verdict, f"frames that repeat the one before: {found}")


def _sharpness(findings: Findings) -> Check:
    soft: list[str] = []
    for role in findings.roles:
        values = {e.index: e.views[role].sharpness for e in findings.sound}
        middle = float(np.median(list(values.values())))
        if len(values) >= _SOFT_EPISODES:
            low = [index for index, value in values.items() if value < _SOFT * middle]
            soft += [f"{role} view of episode {index}" for index in low]
    if soft:
        return Check("sharpness", "warn", f"less than {_SOFT:.0%} of the usual: {_listed(soft)}")
    return Check("sharpness", "pass", f"no episode below {_SOFT:.0%} of the usual")


def _duplicates(findings: Findings) -> Check:
    if not findings.duplicates:
        return Check("duplicates", "pass", "no two episodes are the same")
    groups = [" = ".join(map(str, group)) for group in findings.duplicates]
    return Check("duplicates", "fail", f"the same episode more than once: {_listed(groups)}")


def _language(findings: Findings) -> Check:
    tasks = [episode.task.strip() for episode in findings.dataset.episodes]
    told = Counter(task for task in tasks if task)
    missing = [i for i, task in enumerate(tasks) if not task]
    if not missing:
        return Check("language", "pass", f"{len(told)} instructions for {len(tasks)} episodes")
    if not told:
        return Check("language", "warn", "no episode has an instruction")
    found = f"{len(missing)} of {len(tasks)} episodes have no instruction, first {missing[0]}"
    return Check("language", "fail", found)


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"


def _episodes(episodes: Sequence[EpisodeHealth]) -> str:
    shown = ", ".join(str(episode.index) for episode in episodes[:5])
    more = f" and {len(episodes) - 5} more" if len(episodes) > 5 else ""
    return f"episode{'s' if len(episodes) > 1 else ''} {shown}{more}"


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
