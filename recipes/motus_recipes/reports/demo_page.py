"""The demo's page: one HTML file that opens from disk, pictures and films inside."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from motus_adapters import DisFlow, UnifiedDataset, flow_canvas
from motus_recipes.reports.markup import (
    escape,
    figure,
    film,
    picture,
    plot_file,
    table,
    write_html,
)
from motus_recipes.reports.mode_page import MODE_TITLES
from motus_recipes.training.stages import StageReport

HEAD_ROWS = 48  # of the flow canvas
FRAMES = (0, 6, 12)  # of the episode whose canvas and flow are shown


@dataclass(frozen=True)
class Success:
    """Closed-loop success of the exported policy, with its 95 % Wilson interval."""

    rate: float
    low: float
    high: float
    episodes: int
    untrained_rate: float


@dataclass(frozen=True)
class DemoReport:
    """The table that the demo ends with.

    Attributes:
        success: Of the exported policy, against one with its initial weights.
        stages: Losses of each stage.
        latent: Health of the latent actions, by dataset.
        open_loop: Error of the predicted actions and frames on a recorded episode, by mode.
        seconds: Wall time of each part.
        page: What a person would look at.
    """

    success: Success
    stages: tuple[StageReport, ...]
    latent: Mapping[str, Any]
    open_loop: Mapping[str, Mapping[str, Any]]
    seconds: Mapping[str, float]
    bundle: Path
    page: Path


def write_page(folder: Path, report: DemoReport, dataset: Path, run: Path) -> Path:
    """Write `index.html`; everything it shows lies inside it."""
    success, modes = report.success, MODE_TITLES.items()
    sections = [
        "<p>Everything below was made by <code>motus demo</code>: a scripted expert was recorded, "
        "anchoring data sampled, a latent-action codec and the three stages trained, and the "
        "exported policy put back into the simulator.</p>",
        f"<p class='big'>{success.rate:.0%} <small>of {success.episodes} unseen cube places "
        f"(95 % interval {success.low:.0%} to {success.high:.0%}); with its initial weights "
        f"{success.untrained_rate:.0%}</small></p>",
        "<h2>An episode of the exported policy</h2>",
        film(folder / "episode.mp4", "an episode of the exported policy"),
        "<h2>Canvas and optical flow</h2><p>What the model sees, and the flow to the next frame "
        "that the latent actions are encoded from (colour: direction, strength: speed).</p>",
        picture(
            _canvas_and_flow(UnifiedDataset(dataset)),
            "three canvases above the flow of their views",
        ),
        "<h2>Future frames: recorded (left) and predicted (right)</h2>",
        *(figure(film(folder / f"{mode}.mp4", label), label) for mode, label in modes),
        "<h2>Actions: recorded and predicted</h2>",
        *(figure(plot_file(folder / f"{mode}.png", label), label) for mode, label in modes),
        "<h2>Stages</h2>" + table(_stage_rows(report), "stages"),
        "<h2>Latent actions, on held-out episodes</h2>",
        table(latent_rows(report.latent), "latent actions"),
        "<h2>Open loop</h2>" + table(_open_loop_rows(report.open_loop), "open loop"),
        f"<p>Run folder: <code>{escape(run)}</code></p>",
    ]
    return write_html(folder / "index.html", "A Panda picks up a cube", sections)


def flow_picture(flow: Float[np.ndarray, "2 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A flow canvas as colours: hue is direction, value is speed.

    Head and wrists each reach full value at their own 99th percentile; a wrist camera sees
    everything move faster.
    """
    speed = np.linalg.norm(flow, axis=0)
    hue = (np.degrees(np.arctan2(flow[1], flow[0])) % 360) / 2  # OpenCV counts hue to 180
    value = np.empty_like(speed)
    for band in (slice(0, HEAD_ROWS), slice(HEAD_ROWS, None)):
        full = max(float(np.percentile(speed[band], 99)), 1e-6)
        value[band] = np.clip(speed[band] / full, 0, 1) * 255
    hsv = np.stack([hue, np.full_like(hue, 255), value], axis=-1).astype(np.uint8)
    colours: UInt8[np.ndarray, "h w 3"] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return colours


def _canvas_and_flow(dataset: UnifiedDataset) -> UInt8[np.ndarray, "h w 3"]:
    episode = dataset.episodes[-1]
    frames = list(dataset.frames(episode.index))
    columns = []
    for index in FRAMES:
        at = min(index, max(len(frames) - 2, 0))
        after = min(at + 1, len(frames) - 1)
        flow = flow_canvas(frames[at], frames[after], dataset.meta.layout, DisFlow())
        colours = flow_picture(flow)
        width = frames[at].shape[1] * 2
        canvas = cv2.resize(frames[at], None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        height = round(colours.shape[0] * width / colours.shape[1])
        colours = cv2.resize(colours, (width, height), interpolation=cv2.INTER_NEAREST)
        columns.append(np.concatenate([canvas, colours]))
    return np.concatenate(columns, axis=1)


def _stage_rows(report: DemoReport) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage.name,
            "steps": stage.steps,
            "first loss": f"{stage.first_loss:.4f}",
            "last loss": f"{stage.loss:.4f}",
            "held out": "" if stage.heldout_loss is None else f"{stage.heldout_loss:.4f}",
            "seconds": f"{stage.seconds:.0f}",
        }
        for stage in report.stages
    ]


def latent_rows(latent: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The health of latent actions, a row a dataset."""
    return [
        {
            "dataset": name,
            "active dimensions": f"{health['active_dimensions']} of 14",
            "flow error against zero flow": f"{health['epe_ratio']:.2f}",
            "R2 of true motion": "" if health["twist_r2"] is None else f"{health['twist_r2']:.2f}",
        }
        for name, health in latent.items()
    ]


def _open_loop_rows(open_loop: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "mode": mode,
            "frames (dB PSNR)": f"{row['video_psnr']:.1f}" if "video_psnr" in row else "",
            "standing still (dB)": f"{row['still_psnr']:.1f}" if "still_psnr" in row else "",
            "actions (mean error)": f"{row['action_mae']:.4f}" if "action_mae" in row else "",
        }
        for mode, row in open_loop.items()
    ]
