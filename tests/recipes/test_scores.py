"""Scores against values computed by hand, and all five modes on one page."""

from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from motus_embodiments import Channel, DataError, MissingError, UsageError, load_card
from motus_recipes import sample_all
from motus_recipes.evaluation import scores
from motus_recipes.evaluation.scores import nearest_turns, psnr, score_actions, score_frames

has_metrics = find_spec("torchmetrics") is not None  # whose import takes seconds
pytestmark = pytest.mark.skipif(not has_metrics, reason="the extra `metrics` is not installed")
GENERATOR = np.random.default_rng(0)
TRUTH = GENERATOR.integers(0, 256, (2, 3, 40, 64, 3)).astype(np.uint8)
GUESS = GENERATOR.integers(0, 256, TRUTH.shape).astype(np.uint8)


def channel(name: str, kind: str) -> Channel:
    unit = "m" if kind == "position" else "rad"
    return Channel(name, unit, -10.0, 10.0, kind, "left")


def test_psnr_is_the_closed_form_and_agrees_with_the_library():
    truth = np.zeros((1, 4, 4, 3), np.uint8)
    assert psnr(truth + 51, truth) == pytest.approx(10 * np.log10(25))  # 255 / 51 = 5
    from torchmetrics.functional.image import peak_signal_noise_ratio

    told = peak_signal_noise_ratio(
        torch.tensor(GUESS).float(), torch.tensor(TRUTH).float(), data_range=255.0
    )
    assert psnr(GUESS, TRUTH) == pytest.approx(float(told), abs=1e-4)


def test_ssim_of_flat_pictures_is_the_luminance_term(monkeypatch):
    # Without contrast SSIM is (2ab + c) / (aa + bb + c), c = 0.01^2 (Wang et al. 2004).
    truth = np.full((2, 3, 32, 32, 3), 51, np.uint8)
    guess = np.full_like(truth, 102)
    wanted = (2 * 0.2 * 0.4 + 1e-4) / (0.04 + 0.16 + 1e-4)
    found = score_frames(guess, truth)
    assert found.ssim == pytest.approx(wanted, abs=1e-5)
    assert found.lpips is None
    assert score_frames(TRUTH, TRUTH).ssim == pytest.approx(1.0)
    whole = score_frames(GUESS, TRUTH).ssim
    monkeypatch.setattr(scores, "BATCH", 4)  # 6 frames: batches of unlike sizes
    assert score_frames(GUESS, TRUTH).ssim == pytest.approx(whole, abs=1e-6)


