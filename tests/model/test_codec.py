"""The latent-action codec: its start, its loss, its folder."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from motus_model import LATENT_WIDTH, CodecConfig, LatentActionCodec, load_codec
from motus_model.codec import _apart

VIEWS = ((0, 0, 16, 10), (0, 10, 16, 6))
CONFIG = CodecConfig(size=(16, 16), views=VIEWS, widths=(4, 8), hidden=16)


def flows(count: int = 96) -> Tensor:
    """Smooth flow of more directions than the latent has."""
    generator = torch.Generator().manual_seed(0)
    bases = torch.randn(24, 2, 4, 4, generator=generator)
    shapes = torch.nn.functional.interpolate(bases, (16, 16), mode="bilinear").flatten(1)
    weights = torch.randn(count, 24, generator=generator) * torch.linspace(3, 0.2, 24)
    return (weights @ shapes).view(count, 2, 16, 16)


@pytest.fixture
def codec() -> LatentActionCodec:
    torch.manual_seed(0)
    codec = LatentActionCodec(CONFIG)
    flow = flows()
    motion = torch.randn(len(flow), 14) * 3 + 1
    mask = torch.ones(len(flow), 14, dtype=torch.bool)
    mask[:, 7:] = False
    codec.fit_statistics(flow, motion, mask)
    return codec.eval()


def test_it_begins_no_worse_than_principal_components(codec):
    flow = flows()
    scaled = (flow / codec.scale).flatten(1)
    _, _, components = torch.linalg.svd(scaled, full_matrices=False)
    rest = scaled - scaled @ components[:LATENT_WIDTH].T @ components[:LATENT_WIDTH]
    with torch.no_grad():
        rebuilt = codec.decode(codec.encode(flow)[0])
    error = float(((rebuilt - flow) / codec.scale).square().mean())
    assert error <= 1.005 * float(rest.square().mean()) + 1e-9


def test_its_latents_begin_at_unit_size(codec):
    with torch.no_grad():
        latent = codec.encode(flows())[0]
    torch.testing.assert_close(
        latent.square().mean(0).sqrt(), torch.ones(LATENT_WIDTH), atol=0.05, rtol=0
    )


@pytest.mark.parametrize(("steps", "moving"), [(1, 1), (8, 8), (13, 13), (40, 5), (40, 14)])
def test_few_steps_begin_with_as_many_components(steps: int, moving: int):
    codec = LatentActionCodec(CONFIG)
    flow = torch.zeros(steps, 2, 16, 16)
    flow[:moving] = flows()[:moving]
    codec.fit_statistics(flow, torch.zeros(steps, 14), torch.zeros(steps, 14, dtype=torch.bool))
    codec.round_weights()
    assert all(value.isfinite().all() for value in codec.state_dict().values())
    with torch.no_grad():
        latent = codec.encode(flow)[0]
    assert int((latent.abs().amax(0) > 0).sum()) == min(moving, LATENT_WIDTH)
    assert float(latent.abs().max()) < 10


def test_statistics_leave_the_random_state_alone(codec):
    before = torch.random.get_rng_state()
    codec.fit_statistics(flows(), torch.zeros(96, 14), torch.zeros(96, 14, dtype=torch.bool))
    assert torch.equal(before, torch.random.get_rng_state())


def test_motion_statistics_count_what_exists(codec):
    assert float(codec.motion_size[:7].mean()) == pytest.approx(10**0.5, abs=0.4)  # std 3, mean 1
    torch.testing.assert_close(codec.motion_size[7:], torch.full((7,), 1e-4))


def test_twice_the_flow_is_twice_the_latent(codec):
    train(codec)
    flow = flows(16)
    with torch.no_grad():
        once, twice = (codec.encode(size * flow)[0] for size in (1, 2))
        back = (codec.decode(once), codec.decode(twice))
    # Exactly so but for what keeps still pictures from being blown up.
    assert float((twice - 2 * once).norm() / twice.norm()) < 0.05
    assert float((back[1] - 2 * back[0]).norm() / back[1].norm()) < 0.1


def test_the_flow_error_is_that_of_zero_flow_where_nothing_is_drawn(codec):
    flow = flows(32)
    error = codec.flow_error(torch.zeros_like(flow), flow)
    zero = flow.norm(dim=1)
    share = torch.stack([part.mean((1, 2)) for part in (zero[:, :10], zero[:, 10:])], dim=1)
    expected = (share / (0.5 * share + 0.5 * codec.usual)).mean(1)
    torch.testing.assert_close(error, expected, rtol=1e-2, atol=1e-2)
    assert float(codec.flow_error(flow, flow).max()) < 0.05


def test_views_that_show_nothing_do_not_count(codec):
    flow = flows(8)
    flow[:, :, 10:] = 0
    noise = torch.randn(8, 2, 16, 16)
    noise[:, :, :10] = 0
    assert float(codec.flow_error(flow + noise, flow).max()) < 0.05
    assert torch.equal(codec.flow_error(flow + 1, 0 * flow), torch.zeros(8))


def train(codec, steps=30):
    """So that the trunk's path is open: it begins at zero."""
    optimizer = torch.optim.AdamW(codec.parameters(), lr=3e-3)
    flow, generator = flows(64), torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad()
        noise = torch.randn(64, LATENT_WIDTH, generator=generator)
        codec(flow, torch.zeros(64, 14), torch.zeros(64, 14), noise).total.mean().backward()
        optimizer.step()


