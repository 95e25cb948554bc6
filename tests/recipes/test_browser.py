"""The pages in a real browser: they load, films play, plots have marks, a phone and keys will do.

Needs Chromium, found on PATH or named by MOTUS_CHROMIUM, and playwright to drive it (extra `dev`).
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from motus_recipes import report
from motus_recipes.reports.demo_page import DemoReport, Success, write_page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")
DESK, PHONE = (1280, 900), (390, 844)
PAGES = ("report", "samples", "demo")
FILMS = {"report": 3, "samples": 3, "demo": 4}
PICTURES = {"report": 9, "samples": 3, "demo": 4}


def chromium() -> str | None:
    told = os.environ.get("MOTUS_CHROMIUM")
    return told or next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium()
    if path is None:
        pytest.skip("no Chromium on PATH, and MOTUS_CHROMIUM names none")
    with sync_api.sync_playwright() as playwright:
        # As root, as in a container, Chromium runs without its sandbox only.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=path, args=options)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(
    shown_run: Path, tiny_run: Path, squares: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    samples = shown_run / "samples"
    shutil.copytree(samples, folder / "demo")
    shutil.copy(samples / "wm.mp4", folder / "demo" / "episode.mp4")
    success = Success(0.9, 0.6, 0.98, 10, untrained_rate=0.0)
    told = DemoReport(success, (), {}, {}, {}, folder, folder / "demo" / "index.html")
    return {
        "report": report([shown_run, tiny_run], folder / "report.html").page,
        "samples": samples / "index.html",
        "demo": write_page(folder / "demo", told, squares, tiny_run),
    }


class Visit:
    """A page in a window, and everything that it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int]) -> None:
        width, height = size
        self.page = browser.new_page(viewport={"width": width, "height": height})
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri(), wait_until="load")

    def run(self, script: str) -> Any:
        return self.page.evaluate(script)

    def focused(self) -> str:
        """What holds the focus, with its place among those of its kind."""
        return self.run(
            """() => {
                const at = document.activeElement;
                const like = [...document.querySelectorAll(at.tagName)];
                return at.tagName + ' ' + like.indexOf(at);
            }"""
        )


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    visits = []

    def go(path: Path, size: tuple[int, int] = DESK) -> Visit:
        visits.append(Visit(browser, path, size))
        return visits[-1]

    yield go
    for one in visits:
        one.page.close()


@pytest.mark.parametrize("size", [DESK, PHONE])
@pytest.mark.parametrize("name", PAGES)
def test_it_loads_alone_and_fits(name: str, size: tuple[int, int], pages: Any, visit: Any) -> None:
    shown = visit(pages[name], size)
    assert shown.complaints == []
    others = [url for url in shown.requests if not url.startswith("data:")]
    assert others == [pages[name].as_uri()]
    assert shown.run("document.documentElement.scrollWidth") <= size[0]
    hidden = shown.run(
        """() => [...document.querySelectorAll('img, video, h1, h2, h3, summary, figcaption')]
            .filter(e => { const b = e.getBoundingClientRect();
                           return !b.width || !b.height || b.left < 0 || b.right > innerWidth })
            .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert hidden == []


def shadows(box: Any) -> list[bool]:
    """Whether the left and the right edge of a box are dark."""
    shot = cv2.imdecode(np.frombuffer(box.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    return [bool(np.median(shot[:, column]) < 230) for column in (1, -2)]


def test_a_table_has_a_shadow_where_it_goes_on(pages: Any, visit: Any) -> None:
    box = visit(pages["report"], PHONE).page.locator(".wide").first
    assert shadows(box) == [False, True]
    box.evaluate("box => { box.scrollLeft = box.scrollWidth }")
    assert shadows(box) == [True, False]


@pytest.mark.parametrize("name", PAGES)
def test_every_film_plays(name: str, pages: Any, visit: Any) -> None:
    shown = visit(pages[name])
    times = shown.run(
        """async () => Promise.all([...document.querySelectorAll('video')].map(async film => {
            await film.play();
            const until = Date.now() + 5000;
            while (film.currentTime < 0.1 && Date.now() < until)
                await new Promise(done => setTimeout(done, 20));
            return [film.currentTime, film.videoWidth];
        }))"""
    )
    assert len(times) == FILMS[name]
    assert all(seconds >= 0.1 and width > 0 for seconds, width in times)


@pytest.mark.parametrize("name", PAGES)
def test_every_plot_has_marks(name: str, pages: Any, visit: Any) -> None:
    shown = visit(pages[name])
    # How many colours that are neither white nor grey a plot has: those of its curves.
    colours = shown.run(
        """async () => Promise.all([...document.querySelectorAll('img')].map(async plot => {
            await plot.decode();
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [plot.naturalWidth, plot.naturalHeight];
            const pen = canvas.getContext('2d');
            pen.drawImage(plot, 0, 0);
            const bytes = pen.getImageData(0, 0, canvas.width, canvas.height).data;
            let found = 0;
            for (let i = 0; i < bytes.length; i += 4)
                found += Math.max(bytes[i], bytes[i + 1], bytes[i + 2]) -
                         Math.min(bytes[i], bytes[i + 1], bytes[i + 2]) > 60;
            return [plot.alt, found];
        }))"""
    )
    assert len(colours) == PICTURES[name]
    blank = [label for label, found in colours if found < 20]
    assert blank == []


@pytest.mark.parametrize("name", PAGES)
def test_keys_alone_reach_and_use_everything(name: str, pages: Any, visit: Any) -> None:
    shown = visit(pages[name], PHONE)
    wanted = shown.run(
        """() => ['VIDEO', 'SUMMARY', 'DIV'].flatMap(kind =>
            [...document.querySelectorAll(kind)]
                .map((e, i) => [e, kind + ' ' + i])
                .filter(([e]) => kind !== 'DIV' || e.tabIndex === 0)
                .filter(([e]) => e.tagName === 'SUMMARY' || !e.closest('details:not([open])'))
                .map(([, name]) => name))"""
    )
    reached: list[str] = []
    for _ in range(20 * len(wanted)):
        shown.page.keyboard.press("Tab")
        reached.append(shown.focused())
        if not set(wanted) - set(reached):
            break
        outline = shown.run("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid" or reached[-1].startswith(("BODY", "VIDEO")), reached[-1]
    assert set(wanted) <= set(reached)
    top = [name for name in dict.fromkeys(reached) if name in wanted]
    order = shown.run(
        f"""() => {top}.map(name => {{
            const [kind, at] = name.split(' ');
            return document.querySelectorAll(kind)[at].getBoundingClientRect().top }})"""
    )
    assert order == sorted(order)  # from the top to the bottom


def test_keys_open_what_is_folded_and_play_films(pages: Any, visit: Any) -> None:
    shown = visit(pages["report"])
    fold = shown.page.locator("details").first
    for key, state in (("Enter", True), ("Space", False)):
        fold.locator("summary").focus()
        shown.page.keyboard.press(key)
        assert fold.evaluate("fold => fold.open") is state
    shown.page.locator("video").first.focus()
    shown.page.keyboard.press("Space")
    shown.page.wait_for_function("document.querySelector('video').currentTime > 0.05")
    table = shown.page.locator("div.wide", has=shown.page.locator("th", has_text="95 % interval"))
    table.focus()
    shown.page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    shown.page.keyboard.press("ArrowRight")
    shown.page.wait_for_function("document.activeElement.scrollLeft > 0")