def test_lpips_takes_its_backbone_from_a_file(tmp_path: Path, monkeypatch):
    from torchmetrics.functional.image import lpips
    from torchvision.models import alexnet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = alexnet(weights=None)
    path = tmp_path / "alexnet.safetensors"
    save_file({k: v for k, v in backbone.state_dict().items() if "features" in k}, path)
    # The library's own way to the number, with a backbone that is not downloaded.
    monkeypatch.setattr(lpips, "_get_tv_model_features", lambda *_: backbone.features)
    one, other = (torch.tensor(f).flatten(0, 1).permute(0, 3, 1, 2) / 255 for f in (GUESS, TRUTH))
    wanted = lpips.learned_perceptual_image_patch_similarity(one, other, "alex", normalize=True)
    monkeypatch.undo()
    assert score_frames(GUESS, TRUTH, path).lpips == pytest.approx(float(wanted), abs=1e-6)
    assert score_frames(TRUTH, TRUTH, path).lpips == pytest.approx(0, abs=1e-6)
    save_file({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(DataError, match=r"features\.0\.bias"):
        score_frames(GUESS, TRUTH, path)
    with pytest.raises(DataError):
        score_frames(GUESS, TRUTH, tmp_path / "nowhere.safetensors")


@pytest.mark.skipif(not scores._has_st_lpips(), reason="ST-LPIPS is not installed")
def test_st_lpips_is_the_librarys_own():
    from stlpips_pytorch import stlpips, utils

    metric = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    pairs = zip(GUESS.reshape(-1, 40, 64, 3), TRUTH.reshape(-1, 40, 64, 3), strict=True)
    with torch.no_grad():  # as its README has it, picture by picture
        wanted = [float(metric(utils.im2tensor(a), utils.im2tensor(b))) for a, b in pairs]
    assert score_frames(GUESS, TRUTH).st_lpips == pytest.approx(np.mean(wanted), rel=1e-4)
    assert score_frames(TRUTH, TRUTH).st_lpips == 0
    shifted = np.roll(TRUTH // 4, 1, axis=-2)
    assert score_frames(shifted, TRUTH // 4).st_lpips < score_frames(GUESS, TRUTH).st_lpips


def test_without_torchmetrics_ssim_is_left_out_and_lpips_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(scores, "find_spec", lambda _name: None)
    assert score_frames(GUESS, TRUTH).ssim is None
    with pytest.raises(MissingError) as error:
        score_frames(GUESS, TRUTH, tmp_path / "alexnet.safetensors")
    assert "metrics" in (error.value.hint or "")


def test_action_errors_are_counted_by_channel_and_step():
    truth = np.zeros((2, 3, 2))
    guess = truth.copy()
    guess[0, :, 0] = (0, 1, 2)
    guess[1, :, 0] = (0, -1, -4)
    x, y = score_actions(guess, truth, [channel("x", "position"), channel("y", "position")])
    assert (x.channel, x.unit) == ("x", "m")
    assert x.mae_by_step == (0, 1, 3)
    assert x.mse_by_step == (0, 1, 10)
    assert (x.mae, x.mse) == (pytest.approx(4 / 3), pytest.approx(11 / 3))
    assert (y.mae, y.mse) == (0, 0)


def test_a_rotation_that_changed_its_form_is_no_error():
    turns = [channel(f"r{axis}", "rotation") for axis in "xyz"]
    truth = np.array([[[np.pi - 0.01, 0.0, 0.0]]])
    guess = np.array([[[-np.pi + 0.01, 0.0, 0.0]]])  # 0.02 rad further round
    errors = score_actions(guess, truth, turns)
    assert [e.mae for e in errors] == pytest.approx([0.02, 0, 0])
    small = np.array([[[0.1, 0.0, 0.0]]])
    np.testing.assert_array_equal(nearest_turns(small, np.zeros_like(small), turns), small)
    arms = [c.name for c in load_card("franka").action_channels if c.kind == "rotation"]
    assert [name[-1] for name in arms] == ["x", "y", "z"]  # in threes, as they are taken here


class Page(HTMLParser):
    """Counts tags, and checks that what opens is closed."""

    VOID = ("meta", "img", "br", "path", "line", "polyline", "rect", "circle")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.seen: dict[str, list[dict[str, str | None]]] = {}
        self.open: list[str] = []
        self.feed(path.read_text())
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.setdefault(tag, []).append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.setdefault(tag, []).append(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_all_modes_make_one_page(squares: Path, untrained, tmp_path: Path, motus):
    policy = untrained(tmp_path / "policy", "pusht", {"head": (48, 48)})
    report = sample_all(policy, squares, 0, tmp_path / "out", steps=2)
    assert {s.mode for s in report.samples} == {"vgm", "wm", "idm", "vla", "joint"}
    for one in report.samples:
        assert (one.video is not None) == (one.film is not None)
        assert len(one.actions) == (2 if one.plot else 0)
        assert all(len(score.mae_by_step) == 8 for score in one.actions)
    page = Page(report.page)
    assert len(page.seen["video"]) == 3
    assert len(page.seen["img"]) == 3
    for tag in (*page.seen["video"], *page.seen["img"]):
        assert (tag["src"] or "").startswith("data:")
    with pytest.raises(UsageError):
        sample_all(policy, squares, 0, tmp_path / "out", steps=2)
    ran = motus("sample", policy, "--dataset", squares, "--steps", 1, "--mode", "vla", "--json")
    assert ran.code == 0
    assert len(ran.document["actions"]) == 2
    with pytest.raises(UsageError, match=r"vla\.png exists"):
        sample_all(policy, squares, 0, Path("samples"), steps=1)
