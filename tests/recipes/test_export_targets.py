"""Whose policy a run exports: its own robot's, or, from latent actions, that of an anchored one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from motus_adapters import Normalizer, Policy, UnifiedDataset, label_dataset, read_bundle
from motus_embodiments import DataError, MismatchError, UsageError, load_card
from motus_embodiments.cards import SHIPPED
from motus_recipes import export, latent_target, load_recipe, sample, train
from motus_recipes.catalogue import LIBRARY
from motus_recipes.evaluation.closed_loop import EvalReport, summarize, write_evaluation
from motus_recipes.evaluation.driving import Episode, Solving
from motus_recipes.evaluation.protocol_card import ProtocolCard

PROTOCOL = ProtocolCard(
    env="sim:Task",
    versions={},
    tasks=("Task",),
    embodiment="pusher",
    instructions=("push",),
    split="seen",
    subgoals=(),
    horizon=5,
    rate=10.0,
    rendering={},
    seeds=(0, 19),
    episodes=20,
    contract=None,
    code="",
)
FEW = {"steps": 4, "batch": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder with a recipe that ends at stage 2, and a robot of its own."""
    folder = tmp_path_factory.mktemp("work")
    recipe = yaml.safe_load((LIBRARY / "full.tiny.yaml").read_text())
    recipe["stages"] = [stage | FEW for stage in recipe["stages"][:3]]
    (folder / "latent.yaml").write_text(yaml.safe_dump(recipe | {"name": "latent"}))
    card = yaml.safe_load((SHIPPED / "pusht.yaml").read_text()) | {"name": "pusher"}
    (folder / "embodiments").mkdir()
    (folder / "embodiments" / "pusher.yaml").write_text(yaml.safe_dump(card))
    return folder