def test_training_lowers_the_flow_error(codec):
    flow = flows(64)
    with torch.no_grad():
        before = codec.flow_error(codec.decode(codec.encode(flow)[0]), flow).mean()
    train(codec)
    with torch.no_grad():
        after = codec.flow_error(codec.decode(codec.encode(flow)[0]), flow).mean()
    assert float(after) < float(before)


def test_unlabelled_samples_teach_no_motion(codec):
    flow, motion = flows(8), torch.randn(8, 14)
    loss = codec(flow, motion, torch.zeros(8, 14), torch.randn(8, 14))
    assert float(loss.motion.detach().abs().max()) == 0
    loss.total.mean().backward()
    assert float(codec.motion_head.weight.grad.abs().max()) == 0
    assert float(codec.linear_in.weight.grad.abs().max()) > 0


def test_the_loss_is_the_sum_of_its_parts(codec):
    labelled, noise = torch.ones(8, 14), torch.randn(8, 14)
    loss = codec(flows(8), torch.randn(8, 14), labelled, noise)
    expected = loss.reconstruction + loss.motion + 1e-6 * loss.kl
    torch.testing.assert_close(loss.total, expected)
    again = codec(flows(8), torch.zeros(8, 14), labelled, noise)
    assert torch.equal(loss.reconstruction, again.reconstruction)


def test_latents_of_two_looks_are_asked_to_agree(codec):
    flow, nothing, alike = flows(8), torch.zeros(8, 14), torch.full((8,), 3.0)
    twin = flow + 0.3 * flows(8).flip(0)
    alone = codec(flow, nothing, nothing, nothing)
    same = codec(flow, nothing, nothing, nothing, flow, alike)
    apart = codec(flow, nothing, nothing, nothing, twin, alike)
    assert torch.equal(same.total, alone.total)
    assert float(apart.agreement.detach().min()) > 0
    assert torch.equal(apart.reconstruction, alone.reconstruction)
    torch.testing.assert_close(apart.total, alone.total + 3 * apart.agreement)


def test_agreement_is_a_share_of_what_two_motions_are_apart():
    generator = torch.Generator().manual_seed(0)
    one, noise = torch.randn(2, 4000, LATENT_WIDTH, generator=generator)
    strangers = _apart(one, noise)
    assert float(strangers.mean()) == pytest.approx(1, abs=0.02)
    close = _apart(one, one + 0.1 * noise)
    assert float(close.mean()) == pytest.approx(0.005, rel=0.05)
    # Whatever the directions of the latent are, and however long: no loss for making one longer.
    turn = torch.linalg.qr(torch.randn(LATENT_WIDTH, LATENT_WIDTH, generator=generator))[0]
    stretch = turn * torch.linspace(1, 6, LATENT_WIDTH)
    stretched = _apart(one @ stretch, (one + 0.1 * noise) @ stretch)
    torch.testing.assert_close(stretched.mean(), close.mean(), rtol=0.02, atol=0)


@pytest.mark.parametrize(("steps", "size"), [(1, 1.0), (2, 1.0), (1, 0.0)])
def test_agreement_of_few_steps_is_finite(codec, steps, size):
    flow = flows(8)[:steps] * size
    nothing = torch.zeros(steps, 14)
    loss = codec(flow, nothing, nothing, nothing, flow * 1.1, torch.ones(steps))
    loss.total.mean().backward()
    assert torch.isfinite(loss.agreement).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in codec.parameters())


