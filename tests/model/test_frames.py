"""The frame autoencoder of size `tiny`."""

import pytest
import torch

from motus_model import FrameAutoencoder, FrameConfig


@pytest.fixture
def frames() -> FrameAutoencoder:
    torch.manual_seed(0)
    return FrameAutoencoder(FrameConfig(channels=4, widths=(8, 16))).eval()


def video(batch: int = 2, count: int = 3) -> torch.Tensor:
    return torch.rand(batch, 3, count, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_shapes(frames):
    latents = frames.encode(video())
    assert latents.shape == (2, 4, 3, 16 // frames.config.stride, 24 // frames.config.stride)
    assert frames.decode(latents).shape == video().shape


def test_every_frame_is_coded_on_its_own(frames):
    whole = frames.encode(video())
    apart = torch.cat([frames.encode(video()[:, :, i : i + 1]) for i in range(3)], dim=2)
    torch.testing.assert_close(whole, apart, atol=1e-5, rtol=0)


def test_statistics_make_unit_latents_and_change_no_image(frames):
    images = video().transpose(1, 2).flatten(0, 1)
    before = frames.decode(frames.encode(video()))
    frames.fit_statistics(images)
    latents = frames.encode(video())
    spread, mean = torch.std_mean(latents, dim=(0, 2, 3, 4))
    torch.testing.assert_close(mean, torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(spread, torch.ones(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.decode(latents), before, atol=1e-4, rtol=0)


def test_images_stay_in_range(frames):
    assert float(frames.decode(torch.randn(1, 4, 1, 4, 6) * 100).detach().abs().max()) <= 1


def test_the_loss_falls(frames):
    images = video(4, 1)[:, :, 0]
    optimizer = torch.optim.Adam(frames.train().parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(15):
        noise = torch.randn(4, *frames.noise_shape(images), generator=generator)
        parts = frames(images, noise)
        loss = parts.total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert [part.shape for part in parts] == [(4,)] * 3
    assert losses[-1] < 0.95 * losses[0]
