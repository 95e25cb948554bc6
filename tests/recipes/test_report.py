"""A report: one page that needs nothing beside it, of runs that are done and runs that are not."""

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from motus_embodiments import DataError, UsageError
from motus_recipes import evaluate, load_recipe, report, sample_all, train
from motus_recipes.charts import POINTS, thinned

SMALL = [
    f"stages.{stage}.{key}={value}"
    for stage in ("codec", "stage1", "stage2", "stage3")
    for key, value in (("steps", 3), ("batch", 4))
]
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


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "a <b> & 'c'"
    train(load_recipe("full", overrides=SMALL), run=folder, data={"target": squares})
    return folder


@pytest.fixture
def whole(run: Path, squares: Path, untrained, tmp_path: Path, monkeypatch) -> Path:
    """A run with a result and samples, moved from where they were made."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import toy_sim

    made = tmp_path / "made"
    shutil.copytree(run, made)
    policy = untrained(tmp_path / "policy", "pusht", {"head": (48, 48)})
    out = made / "evaluations" / "expert.json"
    evaluate("expert", "toy:Slide", 3, opener=toy_sim.crashing, out=out)
    sample_all(policy, squares, 0, made / "samples", steps=1)
    return made.rename(tmp_path / "moved")


def test_two_runs_on_one_page(whole: Path, run: Path, tmp_path: Path):
    made = report([whole, run], tmp_path / "out" / "report.html")
    assert made.runs == ("moved", run.name)
    assert (made.stages, made.results, made.samples) == (4, 1, 5)
    assert len(made.missing) == 2  # of the second run
    page = Page(made.page)
    plots = [tag for tag in page.tags["img"] if tag.get("class") == "plot"]
    assert len(plots) == 4 + 1  # a loss curve a stage, and success
    for tag in plots:
        assert (tag["src"] or "").startswith("data:image/svg+xml;base64,")
    for stage, tag in zip(("codec", "stage1", "stage2", "stage3"), plots, strict=False):
        assert (tag["alt"] or "").startswith(f"loss of {stage}: moved from ")
        assert run.name in (tag["alt"] or "")
    assert len(page.tags["video"]) == 3
    text = " ".join(page.text)
    assert run.name in text  # what looks like a tag is text
    for told in ("66.7%", "FloatingPointError: the physics exploded", "toy 1", "100.0%"):
        assert told in text


def test_nothing_is_fetched_and_everything_is_reached_by_keyboard(whole: Path, tmp_path: Path):
    page = Page(report([whole], tmp_path / "report.html").page)
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


def test_the_same_runs_give_the_same_bytes(run: Path, tmp_path: Path):
    pages = [report([run], tmp_path / f"{i}.html").page.read_bytes() for i in range(2)]
    assert pages[0] == pages[1]


def test_a_run_that_is_going_on_is_shown_as_far_as_it_is(run: Path, tmp_path: Path):
    going = tmp_path / "going"
    shutil.copytree(run, going)
    (going / "run.json").unlink()
    shutil.rmtree(going / "04-stage3")
    shutil.rmtree(going / "03-stage2" / "result")
    with (going / "03-stage2" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    made = report([going], tmp_path / "report.html")
    assert made.stages == 3
    assert "loss of stage2" in made.page.read_text()


def test_wrong_input_is_named_and_leaves_no_page(run: Path, tmp_path: Path, motus):
    page = tmp_path / "report.html"
    assert motus("report", tmp_path / "nowhere").code == 4
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    metrics = damaged / "02-stage1" / "metrics.jsonl"
    metrics.write_text("nonsense\n" + metrics.read_text())
    with pytest.raises(DataError, match="line 1 is damaged"):
        report([damaged], page)
    (damaged / "data.json").write_text("{")
    with pytest.raises(DataError):
        report([damaged], page)
    assert not page.exists()
    assert motus("report", run).code == 0
    assert motus("report", run).code == 2
    with pytest.raises(UsageError):
        report([run], page)


def test_a_long_curve_is_thinned_to_means():
    steps, losses = thinned([(i, float(i % 2)) for i in range(4 * POINTS)])
    assert len(steps) == len(losses) == POINTS
    assert set(losses) == {0.5}
    assert thinned([(0, 1.0)]) == ([0.0], [1.0])
