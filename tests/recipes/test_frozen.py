"""What frozen encoders make of a dataset: the same, kept or not."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from motus_model import SIZES, EncoderPlaces, Encoders, MotusModel, load_encoders
from motus_recipes import load_recipe
from motus_recipes.data.cache import open_cached
from motus_recipes.data.frozen import FrozenOutputs, stack
from motus_recipes.data.mixture import Row
from motus_recipes.training.checkpoints import transfer
from motus_recipes.training.objectives import PolicyObjective
from tests.model.tiny_hub import write_qwen, write_umt5, write_vae

CPU = torch.device("cpu")
MODEL = replace(SIZES["tiny"], canvas=(64, 64), window=SIZES["motus-8b"].window)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Encoders:
    root = tmp_path_factory.mktemp("hub")
    umt5 = str(write_umt5(root / "umt5"))
    vae, qwen = f"{write_vae(root / 'wan')}:vae", str(write_qwen(root / "qwen"))
    return load_encoders(EncoderPlaces(vae, umt5, umt5, qwen), text_tokens=6)


def outputs(squares: Path, encoders: Encoders, keep: int) -> FrozenOutputs:
    cached = open_cached("squares", squares, MODEL)
    return FrozenOutputs(cached, encoders, MODEL.window, keep, CPU)


def numbers(found: FrozenOutputs) -> list[torch.Tensor]:
    return [
        *(found.latents(index) for index in (0, 3, 20)),
        *(found.words(index).tokens for index in (0, 3, 20)),
        *(found.seen(index).tokens for index in (0, 3, 20)),
    ]


def test_a_clip_is_coded_as_one_and_all_is_kept_bit_for_bit(squares, pretrained):
    fly, cold, warm = (outputs(squares, pretrained, keep) for keep in (0, 10**8, 10**8))
    expected = numbers(fly)
    assert expected[0].shape == (48, 3, 4, 4)  # 9 frames in 3 latents
    assert not torch.equal(expected[0], expected[1])
    for found in (cold, warm):
        assert all(torch.equal(a, b) for a, b in zip(numbers(found), expected, strict=True))


def test_what_is_kept_is_not_computed_again(squares, pretrained, monkeypatch):
    numbers(outputs(squares, pretrained, 10**8))
    warm = outputs(squares, pretrained, 10**8)

    def fail(*_: object) -> None:
        raise AssertionError("was computed again")

    for encoder in pretrained:
        monkeypatch.setattr(encoder.network, "forward", fail)
    monkeypatch.setattr(pretrained.frames.network, "encode", fail)
    numbers(warm)


def test_another_encoder_has_other_entries(squares, pretrained):
    before = numbers(outputs(squares, pretrained, 10**8))
    weight = next(iter(pretrained.frames.network.encoder.parameters()))
    kept = weight.detach().clone()
    weight.add_(0.1)
    try:
        after = numbers(outputs(squares, pretrained, 10**8))
    finally:
        weight.copy_(kept)
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[3], after[3])  # the text encoder is the same


def test_small_frames_are_coded_one_by_one_and_small_encoders_train(squares):
    torch.manual_seed(0)
    model = MotusModel(MODEL)
    small = Encoders(model.frames, model.text, model.perception)
    kept, fly = (outputs(squares, small, keep) for keep in (10**8, 0))
    for index in (0, 3, 20):
        assert kept.latents(index).shape == (8, 9, 8, 8)
        torch.testing.assert_close(fly.latents(index), kept.latents(index), atol=2e-3, rtol=1e-3)
        assert kept.words(index) is None
        assert kept.seen(index) is None
    assert stack([kept.words(0), kept.words(1)]) is None


def test_a_batch_is_padded_with_zeros(pretrained):
    one, two = (pretrained.text([text]) for text in ("lift the cube", "push a"))
    trimmed = [type(e)(e.tokens[:, e.mask[0]], e.mask[:, e.mask[0]]) for e in (one, two)]
    both = stack(trimmed)
    assert both.mask.sum(1).tolist() == [3, 2]
    assert float(both.tokens[1, 2:].abs().max()) == 0
    assert torch.equal(both.tokens[0], one.tokens[0, :3])


@pytest.mark.parametrize("keep", [0, 10**8])
def test_pictures_are_coded_by_the_weights_that_a_stage_begins_with(squares, keep):
    """Those of another run may have another frame autoencoder than the one that is shipped."""
    recipe = load_recipe("stage1")
    torch.manual_seed(1)
    other = MotusModel(recipe.model).state_dict()
    objective = PolicyObjective(
        {"target": open_cached("target", squares, recipe.model)},
        recipe.model,
        recipe.spec.stages[0],
        None,
        CPU,
        begin=partial(transfer, other),
        keep=keep,
    )
    batch, _ = objective.inputs([Row("target", 1, 0, 0)], train=False)
    picture = batch.images * 2 - 1
    with torch.no_grad():
        coded = objective.module.frames.encode(picture[:, :, None])[0, :, 0]
    torch.testing.assert_close(batch.latents[0][:, 0], coded, rtol=1e-2, atol=1e-2)
    assert any(key.startswith("frames.") for key in objective.moved.loaded)
