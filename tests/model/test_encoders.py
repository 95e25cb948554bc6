"""The small text and vision encoders, and the model around the network."""

from dataclasses import replace

import pytest
import torch

from motus_model import MODES, SIZES, Batch, MotusModel, Noise, TimeSampler
from motus_model.encoders import (
    TinyEncoderConfig,
    TinyPerception,
    WordEncoder,
    crop,
    expected_positions,
)
from motus_model.flow_matching import Drawn
from tests.model.toys import SMALLEST

CONFIG = TinyEncoderConfig(width=16, words=64, text_tokens=5, canvas=(48, 32), keypoints=4)


def test_words_are_case_and_punctuation_blind():
    words = WordEncoder(CONFIG)
    one, other = words(["Pick up, the CUBE!"]), words(["pick up the cube"])
    assert torch.equal(one.tokens, other.tokens)
    assert not torch.equal(one.tokens, words(["pick up the ball"]).tokens)


def test_words_are_padded_cut_and_masked():
    encoded = WordEncoder(CONFIG)(["lift", "a b c d e f g", ""])
    assert encoded.tokens.shape == (3, 5, 16)
    assert encoded.mask.sum(1).tolist() == [1, 5, 1]
    assert float(encoded.tokens[0, 1:].detach().abs().max()) == 0


def test_expected_positions_find_a_peak():
    heat = torch.zeros(1, 1, 5, 9)
    heat[0, 0, 0, 8] = 50.0
    torch.testing.assert_close(expected_positions(heat), torch.tensor([[1.0, -1.0]]))
    even = expected_positions(torch.zeros(1, 1, 5, 9))
    torch.testing.assert_close(even, torch.zeros(1, 2), atol=1e-6, rtol=0)


def test_crops_cover_the_canvas_without_overlap():
    canvas = torch.zeros(1, 1, 12, 8)
    for box in CONFIG.regions:
        crop(canvas, box).add_(1)
    assert torch.equal(canvas, torch.ones_like(canvas))


def test_perception_is_image_tokens_then_words():
    perception = TinyPerception(CONFIG)
    seen = perception(torch.rand(2, 3, 48, 32), ["lift the cube", "push"])
    image_tokens = seen.tokens.shape[1] - 5
    assert image_tokens >= 6
    assert seen.mask[:, :image_tokens].all()
    assert seen.mask[:, image_tokens:].sum(1).tolist() == [3, 1]


@pytest.fixture
def model() -> MotusModel:
    video = replace(SMALLEST.video, channels=8, patch=(1, 3, 2), text_width=16, text_tokens=5)
    config = replace(
        SIZES["tiny"],
        canvas=(48, 32),
        encoders=CONFIG,
        network=replace(
            SMALLEST,
            video=video,
            understanding=replace(SMALLEST.understanding, feature_width=16),
        ),
    )
    torch.manual_seed(0)
    return MotusModel(config)


def batch(actions: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.rand(2, 3, 48, 32, generator=generator),
        latents=torch.randn(2, 8, 3, 6, 4, generator=generator),
        texts=["lift the cube", "push"],
        state=torch.randn(2, 5, generator=generator),
        actions=torch.randn(2, 4, 3, generator=generator) if actions else None,
    )


def noise(of: Batch) -> Noise:
    generators = [torch.Generator().manual_seed(i) for i in range(len(of.latents))]
    return Noise.draw(of, TimeSampler("logit_normal"), generators)


def test_the_loss_has_its_two_parts_and_reaches_every_encoder(model):
    loss = model(batch(), noise(batch()))
    torch.testing.assert_close(loss.total, loss.video + loss.action)
    loss.total.mean().backward()
    # The heads of an untrained network are zero, so that only they get a gradient at first.
    assert float(model.network.action.head.weight.grad.abs().max()) > 0
    assert all(p.grad is None for p in model.frames.parameters())


def test_the_loss_without_actions(model):
    loss = model(batch(False), noise(batch(False)))
    assert float(loss.action.detach().abs().max()) == 0
    assert float(loss.video.detach().min()) > 0


def test_pure_noise_is_learnt_from_where_it_is_to_be_solved_and_not_where_it_is_held(model):
    """The official schedule draws time 1 once in 1000, and inference begins there."""
    drawn = noise(batch())
    ones = torch.ones(2)

    def loss(weight: float) -> float:
        times = Drawn(ones, ones, ones * weight, ones * weight)
        return float(model(batch(), replace(drawn, times=times)).total.detach().sum())

    assert loss(1.0) > 0
    assert loss(0.0) == 0


@pytest.mark.parametrize("mode", sorted(MODES))
def test_every_mode_from_pixels(model, mode):
    given = batch()
    result = model.sample(
        MODES[mode],
        given.images,
        given.texts,
        given.state,
        video=torch.rand(2, 3, 2, 48, 32),
        actions=given.actions,
        generator=torch.Generator().manual_seed(0),
    )
    assert result.actions.shape == (2, 4, 3)
    images = model.decode(result.video)
    assert images.shape == (2, 3, 3, 48, 32)
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