def test_flow_of_any_number_of_steps(codec):
    flow = flows(10).numpy()
    whole = codec.encode_flow(flow)
    assert whole.shape == (10, LATENT_WIDTH)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, codec.encode_flow(flow, batch=3), atol=1e-5)
    assert codec.encode_flow(flow[:0]).shape == (0, LATENT_WIDTH)


@pytest.mark.parametrize(
    ("rate", "steps", "around"),
    [
        *[(10.0, 1, 0), (20.0, 1, 0), (24.0, 1, 1), (29.97, 1, 1), (30.0, 1, 1), (50.0, 1, 2)],
        *[(60.0, 1, 2), (60.0, 2, 2), (30.0, 6, 0)],
    ],
)
def test_labels_are_averaged_over_a_tenth_of_a_second(rate, steps, around):
    codec = LatentActionCodec(replace(CONFIG, smoothing=0.1))
    latents = np.random.default_rng(0).normal(size=(7, LATENT_WIDTH)).astype(np.float32)
    reaches = np.minimum(around, [0, 1, 2, 3, 2, 1, 0])  # as many before as after
    means = [latents[at - reach : at + reach + 1].mean(0) for at, reach in enumerate(reaches)]
    np.testing.assert_allclose(codec.smooth(latents, rate, steps), means, atol=1e-6)
    assert codec.smooth(latents[:0], rate, steps).shape == (0, LATENT_WIDTH)


def test_a_codec_that_does_not_smooth_leaves_latents_as_they_are(codec):
    latents = np.random.default_rng(0).normal(size=(7, LATENT_WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(codec.smooth(latents, 50.0), latents)


def test_a_codec_that_smooths_has_another_name(codec, tmp_path):
    codec.round_weights()
    other = LatentActionCodec(replace(CONFIG, smoothing=0.1))
    other.load_state_dict(codec.state_dict())
    assert other.hash != codec.hash
    other.save(tmp_path, {})
    back = load_codec(tmp_path)
    assert back.config.smoothing == 0.1
    assert back.hash == other.hash


def test_a_saved_codec_comes_back_with_its_name(codec, tmp_path):
    codec.round_weights()  # what is stored, so that the codec in use is the one on disk
    codec.save(tmp_path, {"recipe": "test"})
    back = load_codec(tmp_path)
    assert back.hash == codec.hash
    assert json.loads((tmp_path / "config.json").read_text())["hash"] == codec.hash
    flow = flows(4)
    with torch.no_grad():
        assert torch.equal(back.encode(flow)[0], codec.encode(flow)[0])


def test_other_weights_have_another_name(codec):
    before = codec.hash
    with torch.no_grad():
        codec.motion_head.bias += 1
    assert codec.hash != before


def change_sizes(folder, change):
    """Rewrites the sizes in a saved codec's config."""
    config = json.loads((folder / "config.json").read_text())
    change(config["sizes"])
    (folder / "config.json").write_text(json.dumps(config))


def test_broken_files_are_refused(codec, tmp_path):
    with pytest.raises(FileNotFoundError):
        load_codec(tmp_path)
    codec.save(tmp_path, {})
    change_sizes(tmp_path, lambda sizes: sizes.update(hidden=8))  # the file holds 16
    with pytest.raises(ValueError, match=r"codec\.safetensors does not fit its config"):
        load_codec(tmp_path)
    codec.save(tmp_path, {})
    file = tmp_path / "codec.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(Exception, match=r"(?i)safetensor|header|incomplete|codec"):
        load_codec(tmp_path)


@pytest.mark.parametrize("seconds", ["x", -0.1, 2, float("nan")])
def test_smoothing_that_is_none_is_refused(codec, tmp_path, seconds):
    codec.save(tmp_path, {})
    change_sizes(tmp_path, lambda sizes: sizes.update(smoothing=seconds))
    with pytest.raises(ValueError, match="smoothing is"):
        load_codec(tmp_path)


def test_a_codec_from_before_smoothing_smooths_nothing(codec, tmp_path):
    codec.save(tmp_path, {})
    change_sizes(tmp_path, lambda sizes: sizes.pop("smoothing"))
    assert load_codec(tmp_path).hash == codec.hash


def test_a_folder_of_another_version_is_named(codec, tmp_path):
    codec.save(tmp_path, {})
    change_sizes(tmp_path, lambda sizes: sizes.update(depth=3))
    with pytest.raises(ValueError, match="another version of motus"):
        load_codec(tmp_path)
