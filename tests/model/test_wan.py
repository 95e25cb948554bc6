"""Our video expert alone is diffusers' Wan transformer, weights loaded from its own folder."""

import json
from dataclasses import replace

import pytest
import torch

from motus_model import Motus, MotusConfig
from motus_model.official import WeightsError
from motus_model.wan import find_wan, from_diffusers, read_wan, to_diffusers
from tests.model.toys import randomise

SIZES = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 10,
    "freq_dim": 16,
    "ffn_dim": 40,
    "num_layers": 2,
}


@pytest.fixture(scope="module")
def theirs():
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    model = WanTransformer3DModel(**SIZES)
    randomise(model)
    return model.eval()


@pytest.fixture(scope="module")
def folder(theirs, tmp_path_factory):
    place = tmp_path_factory.mktemp("wan") / "transformer"
    theirs.save_pretrained(place, max_shard_size="30KB")
    return place


def ours(folder, clean_first_frame: bool = False) -> Motus:
    config, weights, unexpected = read_wan(folder)
    assert unexpected == ()
    network = Motus(
        MotusConfig(replace(config, text_tokens=6), None, None, clean_first_frame=clean_first_frame)
    )
    network.load_state_dict(weights, strict=True)
    return network.eval()


@torch.no_grad()
def test_equal_at_the_shared_time(theirs, folder):
    generator = torch.Generator().manual_seed(1)
    video = torch.randn(2, 4, 3, 6, 8, generator=generator)
    text = torch.randn(2, 6, 10, generator=generator)
    times = torch.tensor([0.75, 0.125])
    expected = theirs(video, times * 1000, text).sample
    network = ours(folder)
    found = network(network.prepare(text), video, times).video
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_equal_with_the_clean_first_frame_of_stock_wan(theirs, folder):
    generator = torch.Generator().manual_seed(1)
    video = torch.randn(2, 4, 3, 6, 8, generator=generator)
    text = torch.randn(2, 6, 10, generator=generator)
    times = torch.tensor([0.75, 0.125])
    per_token = (times * 1000)[:, None].repeat(1, 3 * 3 * 4)
    per_token[:, : 3 * 4] = 0
    expected = theirs(video, per_token, text).sample
    network = ours(folder, clean_first_frame=True)
    found = network(network.prepare(text), video, times).video
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    shared = ours(folder)
    other = shared(shared.prepare(text), video, times).video
    assert float((other - expected).abs().max()) > 0.01


def test_every_key_there_and_back(theirs):
    for key in theirs.state_dict():
        name = from_diffusers(key)
        assert name is not None, key
        assert to_diffusers(name) == key
    assert from_diffusers("condition_embedder.image_embedder.norm1.weight") is None
    assert from_diffusers("blocks.0.attn2.add_k_proj.weight") is None
    with pytest.raises(KeyError):
        to_diffusers("nothing.weight")


def test_a_pipeline_folder_has_it_in_a_subfolder(folder, tmp_path):
    assert find_wan(folder) == folder
    assert find_wan(folder.parent) == folder
    assert find_wan(tmp_path) is None


def test_wans_own_layout_has_our_names(theirs, folder, tmp_path):
    from safetensors.torch import save_file

    _, weights, _ = read_wan(folder)
    own = {key.removeprefix("video."): value.clone() for key, value in weights.items()}
    save_file(own, tmp_path / "diffusion_pytorch_model.safetensors")
    settings = {
        "_class_name": "WanModel",
        "model_type": "ti2v",
        "dim": 24,
        "ffn_dim": 40,
        "freq_dim": 16,
        "in_dim": 4,
        "out_dim": 4,
        "num_heads": 2,
        "num_layers": 2,
        "text_len": 6,
        "text_dim": 10,
        "eps": 1e-6,
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    config, again, _ = read_wan(tmp_path)
    assert config == replace(read_wan(folder)[0], text_tokens=6)
    assert set(again) == set(weights)


@pytest.mark.parametrize(
    ("key", "value"),
    [("image_dim", 1280), ("added_kv_proj_dim", 24), ("qk_norm", None), ("cross_attn_norm", False)],
)
def test_another_kind_of_wan_is_refused_by_name(folder, tmp_path, key, value):
    settings = json.loads((folder / "config.json").read_text()) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "a.safetensors").write_bytes((next(folder.glob("*.safetensors"))).read_bytes())
    with pytest.raises(WeightsError, match=key):
        read_wan(tmp_path)


def test_damaged_folders_are_refused(folder, tmp_path):
    with pytest.raises(WeightsError, match=r"config\.json can't be read"):
        read_wan(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    with pytest.raises(WeightsError, match="no safetensors file"):
        read_wan(tmp_path)
    shard = sorted(folder.glob("*.safetensors"))[0]
    (tmp_path / shard.name).write_bytes(shard.read_bytes()[:100])
    with pytest.raises(WeightsError, match="is damaged"):
        read_wan(tmp_path)
    index = next(folder.glob("*.index.json"))
    (tmp_path / index.name).write_text(index.read_text())
    with pytest.raises(WeightsError, match="lacks"):
        read_wan(tmp_path)
