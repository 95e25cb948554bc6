"""Pretrained encoders, end to end, on tiny random checkpoints of their own classes."""

from dataclasses import replace

import pytest
import torch

from motus_model import (
    MODES,
    PROMPT,
    SIZES,
    Batch,
    EncoderPlaces,
    MotusModel,
    Noise,
    SamplerConfig,
    TimeSampler,
    load_encoders,
)
from motus_model.official import WeightsError
from motus_model.pretrained import UMT5Text, WanFrames
from motus_model.qwen import QwenPerception, vlm_parameters
from tests.model.tiny_hub import IMAGE_ID, qwen_config, write_qwen, write_umt5, write_vae
from tests.model.toys import SMALLEST

TEXTS = ["lift the cube", "push a"]


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> EncoderPlaces:
    root = tmp_path_factory.mktemp("hub")
    umt5, qwen = write_umt5(root / "umt5"), write_qwen(root / "qwen")
    return EncoderPlaces(
        frames=f"{write_vae(root / 'wan')}:vae",
        text=str(umt5),
        tokenizer=str(umt5),
        perception=str(qwen),
    )


@pytest.fixture(scope="module")
def frames(places) -> WanFrames:
    return WanFrames.from_pretrained(places.frames)


@pytest.fixture(scope="module")
def perception(places) -> QwenPerception:
    return QwenPerception.from_pretrained(places.perception)


@pytest.fixture(scope="module")
def text(places) -> UMT5Text:
    return UMT5Text.from_pretrained(places.text, places.tokenizer, tokens=6)


