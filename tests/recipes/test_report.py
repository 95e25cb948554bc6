"""A report: one page that needs nothing beside it, of runs that are done and runs that are not."""

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from motus_embodiments import DataError, UsageError
from motus_recipes import report
from motus_recipes.reports.charts import POINTS, latent_chart, smoothed, style, thinned

VOID = ("meta", "img")


class Page(HTMLParser):
    """What a browser would find: tags by name, headings, and whether all is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: dict[str, list[dict[str, str | None]]] = {}
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text())
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.setdefault(tag, []).append(dict(attrs))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_two_runs_on_one_page(shown_run: Path, tiny_run: Path, tmp_path: Path):
    made = report([shown_run, tiny_run], tmp_path / "out" / "report.html")
    assert made.runs == ("moved", tiny_run.name)
    assert (made.stages, made.results, made.samples) == (4, 1, 5)
    assert len(made.missing) == 2  # of the second run
    page = Page(made.page)
    plots = [tag for tag in page.tags["img"] if tag.get("class") == "plot"]
    assert len(plots) == 4 + 1 + 1 + 3  # losses, latents, success, actions in three modes
    kinds = [(tag["src"] or "").partition(";")[0] for tag in plots]
    assert kinds == ["data:image/svg+xml"] * 6 + ["data:image/png"] * 3
    for stage, tag in zip(("codec", "stage1", "stage2", "stage3"), plots, strict=False):
        assert (tag["alt"] or "").startswith(f"loss of {stage}: moved from ")
        assert tiny_run.name in (tag["alt"] or "")
    assert len(page.tags["video"]) == 3
    text = " ".join(page.text)
    assert tiny_run.name in text  # what looks like a tag is text
    for told in ("66.7%", "FloatingPointError: the physics exploded", "toy 1", "100.0%"):
        assert told in text


def test_nothing_is_fetched_and_everything_is_reached_by_keyboard(shown_run: Path, tmp_path: Path):
    page = Page(report([shown_run], tmp_path / "report.html").page)
    for name, tags in page.tags.items():
        for tag in tags:
            for key in ("src", "href", "poster", "data"):
                assert (tag.get(key) or "data:").startswith("data:"), name
    assert not {"script", "link", "iframe", "object"} & page.tags.keys()
    assert page.tags["html"][0]["lang"] == "en"
    assert any("width=device-width" in (tag.get("content") or "") for tag in page.tags["meta"])
    assert all(tag.get("alt") for tag in page.tags["img"])
    assert all("controls" in tag and tag.get("aria-label") for tag in page.tags["video"])
    scrolled = [tag for tag in page.tags["div"] if tag.get("class") == "wide"]
    assert len(scrolled) == len(page.tags["table"])
    assert all(tag["tabindex"] == "0" and tag["aria-label"] for tag in scrolled)
    assert len(page.tags["h1"]) == 1


def test_the_same_runs_give_the_same_bytes(tiny_run: Path, tmp_path: Path):
    pages = [report([tiny_run], tmp_path / f"{i}.html").page.read_bytes() for i in range(2)]
    assert pages[0] == pages[1]


def test_a_run_that_is_going_on_is_shown_as_far_as_it_is(tiny_run: Path, tmp_path: Path):
    going = tmp_path / "going"
    shutil.copytree(tiny_run, going)
    (going / "run.json").unlink()
    shutil.rmtree(going / "04-stage3")
    shutil.rmtree(going / "03-stage2" / "result")
    with (going / "03-stage2" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    made = report([going], tmp_path / "report.html")
    assert made.stages == 3
    assert "loss of stage2" in made.page.read_text()


def test_wrong_input_is_named_and_leaves_no_page(tiny_run: Path, tmp_path: Path, motus):
    page = tmp_path / "report.html"
    assert motus("report", tmp_path / "nowhere").code == 4
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_run, damaged)
    metrics = damaged / "02-stage1" / "metrics.jsonl"
    metrics.write_text("nonsense\n" + metrics.read_text())
    with pytest.raises(DataError, match="line 1 is damaged"):
        report([damaged], page)
    (damaged / "data.json").write_text("{")
    with pytest.raises(DataError):
        report([damaged], page)
    assert not page.exists()
    assert motus("report", tiny_run).code == 0
    assert motus("report", tiny_run).code == 2
    with pytest.raises(UsageError):
        report([tiny_run], page)


def test_a_long_curve_is_thinned_to_means():
    steps, losses = thinned([(i, float(i % 2)) for i in range(4 * POINTS)])
    assert len(steps) == len(losses) == POINTS
    assert set(losses) == {0.5}
    assert thinned([(0, 1.0)]) == ([0.0], [1.0])
    assert smoothed([0.0, 1.0], [3.0, 5.0]) == ([0.0, 1.0], [3.0, 5.0])
    means, flat = smoothed(steps, [i % 15 for i in range(POINTS)])
    assert len(means) == POINTS - 14
    assert flat == pytest.approx([7.0] * len(flat))


def test_six_curves_are_told_apart_by_colour_dash_and_marker():
    styles = [style(number) for number in range(36)]
    for part in zip(*styles[:6], strict=True):
        assert len(set(part)) == 6
    assert len({(colour, dash) for colour, dash, _ in styles}) == 36
    curves = latent_chart({f"data {i}": [1.0, i] for i in range(6)}).axes[0].lines
    assert len({(line.get_color(), line.get_marker()) for line in curves}) == 6
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in curves}) == 6
