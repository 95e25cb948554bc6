"""The paper's codec: flow drawn as an image, a deep-compression autoencoder, four tokens of 512."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from motus_model import CodecConfig, LatentActionCodec, WeightsError, load_codec
from motus_model.codec_trunks import TOKEN_WIDTH, TOKENS, DeepCompression, draw_flow, read_flow


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory) -> Path:
    """AutoencoderDC with random weights and the tokens of the paper's; three stages, not six."""
    from diffusers import AutoencoderDC

    torch.manual_seed(0)
    widths = (8, 16, 32)
    network = AutoencoderDC(
        latent_channels=TOKEN_WIDTH,
        attention_head_dim=8,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        encoder_out_shortcut=False,  # they want stages as wide as the tokens
        decoder_in_shortcut=False,
    )
    folder = tmp_path_factory.mktemp("dcae")
    network.save_pretrained(folder)
    return folder


@pytest.fixture
def codec(autoencoder) -> LatentActionCodec:
    torch.manual_seed(1)
    return LatentActionCodec(CodecConfig(autoencoder=str(autoencoder), hidden=32))


def flows(count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(count, 2, 6, 6, generator=generator)
    return torch.nn.functional.interpolate(coarse, (72, 64), mode="bilinear")


def test_a_drawn_flow_is_read_back():
    flow = flows()
    torch.testing.assert_close(read_flow(draw_flow(flow)), flow, atol=1e-5, rtol=1e-5)
    fast = draw_flow(100 * flow)
    assert float(fast.abs().max()) <= 1.0 + 1e-5
    torch.testing.assert_close(  # too fast to draw: slower, in the same direction
        torch.nn.functional.normalize(read_flow(fast)),
        torch.nn.functional.normalize(flow),
        atol=1e-4,
        rtol=1e-4,
    )
    torch.testing.assert_close(read_flow(draw_flow(flow) + 0.3), flow, atol=1e-4, rtol=1e-4)


def test_an_image_makes_four_tokens_of_512(autoencoder):
    network = DeepCompression.from_pretrained(str(autoencoder))
    tokens = network.encode(torch.zeros(2, 3, network.side, network.side))
    assert tokens.shape == (2, TOKENS, TOKEN_WIDTH)
    assert network.decode(tokens).shape == (2, 3, network.side, network.side)


def test_flow_goes_to_14_numbers_and_back(codec):
    flow = flows()
    mean, log_variance = codec.encode(flow)
    assert mean.shape == log_variance.shape == (4, 14)
    assert codec.decode(mean).shape == flow.shape
    assert codec.trunk.ceiling(flow).shape == flow.shape


def test_only_the_light_layers_learn(codec):
    noise = torch.randn(4, 14)
    loss = codec(flows(), torch.randn(4, 14), torch.ones(4, 14), noise)
    loss.total.mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in codec.parameters() if p.grad is not None)
    for name in ("trunk.read_tokens.2.weight", "trunk.draw_tokens.1.weight", "motion_head.weight"):
        assert float(codec.get_parameter(name).grad.abs().max()) > 0
    assert not any("autoencoder" in name for name in codec.state_dict())
    assert not any(p.requires_grad for p in codec.trunk.autoencoder.network.parameters())


def test_the_folder_names_its_autoencoder_and_loads_it_again(codec, tmp_path):
    codec.round_weights()
    codec.eval().save(tmp_path, {})
    back = load_codec(tmp_path)
    assert back.hash == codec.hash
    with torch.no_grad():
        torch.testing.assert_close(back.encode(flows())[0], codec.encode(flows())[0])


def test_an_autoencoder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="no AutoencoderDC"):
        LatentActionCodec(CodecConfig(autoencoder=str(tmp_path)))
