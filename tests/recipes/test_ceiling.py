"""The ceiling experiment: what it reads is there, its rows differ in what they say, its page."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from motus_adapters import SHIPPED, DisFlow, compose, flow_canvas, layout_for
from motus_embodiments import load_card
from motus_model import load_codec
from motus_recipes.experiments import ceiling
from motus_recipes.experiments.ceiling import CONDITIONS, Condition, measure, page, shown
from motus_recipes.experiments.films import Amount, Film, estimated
from motus_recipes.experiments.sections import begin, write_part
from motus_recipes.health import baselines

AMOUNT = Amount(trajectories=8, frames=25)
PLAIN = CONDITIONS[0]
CODEC = load_codec(SHIPPED)


@pytest.fixture(autouse=True)
def short_lessons(monkeypatch):
    """Networks of a few updates: what they reach is not asked here."""
    monkeypatch.setattr(baselines, "UPDATES", 1)
    monkeypatch.setattr(baselines, "EPOCHS", 2)


class Told(Film):
    """A film whose flow in the wrist's view is the left hand's translation, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.card, self.folder, self.amount = load_card("aloha"), folder, AMOUNT
        rng = np.random.default_rng(0)
        shape = (AMOUNT.trajectories, AMOUNT.frames - 1, 14)
        self.motions = rng.normal(size=shape).astype(np.float32)
        self.pattern = rng.normal(size=(3, 2, 24, 32)).astype(np.float32)

    @property
    def mask(self) -> np.ndarray:
        return np.arange(14) < 7

    def motion(self, span: int) -> list[np.ndarray]:
        whole = AMOUNT.frames - span
        return [sum(m[at : at + whole] for at in range(span)) for m in self.motions]

    def read(self, name: str) -> list[np.ndarray]:
        if name == "nearness":
            return [np.ones((AMOUNT.frames - 1, 1, 72, 64), np.float32) for _ in self.motions]
        out = []
        for motion in self.motions:
            flow = np.zeros((len(motion), 2, 72, 64), np.float32)
            flow[:, :, 48:, :32] = np.einsum("ta,acyx->tcyx", motion[:, :3], self.pattern)
            out.append(flow)
        return out


def test_what_the_flow_says_is_read_and_nothing_else(tmp_path):
    found = measure(Told(tmp_path), replace(PLAIN, seeds=2), CODEC)
    assert found.columns == tuple(range(6))
    assert min(found.components[:3]) > 0.99
    assert max(found.components[3:]) < 0.2
    assert found.latent is not None
    assert min(found.latent[:3]) > 0.5 > max(found.latent[3:])
    assert len(found.network) == 2
    assert found.network[0] != found.network[1]
    assert found.steps == (6 * 24, 2 * 24)
    blind = measure(Told(tmp_path), Condition("views", "head alone", views=("head",)), CODEC)
    assert max(blind.components) < 0.2
    few = measure(Told(tmp_path), Condition("variety", "half", share=0.5), CODEC)
    assert few.steps == (3 * 24, 2 * 24)


def test_rows_show_what_they_say(tmp_path):
    film = Told(tmp_path)
    plain = shown(film, PLAIN)[0]
    assert shown(film, Condition("canvas", "half", coarse=True))[0].shape == (24, 2, 36, 32)
    assert len(shown(film, Condition("spacing", "5 Hz", span=6))[0]) == 24 - 5
    near = shown(film, Condition("depth", "near", near=True))[0]
    assert near.shape == (24, 3, 72, 64)
    np.testing.assert_array_equal(near[:, :2], plain)
    rows = np.sqrt(np.mean(np.square(np.concatenate(shown(film, PLAIN))), (0, 1, 3)))
    np.testing.assert_allclose(near[0, 2, :, 0], rows, rtol=1e-3)
    keys = [condition.key for condition in CONDITIONS]
    assert len(set(keys)) == len(keys)


def sliding(pixels: int) -> np.ndarray:
    """Seven pictures of a scene of squares that moves left by so many pixels a frame."""
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (70, 70, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return np.stack([scene[20 : 20 + 512, pixels * t : pixels * t + 512] for t in range(7)])


def test_estimated_flow_follows_a_shift():
    """Each flow that a row of the table asks for, but what is known from geometry."""
    frames = sliding(8)
    found = estimated({"head": frames})
    asked = {condition.flow for condition in CONDITIONS}
    assert {name for name in asked if not name.startswith("true")} == set(found)
    for name, flow in found.items():
        frames_apart = int(name.split()[1]) if name.endswith("frames") else 1
        wanted = -100 * 8 / 512 * frames_apart
        height = flow.shape[2] * 2 // 3
        middle = flow[0, 0, height // 4 : -height, flow.shape[3] // 4 : -flow.shape[3] // 3]
        assert np.median(middle) == pytest.approx(wanted, rel=0.1), name


def test_its_first_row_is_what_datasets_hold():
    """Wrist views are enlarged before flow is estimated, as `motus label` does."""
    frames = sliding(4)
    pictures = {"head": frames, "left_wrist": frames[:, ::-1]}
    layout = layout_for(dict.fromkeys(pictures, (512, 512)), 256)
    views = zip(*pictures.values(), strict=True)
    canvases = np.stack([compose(dict(zip(pictures, v, strict=True)), layout) for v in views])
    held = flow_canvas(canvases[:-1], canvases[1:], layout, DisFlow())
    np.testing.assert_array_equal(estimated(pictures)["dis"], held)


def test_the_page_keeps_what_stands_around(tmp_path):
    pytest.importorskip("gym_aloha")
    found = {"aloha": {c: measure(Told(tmp_path), c, CODEC) for c in (PLAIN, CONDITIONS[-1])}}
    text = page(found)
    assert text.count("| as shipped |") == 1
    assert f"| {CONDITIONS[-1].title} | network |" in text
    file = tmp_path / "results.md"
    file.write_text("# Results\n\n## Other\n\nkept\n")
    for body in ("older words", text):
        write_part(file, "me", body)
    assert file.read_text().startswith("# Results\n\n## Other\n\nkept\n\n" + begin("me"))
    assert "older words" not in file.read_text()


def test_wrong_options_and_other_films_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        ceiling.main(["--frames", "3"])
    assert caught.value.code == 2
    (tmp_path / "franka.json").write_text(json.dumps({"trajectories": 9}))
    assert ceiling.main(["--out", str(tmp_path), "--robot", "franka"]) == 1
    assert "films of 'franka' of another amount" in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_and_goes_on_where_it_was(tmp_path, capsys):
    pytest.importorskip("gym_hil")
    arguments = ["--out", str(tmp_path), "--robot", "franka", "--trajectories", "8"]
    arguments += ["--frames", "12"]
    assert ceiling.main(arguments) == 0
    table = capsys.readouterr().out
    assert table.count("franka") > 1
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert ceiling.main(arguments) == 0
    assert capsys.readouterr().out == table
    assert times == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
