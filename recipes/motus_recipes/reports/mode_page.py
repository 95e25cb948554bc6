"""The five modes on a page: films, action plots and how near they came."""

from collections.abc import Sequence
from typing import Any

from motus_recipes.evaluation.samples import SampleReport
from motus_recipes.reports.markup import details, figure, film, plot_file, table

MODE_TITLES = {
    "vla": "policy: actions from the picture and words",
    "joint": "joint: frames and actions together",
    "wm": "world model: frames, given the actions",
    "idm": "inverse dynamics: actions from the true future frames",
    "vgm": "video generation: frames from the picture and words alone",
}


def mode_sections(samples: Sequence[tuple[str, SampleReport]]) -> list[str]:
    """Films, then plots, then numbers; what runs did in one mode stands side by side.

    Args:
        samples: Pairs of a run's name, "" where there is one only, and what it did in one mode.
    """
    rows = sorted(samples, key=lambda row: list(MODE_TITLES).index(row[1].mode))
    told = [(f"{run}: " if run else "") + MODE_TITLES[s.mode] for run, s in rows]
    films = [figure(film(s.film, t), t) for (_, s), t in zip(rows, told, strict=True)]
    plots = [figure(plot_file(s.plot, t), t) for (_, s), t in zip(rows, told, strict=True)]
    return [
        "<h3>Future frames: recorded (left) and predicted (right)</h3>",
        *films,
        "<h3>Actions: recorded and predicted</h3>",
        *plots,
        "<h3>How near they came</h3>",
        table([_row(run, sample) for run, sample in rows], "scores of the modes"),
        _part("As sets of films", [row for run, s in rows for row in _sets(run, s)]),
        _part("Inverse dynamics", [row for run, s in rows for row in _beside(run, s)]),
        *(
            details(f"{title}: error of each channel", table(_channels(s), f"channels of {title}"))
            for (_, s), title in zip(rows, told, strict=True)
            if s.actions
        ),
    ]


def _row(run: str, sample: SampleReport) -> dict[str, Any]:
    return {
        **({"run": run} if run else {}),
        "mode": sample.mode,
        "PSNR (dB)": _number(sample.video, "psnr", ".1f"),
        "standing still (dB)": _number(sample.still, "psnr", ".1f"),
        "SSIM": _number(sample.video, "ssim", ".3f"),
        "standing still": _number(sample.still, "ssim", ".3f"),
        "LPIPS": _number(sample.video, "lpips", ".3f"),
        "ST-LPIPS": _number(sample.video, "st_lpips", ".3f"),
        "actions (mean error)": "" if sample.action_mae is None else f"{sample.action_mae:.4f}",
    }


def _part(title: str, rows: list[dict[str, Any]]) -> str:
    """A table under its own heading; nothing without rows."""
    return f"<h3>{title}</h3>{table(rows, title)}" if rows else ""


def _sets(run: str, sample: SampleReport) -> list[dict[str, Any]]:
    """Frechet distances of what was predicted, and of standing still."""
    return [
        {
            **({"run": run} if run else {}),
            "mode": sample.mode,
            "films": films,
            "frames": scores.sets.frames,
            "clips": scores.sets.clips,
            "FID": _number(scores.sets, "fid", ".2f"),
            "FVD": _number(scores.sets, "fvd", ".1f"),
            "EfficientNet-Lite0, frames": _number(scores.sets, "frechet_lite0", ".2f"),
            "EfficientNet-Lite0, change": _number(scores.sets, "frechet_lite0_change", ".2f"),
        }
        for films, scores in (("predicted", sample.video), ("standing still", sample.still))
        if scores is not None and scores.sets is not None
    ]


def _beside(run: str, sample: SampleReport) -> list[dict[str, Any]]:
    """The policy's inverse dynamics and the baselines'."""
    return [
        {
            **({"run": run} if run else {}),
            "by": score.name,
            "windows": sample.windows,
            "MSE": f"{score.mse:.4g}",
            "MAE": f"{score.mae:.4g}",
        }
        for score in sample.inverse_dynamics
    ]


def _channels(sample: SampleReport) -> list[dict[str, Any]]:
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


def _number(scores: object, name: str, form: str) -> str:
    value = getattr(scores, name, None)
    return "" if value is None else format(value, form)