@pytest.fixture
def here(folder: Path, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(latent_target, "STEPS", 200)
    return folder


@pytest.fixture
def run(here: Path, squares: Path) -> Path:
    run = here / "runs" / "latent"
    if not run.exists():
        torch.set_num_threads(1)
        train(load_recipe("latent.yaml"), run=run, data={"target": squares})
    return run


@pytest.fixture
def anchoring(here: Path, write) -> Path:
    path = here / "anchor"
    return path if path.exists() else write(path, episodes=6, level=4, card="pusher")


def test_latent_actions_alone_are_no_policy(run: Path, tmp_path: Path):
    with pytest.raises(MismatchError) as error:
        export(run, "pusher", tmp_path / "policy")
    assert "latent actions" in str(error.value)
    assert "--anchoring" in (error.value.hint or "")
    assert not (tmp_path / "policy").exists()


def test_a_decoder_is_fitted_on_anchoring_data_alone(run: Path, anchoring: Path, tmp_path: Path):
    bundle = tmp_path / "policy"
    export(run, "pusher", bundle, anchoring=anchoring)
    policy = Policy.load(bundle)
    assert policy.card.name == "pusher"
    decoder = policy.config.decoder
    assert decoder is not None
    assert decoder.frames == sum(10 + i for i in range(5))  # the sixth episode is held out
    assert decoder.fitted_on.startswith("squares")
    assert decoder.r2 > 0.5  # where the pusher is says most of where it goes
    assert "No demonstration of this robot was seen" in (bundle / "README.md").read_text()
    agreed = json.loads((bundle / "contract.json").read_text())
    assert agreed["decoder"]["fitted_on"] == decoder.fitted_on
    picture, state = np.zeros((48, 48, 3), np.uint8), np.array([200.0, 300.0])
    actions = policy.act({"img": picture}, state, "push the block")
    assert actions.shape == (8, 2)
    assert (actions >= 0).all()
    assert (actions <= 512).all()
    with pytest.raises(UsageError, match="cannot be sampled"):
        sample(bundle, anchoring, 0, "vla", tmp_path / "samples")
    assert not (tmp_path / "samples").exists()
    again = tmp_path / "again"
    export(run, "pusher", again, anchoring=anchoring)
    assert read_bundle(again).digest == read_bundle(bundle).digest
    with pytest.raises(UsageError, match="latent actions"):
        export(run, "pusher", bundle, anchoring=anchoring, formats=["onnx"], force=True)


def test_other_data_are_refused(run: Path, anchoring: Path, squares: Path, write, tmp_path: Path):
    with pytest.raises(MismatchError, match="'pusht', the target is 'pusher'"):
        export(run, "pusher", tmp_path / "policy", anchoring=squares)
    demonstrations = write(tmp_path / "level6", episodes=2, card="pusher")
    with pytest.raises(DataError, match="level 6"):
        export(run, "pusher", tmp_path / "policy", anchoring=demonstrations)
    with pytest.raises(DataError):
        export(run, "pusher", tmp_path / "policy", anchoring=tmp_path / "nowhere")
    assert not (tmp_path / "policy").exists()


def test_anchoring_data_of_another_codec_or_flow_are_refused(write, tmp_path: Path):
    recipe = load_recipe("full").spec.model_dump(mode="json")
    recipe["stages"] = [stage for stage in recipe["stages"] if stage["name"] == "stage2"]
    (tmp_path / "run").mkdir()

    def fit(labels: dict[str, str | None]) -> dict:
        told = {"recipe": recipe, "data": dict.fromkeys(recipe["stages"][0]["sources"], labels)}
        (tmp_path / "run" / "data.json").write_text(json.dumps(told))
        return latent_target.fit_target(
            tmp_path / "run", load_card("pusht"), anchoring, Normalizer.fit(np.zeros((2, 14)))
        )[2]

    anchoring = write(tmp_path / "anchor", episodes=3, level=4)
    label_dataset(anchoring, codec="shipped", workers=1)
    meta = UnifiedDataset(anchoring).meta
    ours = {"codec": meta.codec, "flow": meta.flow}
    assert fit(ours)["frames"] > 0
    assert fit({"codec": meta.codec})["frames"] > 0  # an earlier release said no flow
    with pytest.raises(MismatchError, match=f"by {meta.flow}, .* by still"):
        fit(ours | {"flow": "still"})
    with pytest.raises(MismatchError, match=f"codec {meta.codec} .*with codec 00"):
        fit(ours | {"codec": "00"})
    with pytest.raises(MismatchError, match="with none"):
        fit({"codec": None, "flow": None})


def test_a_run_whose_codec_is_of_another_release_is_refused(
    run: Path, anchoring: Path, tmp_path: Path
):
    old = Path(shutil.copytree(run, tmp_path / "old"))
    (old / "01-codec" / "codec" / "config.json").write_text('{"sizes": {"width": 1}}')
    with pytest.raises(DataError, match="another version") as error:
        export(old, "pusher", tmp_path / "policy", anchoring=anchoring)
    assert "release" in (error.value.hint or "")
    assert not (tmp_path / "policy").exists()


def test_limits_that_were_tightened_after_training_count(tiny_run: Path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "embodiments" / "pusht.yaml"
    own.parent.mkdir()
    shipped = (SHIPPED / "pusht.yaml").read_text()
    own.write_text(shipped.replace("high: 0.512,", "high: 0.45,").replace("title:", "title: My"))
    export(tiny_run, "pusht", tmp_path / "tight")
    policy = Policy.load(tmp_path / "tight")
    policy.space.action.mean[:] = 10.0  # m, beyond either limit
    picture = np.zeros((48, 48, 3), np.uint8)
    actions = policy.act({"img": picture}, np.array([200.0, 200.0]), "push the block")
    np.testing.assert_allclose(actions, 450.0)
    own.write_text(shipped.replace("scale: 0.001,", "scale: 0.002,"))
    with pytest.raises(MismatchError, match=r"scale was 0\.001, is 0\.002") as error:
        export(tiny_run, "pusht", tmp_path / "other")
    assert "train anew" in (error.value.hint or "")
    assert not (tmp_path / "other").exists()


def test_an_evaluation_goes_into_the_card_of_its_own_weights(
    run: Path, anchoring: Path, tmp_path: Path
):
    bundle = tmp_path / "policy"
    export(run, "pusher", bundle, anchoring=anchoring)
    assert "| success | not measured |" in (bundle / "README.md").read_text()
    weights = json.loads((bundle / "contract.json").read_text())["files"]["policy.safetensors"]
    assert "| latency | not measured |" in (bundle / "README.md").read_text()
    told = summarize(
        "policy",
        [(Episode(seed, seed < 10, 5), [41.2], {}) for seed in range(20)],
        PROTOCOL,
        weights=weights,
        solving=Solving("vla", 5, 2),
    )
    file = tmp_path / "eval.json"

    def again(result: EvalReport, **options: object) -> None:
        write_evaluation(file, result)
        options |= {"anchoring": anchoring, "evaluation": file, "force": True}
        export(run, "pusher", bundle, **options)

    again(told)
    card = (bundle / "README.md").read_text()
    assert "50 % of 20 episodes in sim:Task" in card
    assert "| latency | 41 ms median, 41 ms p99, where that was measured |" in card
    Policy.load(bundle)
    with pytest.raises(MismatchError, match="other weights"):
        again(replace(told, weights="0" * 64))
    for options in ({"mode": "joint"}, {"steps": 4}, {"execute": 1}):
        with pytest.raises(MismatchError, match=r"other mode, steps or execute .*: vla, 5, 2, not"):
            again(told, **options)
    with pytest.raises(MismatchError, match="not said"):
        again(replace(told, solving=None))
    file.write_text("{}")
    with pytest.raises(DataError):
        export(run, "pusher", bundle, anchoring=anchoring, evaluation=file, force=True)
