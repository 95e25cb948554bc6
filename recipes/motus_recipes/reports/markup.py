"""Pages of one HTML file: they open from disk, with films, pictures and plots inside.

Plain HTML and CSS, so that they work by keyboard, at a phone's width and without a network.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from matplotlib import rc_context
from matplotlib.figure import Figure

from motus_adapters import read_video, replacing

SHORT = 40  # letters; what is longer is broken into lines


def write_html(path: Path, title: str, sections: Sequence[str]) -> Path:
    """Write a page, whole or not at all."""
    body = "\n".join(section for section in sections if section)
    head = f"{_HEAD}<title>{escape(title)}</title></head><body><main>\n<h1>{escape(title)}</h1>\n"
    with replacing(path) as temporary:
        temporary.write_text(f"{head}{body}\n</main></body></html>\n", encoding="utf-8")
    return path


def escape(value: object) -> str:
    """Text that HTML cannot take for a tag."""
    return html.escape(str(value))


def table(rows: Sequence[Mapping[str, Any]], label: str) -> str:
    """Rows of one kind; wide ones scroll, also by keyboard."""
    if not rows:
        return ""
    head = "".join(f"<th scope='col'>{escape(key)}</th>" for key in rows[0])
    body = "".join(
        "<tr>" + "".join(_cell(escape(value)) for value in row.values()) + "</tr>" for row in rows
    )
    return (
        f"<div class='wide' tabindex='0' role='region' aria-label='{escape(label)}'>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    return f"<td class='long'>{text}</td>" if len(text) > SHORT else f"<td>{text}</td>"


def figure(content: str, caption: str) -> str:
    """Something to look at, with words below; nothing without content."""
    if not content:
        return ""
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def details(summary: str, content: str) -> str:
    """What opens when it is asked for."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def picture(image: UInt8[np.ndarray, "h w 3"], label: str) -> str:
    """A picture of few pixels, each of them seen."""
    return f"<img class='pixels' src='{_png(image)}' alt='{escape(label)}'>"


def plot_file(path: Path | None, label: str) -> str:
    """The PNG file of a plot; nothing where there is no file."""
    if path is None or not path.is_file():
        return ""
    source = f"data:image/png;base64,{_base64(path.read_bytes())}"
    return f"<img class='plot' src='{source}' alt='{escape(label)}'>"


def drawing(plot: Figure, label: str) -> str:
    """A matplotlib figure as SVG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with rc_context({"svg.hashsalt": "motus"}):
        plot.savefig(buffer, format="svg", metadata={"Date": None})
    source = f"data:image/svg+xml;base64,{_base64(buffer.getvalue())}"
    return f"<img class='plot' src='{source}' alt='{escape(label)}'>"


def film(path: Path | None, label: str) -> str:
    """An mp4 with controls, its first frame until it plays; nothing where there is no file.

    Raises:
        DataError: The file cannot be decoded.
    """
    if path is None or not path.is_file():
        return ""
    first = next(read_video(path, count=1))
    options = f"controls loop muted playsinline aria-label='{escape(label)}' poster='{_png(first)}'"
    source = f"data:video/mp4;base64,{_base64(path.read_bytes())}"
    return f"<video {options} src='{source}'></video>"


def _png(image: UInt8[np.ndarray, "h w 3"]) -> str:
    data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
    return f"data:image/png;base64,{_base64(data)}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: #222; background: #fafafa;
  overflow-wrap: break-word }
main { max-width: 60rem; margin: auto; padding: 1rem }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.5rem }
.big { font-size: 3rem; line-height: 1.2; margin: 0 }
.big small { font-size: 1rem; display: inline-block }
img, video { max-width: 100% } .plot, video { width: 27rem }
.pixels, video { image-rendering: pixelated }
figure { display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; max-width: 100% }
figcaption { font-size: .85rem; color: #444 }
.wide { overflow-x: auto; background: /* a shadow at the end that has more, covered at the end */
  linear-gradient(90deg, #fafafa 50%, #fafafa00) 0 0 / 2rem 100% no-repeat local,
  linear-gradient(270deg, #fafafa 50%, #fafafa00) 100% 0 / 2rem 100% no-repeat local,
  linear-gradient(90deg, #0003, #0000) 0 0 / .8rem 100% no-repeat scroll,
  linear-gradient(270deg, #0003, #0000) 100% 0 / .8rem 100% no-repeat scroll }
:focus-visible { outline: 3px solid #1864ab }
table { border-collapse: collapse } th, td { padding: .2rem .8rem; text-align: left }
th, td { vertical-align: top; white-space: nowrap }
.long { white-space: normal; min-width: 16rem; overflow-wrap: anywhere }
tbody tr { border-top: 1px solid #ddd } details { margin: .7rem 0 }
summary { cursor: pointer; padding-left: 1.2rem; text-indent: -1.2rem }
</style>
"""
