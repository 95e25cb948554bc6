"""The demo's page: one HTML file that opens from disk, pictures and films inside."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from motus_adapters import DisFlow, UnifiedDataset, flow_canvas

if TYPE_CHECKING:
    from motus_recipes.showcase import DemoReport

HEAD_ROWS = 48  # of the flow canvas
FRAMES = (0, 6, 12)  # of the episode whose canvas and flow are shown


def write_page(folder: Path, report: "DemoReport", dataset: Path, run: Path) -> Path:
    """Write `index.html`; everything it shows lies inside it."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _canvas_and_flow(UnifiedDataset(dataset))
    success = report.success
    sections = [
        f"<p class='big'>{success.rate:.0%} <small>of {success.episodes} unseen cube places "
        f"(95 % interval {success.low:.0%} to {success.high:.0%}); with its initial weights "
        f"{success.untrained_rate:.0%}</small></p>",
        "<h2>An episode of the exported policy</h2>" + _film(folder / "episode.mp4"),
        "<h2>Canvas and optical flow</h2><p>What the model sees, and the flow to the next frame "
        "that the latent actions are encoded from (colour: direction, strength: speed).</p>"
        + _image(pictures, "three canvases above the flow of their views"),
        "<h2>Future frames: recorded (left) and predicted (right)</h2>"
        + "".join(
            f"<figure>{_film(folder / f'{mode}.mp4')}<figcaption>{label}</figcaption></figure>"
            for mode, label in (
                ("wm", "world model: given the actions"),
                ("joint", "joint: frames and actions together"),
                ("vgm", "video generation: from picture and words alone"),
            )
        ),
        "<h2>Actions: recorded and predicted</h2>"
        + "".join(
            f"<figure>{_file(folder / f'{mode}.png', label)}"
            f"<figcaption>{label}</figcaption></figure>"
            for mode, label in (
                ("vla", "policy: from the picture and words"),
                ("idm", "inverse dynamics: from the true future frames"),
            )
        ),
        "<h2>Stages</h2>" + _table(_stage_rows(report)),
        "<h2>Latent actions, on held-out episodes</h2>" + _table(_latent_rows(report.latent)),
        "<h2>Open loop</h2>" + _table(_open_loop_rows(report.open_loop)),
        f"<p>Run folder: <code>{html.escape(str(run))}</code></p>",
    ]
    path = folder / "index.html"
    path.write_text(_HEAD + "\n".join(sections) + "</main></body></html>\n")
    return path


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
    picture: UInt8[np.ndarray, "h w 3"] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return picture


def _canvas_and_flow(dataset: UnifiedDataset) -> UInt8[np.ndarray, "h w 3"]:
    episode = dataset.episodes[-1]
    frames = list(dataset.frames(episode.index))
    columns = []
    for index in FRAMES:
        at = min(index, max(len(frames) - 2, 0))
        after = min(at + 1, len(frames) - 1)
        flow = flow_canvas(frames[at], frames[after], dataset.meta.layout, DisFlow())
        picture = flow_picture(flow)
        width = frames[at].shape[1] * 2
        canvas = cv2.resize(frames[at], None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        height = round(picture.shape[0] * width / picture.shape[1])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST)
        columns.append(np.concatenate([canvas, picture]))
    return np.concatenate(columns, axis=1)


def _stage_rows(report: "DemoReport") -> list[dict[str, Any]]:
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


def _latent_rows(latent: Mapping[str, Any]) -> list[dict[str, Any]]:
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


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{html.escape(key)}</th>" for key in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _image(picture: UInt8[np.ndarray, "h w 3"], label: str) -> str:
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return _tag(data.tobytes(), label)


def _file(path: Path, label: str) -> str:
    return _tag(path.read_bytes(), label) if path.is_file() else ""


def _tag(data: bytes, label: str) -> str:
    text = base64.b64encode(data).decode()
    return f"<img src='data:image/png;base64,{text}' alt='{html.escape(label)}'>"


def _film(path: Path) -> str:
    if not path.is_file():
        return ""
    text = base64.b64encode(path.read_bytes()).decode()
    return f"<video controls loop muted autoplay src='data:video/mp4;base64,{text}'></video>"


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Motus demo</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: #222; background: #fafafa }
main { max-width: 60rem; margin: auto; padding: 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem }
.big { font-size: 3rem; line-height: 1.2; margin: 0 } .big small { font-size: 1rem }
img, video { max-width: 100%; image-rendering: pixelated }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; max-width: 100% }
figcaption { font-size: .85rem; color: #555 }
table { border-collapse: collapse } th, td { padding: .2rem .8rem; text-align: left }
tbody tr { border-top: 1px solid #ddd }
</style></head><body><main>
<h1>A Panda picks up a cube</h1>
<p>Everything below was made by <code>motus demo</code>: a scripted expert was recorded,
anchoring data sampled, a latent-action codec and the three stages trained, and the exported
policy put back into the simulator.</p>
"""
