"""What `motus sample` found: the numbers of a mode beside what really happened."""

from dataclasses import dataclass
from pathlib import Path

from motus_recipes.evaluation.scores import ChannelScore, VideoScores

SAMPLES = "samples.json"


@dataclass(frozen=True)
class ActionScores:
    """Who gave actions, and how far they were from the recorded ones.

    Attributes:
        mae: Mean absolute error over all canonical channels, steps and windows.
        mse: Mean squared error, likewise.
        actions: Errors by channel and by step ahead.
    """

    name: str
    mae: float
    mse: float
    actions: tuple[ChannelScore, ...]


@dataclass(frozen=True)
class SampleReport:
    """What `motus sample` wrote, and how near it came.

    Attributes:
        episode: The first one, which film and plot show.
        episodes: How many were scored.
        windows: Of all these episodes.
        video: Scores of the predicted future frames; None when the mode solves no video.
        still: Of simply repeating the condition frame: what a prediction has to beat.
        action_mae: Mean absolute error over all canonical channels, steps and windows; None when
            the mode solves no actions.
        action_mse: Mean squared error, likewise.
        actions: Errors by channel and by step ahead.
        inverse_dynamics: Beside baselines, of the same windows; empty without any.
    """

    mode: str
    episode: int
    episodes: int
    windows: int
    film: Path | None
    plot: Path | None
    video: VideoScores | None
    still: VideoScores | None
    action_mae: float | None
    action_mse: float | None
    actions: tuple[ChannelScore, ...]
    inverse_dynamics: tuple[ActionScores, ...] = ()


@dataclass(frozen=True)
class SamplesReport:
    """All five modes on the same episodes.

    Attributes:
        page: Films, plots and numbers on one page.
    """

    samples: tuple[SampleReport, ...]
    page: Path
