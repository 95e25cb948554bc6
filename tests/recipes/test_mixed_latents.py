"""A stage learns latent actions of one codec and flow estimator, or native ones of one robot."""

import shutil
from dataclasses import replace

import pytest
import torch

from motus_adapters import label_dataset
from motus_embodiments import MismatchError, load_card, save_card
from motus_model import CodecConfig, LatentActionCodec
from motus_recipes import load_recipe, train
from motus_recipes.data.sources import find_datasets


@pytest.fixture(scope="module")
def codecs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("codecs")
    for seed in (0, 1):
        torch.manual_seed(seed)
        codec = LatentActionCodec(CodecConfig(widths=(4, 4, 4), hidden=8))
        codec.save(folder / str(seed), {})
    return folder / "0", folder / "1"


@pytest.fixture(scope="module")
def latents(squares, tmp_path_factory, codecs):
    """A dataset with latents of the first codec."""
    path = tmp_path_factory.mktemp("latents") / "squares"
    shutil.copytree(squares, path)
    label_dataset(path, codecs[0])
    return path


@pytest.fixture
def labelled(latents, tmp_path):
    """Two such datasets."""
    paths = {name: tmp_path / name for name in ("first", "second")}
    for path in paths.values():
        shutil.copytree(latents, path)
    return paths


def recipe_of(*stages, **datasets):
    """A recipe of the shipped one's stages, each given (objective, action, sources)."""
    shipped = load_recipe("full")
    spec = shipped.spec
    like = next(stage for stage in spec.stages if stage.objective == "motus")
    dataset = next(iter(spec.datasets.values())).model_copy(update={"level": 6, "path": None})
    made = tuple(
        like.model_copy(
            update={
                "name": f"s{i}",
                "objective": objective,
                "action": action,
                "sources": dict.fromkeys(sources, 1.0),
            }
        )
        for i, (objective, action, sources) in enumerate(stages)
    )
    changes = {"stages": made, "datasets": dict.fromkeys(datasets, dataset)}
    return replace(shipped, spec=spec.model_copy(update=changes))


LATENT = ("motus", "latent", ("first", "second"))


def test_latents_of_one_codec_are_learnt_from(labelled):
    assert find_datasets(recipe_of(LATENT, **labelled), labelled)[0] == labelled


@pytest.mark.parametrize(
    "stages", [[LATENT], [("motus", "latent", ("first",)), ("motus", "latent", ("second",))]]
)
@pytest.mark.parametrize("change", [{"codec": 1}, {"flow": "dis+still"}])
def test_latents_of_two_are_refused_before_anything_is_written(
    labelled, codecs, tmp_path, stages, change
):
    codec = codecs[change.get("codec", 0)]
    label_dataset(labelled["second"], codec, flow=change.get("flow", "dis"), force=True)
    recipe = recipe_of(*stages, **labelled)
    with pytest.raises(
        MismatchError, match=r"two codecs or flows: 'first' of .* 'second' of"
    ) as told:
        train(recipe, run=tmp_path / "run", data=labelled)
    assert "motus label" in told.value.hint
    assert not (tmp_path / "run").exists()


def test_a_codec_of_the_recipes_own_labels_all_and_native_actions_need_none(labelled, codecs):
    label_dataset(labelled["second"], codecs[1], force=True)
    for stages in (
        [("codec", "none", ("first", "second")), LATENT],
        [("motus", "native", ("first", "second"))],
        [("motus", "latent", ("first",)), ("motus", "native", ("first", "second"))],
    ):
        assert find_datasets(recipe_of(*stages, **labelled), labelled)[0] == labelled


def test_native_actions_of_two_robots_are_refused_where_their_numbers_are_as_many(
    squares, tmp_path, monkeypatch, write
):
    monkeypatch.chdir(tmp_path)
    pusht = load_card("pusht")
    save_card(pusht.model_copy(update={"name": "pusher"}), tmp_path / "embodiments")
    data = {"first": squares, "second": write(tmp_path / "other", episodes=2, card="pusher")}
    recipe = recipe_of(("motus", "latent", data), ("motus", "native", data), **data)
    with pytest.raises(MismatchError, match=r"'s1' .*: card pusht of 'first', pusher of 'second'"):
        train(recipe, run=tmp_path / "run", data=data, dry_run=True)
    alone = recipe_of(("motus", "native", ("first",)), ("motus", "native", ("second",)), **data)
    assert find_datasets(alone, data)[0] == data
    relative = pusht.action.model_copy(update={"relative": not pusht.action.relative})
    save_card(pusht.model_copy(update={"action": relative}), tmp_path / "embodiments")
    data["second"] = write(tmp_path / "same", episodes=2)
    with pytest.raises(MismatchError, match="relative"):
        find_datasets(recipe_of(("motus", "native", data), **data), data)
