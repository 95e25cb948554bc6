"""The five modes on a page: films, action plots and how near they came."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from motus_recipes.markup import details, figure, film, picture, table

if TYPE_CHECKING:
    from motus_recipes.sampling import SampleReport
    from motus_recipes.scores import VideoScores

MODE_TITLES = {
    "vla": "policy: actions from the picture and words",
    "joint": "joint: frames and actions together",
    "wm": "world model: frames, given the actions",
    "idm": "inverse dynamics: actions from the true future frames",
    "vgm": "video generation: frames from the picture and words alone",
}


def mode_sections(samples: Sequence["SampleReport"]) -> list[str]:
    """Films, then plots, then numbers."""
    titles = {sample.mode: MODE_TITLES[sample.mode] for sample in samples}
    films = [figure(film(s.film, titles[s.mode]), titles[s.mode]) for s in samples]
    plots = [figure(picture(s.plot, titles[s.mode]), titles[s.mode]) for s in samples]
    return [
        "<h3>Future frames: recorded (left) and predicted (right)</h3>",
        *films,
        "<h3>Actions: recorded and predicted</h3>",
        *plots,
        "<h3>How near they came</h3>",
        table([_row(sample) for sample in samples], "scores of the modes"),
        *(
            details(f"{s.mode}: error of each channel", table(_channels(s), f"{s.mode} channels"))
            for s in samples
            if s.actions
        ),
    ]


def _row(sample: "SampleReport") -> dict[str, Any]:
    return {
        "mode": sample.mode,
        "PSNR (dB)": _number(sample.video, "psnr", ".1f"),
        "standing still (dB)": _number(sample.still, "psnr", ".1f"),
        "SSIM": _number(sample.video, "ssim", ".3f"),
        "standing still": _number(sample.still, "ssim", ".3f"),
        "LPIPS": _number(sample.video, "lpips", ".3f"),
        "actions (mean error)": "" if sample.action_mae is None else f"{sample.action_mae:.4f}",
    }


def _channels(sample: "SampleReport") -> list[dict[str, Any]]:
    return [
        {
            "channel": score.channel,
            "unit": score.unit,
            "MAE": f"{score.mae:.4g}",
            "MSE": f"{score.mse:.4g}",
            "MAE by step": ", ".join(f"{value:.3g}" for value in score.mae_by_step),
        }
        for score in sample.actions
    ]


def _number(scores: "VideoScores | None", name: str, form: str) -> str:
    value = getattr(scores, name, None)
    return "" if value is None else format(value, form)