def clip(frames: int) -> torch.Tensor:
    return torch.rand(1, 3, frames, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_wan_latents_are_normalised_by_its_own_constants(frames):
    from diffusers import AutoencoderKLWan

    vae: AutoencoderKLWan = frames.network
    latents = frames.encode(clip(9))
    assert latents.shape == (1, 48, 3, 2, 2)
    assert frames.latent_frames(9) == 3
    assert frames.channels == 48
    with torch.no_grad():
        raw = vae.encode(clip(9)).latent_dist.mean
    mean, std = (
        torch.tensor(v)[:, None, None, None]
        for v in (vae.config.latents_mean, vae.config.latents_std)
    )
    torch.testing.assert_close(latents, (raw - mean) / std)


def test_the_condition_frame_has_one_latent_with_and_without_a_future(frames):
    alone, whole = frames.encode(clip(9)[:, :, :1]), frames.encode(clip(9))
    torch.testing.assert_close(alone, whole[:, :, :1], atol=1e-5, rtol=0)


def test_wan_decodes_to_all_frames(frames):
    images = frames.decode(torch.randn(1, 48, 3, 2, 2))
    assert images.shape == (1, 3, 9, 32, 32)
    assert float(images.abs().max()) <= 1


def test_umt5_is_zero_after_the_text(text):
    encoded = text(TEXTS)
    assert encoded.tokens.shape == (2, 6, text.width)
    assert encoded.mask.sum(1).tolist() == [3, 2]
    assert float(encoded.tokens[~encoded.mask].abs().max()) == 0
    alone = text([TEXTS[1]])
    torch.testing.assert_close(alone.tokens[0], encoded.tokens[1], atol=1e-5, rtol=0)
    tidy = text(["  lift\tthe &amp;  cube "])
    assert torch.equal(tidy.tokens, text(["lift the & cube"]).tokens)


def test_qwen_gives_the_last_hidden_state_after_the_final_norm(perception):
    """The official code's `hidden_states[-1]`, written out with the classes of transformers."""
    image = torch.rand(1, 3, 48, 32, generator=torch.Generator().manual_seed(0))
    seen = perception(image, TEXTS[:1])
    pictures = perception.images(images=[image[0]], do_rescale=False, return_tensors="pt")
    count = int(pictures["image_grid_thw"].prod()) // 4
    assert count == 6
    prompt = PROMPT.format(image="<|image_pad|>" * count, instruction=TEXTS[0])
    ids = perception.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert int((ids == IMAGE_ID).sum()) == count
    with torch.no_grad():
        out = perception.network(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pictures["pixel_values"],
            image_grid_thw=pictures["image_grid_thw"],
            mm_token_type_ids=(ids == IMAGE_ID).int(),
            output_hidden_states=True,
        )
    torch.testing.assert_close(seen.tokens, out.hidden_states[-1], atol=1e-6, rtol=0)
    assert seen.mask.all()
    assert seen.tokens.shape[-1] == perception.width


def test_qwen_sees_the_image_and_the_words(perception):
    images = torch.rand(2, 3, 48, 32, generator=torch.Generator().manual_seed(0))
    base = perception(images[:1], ["lift the cube"])
    assert not torch.equal(base.tokens, perception(images[1:], ["lift the cube"]).tokens)
    assert not torch.equal(base.tokens, perception(images[:1], ["push the cube"]).tokens)


def test_a_batch_of_qwen_is_its_samples(perception):
    images = torch.rand(2, 3, 48, 32, generator=torch.Generator().manual_seed(0))
    both = perception(images, TEXTS)
    lengths = both.mask.sum(1).tolist()
    assert lengths[0] == lengths[1] + 1
    for row in range(2):
        alone = perception(images[row : row + 1], TEXTS[row : row + 1])
        length = alone.tokens.shape[1]
        assert length == lengths[row]
        torch.testing.assert_close(both.tokens[row, :length], alone.tokens[0], atol=1e-5, rtol=0)


def test_the_prompt_of_qwens_own_template():
    """Image, then text, then the model's turn: the form that official Motus is trained with."""
    assert PROMPT.format(image="<|image_pad|>", instruction="lift the cube") == (
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>lift the cube<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_parameters_of_the_papers_vlm():
    assert vlm_parameters() == 2_127_532_032


def test_parameters_are_counted_as_transformers_has_them():
    from transformers import Qwen3VLModel

    config = qwen_config()
    assert vlm_parameters(config.to_dict()) == sum(
        p.numel() for p in Qwen3VLModel(config).parameters()
    )


@pytest.fixture(scope="module")
def model(places) -> MotusModel:
    video = replace(SMALLEST.video, channels=48, patch=(1, 2, 2), text_width=24, text_tokens=6)
    config = replace(
        SIZES["motus-8b"],
        canvas=(32, 32),
        network=replace(
            SMALLEST,
            video=video,
            understanding=replace(SMALLEST.understanding, feature_width=32),
            attend_text_padding=True,
        ),
    )
    torch.manual_seed(0)
    return MotusModel(config, load_encoders(places, text_tokens=6))


@pytest.mark.parametrize("mode", sorted(MODES))
def test_every_mode_from_pixels(model, mode):
    images = torch.rand(2, 3, 32, 32)
    result = model.sample(
        MODES[mode],
        images,
        TEXTS,
        torch.randn(2, 5),
        video=torch.rand(2, 3, 8, 32, 32),
        actions=torch.randn(2, 4, 3),
        config=SamplerConfig(video_steps=1, action_steps=2),
        generator=torch.Generator().manual_seed(0),
    )
    assert result.video.shape == (2, 48, 3, 2, 2)
    assert result.actions.shape == (2, 4, 3)
    assert torch.isfinite(result.actions).all()


def test_training_moves_the_experts_and_leaves_the_encoders(model):
    images = torch.rand(2, 3, 32, 32)
    batch = Batch(
        images=images,
        latents=model.frames.encode(torch.rand(2, 3, 9, 32, 32) * 2 - 1),
        texts=TEXTS,
        state=torch.randn(2, 5),
        actions=torch.randn(2, 4, 3),
    )
    model.train().requires_grad_(True)
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    loss = model(batch, Noise.draw(batch, TimeSampler("logit_normal"), generators))
    loss.total.mean().backward()
    assert float(model.network.action.head.weight.grad.abs().max()) > 0
    for part in (model.frames, model.text, model.perception):
        assert not part.network.training
        assert all(not p.requires_grad and p.grad is None for p in part.network.parameters())


def test_encoders_stay_out_of_checkpoints_but_move_with_the_model(model):
    assert {key.split(".")[0] for key in model.state_dict()} == {"network"}
    assert {key.split(".")[0] for key, _ in model.named_parameters()} == {"network"}
    perception = model.perception.network
    model.double()
    assert next(perception.parameters()).dtype == torch.float64
    model.float()
    assert next(perception.parameters()).dtype == torch.float32


def test_a_wrong_place_is_named(places, tmp_path):
    with pytest.raises(WeightsError, match="no AutoencoderKLWan could be loaded from"):
        WanFrames.from_pretrained(str(tmp_path))
    with pytest.raises(WeightsError, match="no Qwen3VLModel could be loaded from"):
        QwenPerception.from_pretrained(str(tmp_path))
    with pytest.raises(WeightsError, match="no UMT5EncoderModel could be loaded from"):
        UMT5Text.from_pretrained(str(tmp_path))


def test_a_size_with_pretrained_encoders_asks_for_them():
    with pytest.raises(ValueError, match="load_encoders"):
        MotusModel(SIZES["motus-8b"])
