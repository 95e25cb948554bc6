"""What a stage may start from is looked at before anything trains."""

import json
import shutil
from pathlib import Path

import pytest

from motus_embodiments import DataError, UsageError
from motus_model import SIZES
from motus_recipes import load_recipe, train
from motus_recipes.data.sources import find_datasets
from motus_recipes.training.starting import check_starts


def starting(folder: object, stage: str = "stage3", **changes: object):
    told = [f"stages.{stage}.start={folder}", *(f"{key}={value}" for key, value in changes.items())]
    return load_recipe("full", overrides=told)


def test_another_stages_result_is_started_from(tiny_run: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("02-stage1", "04-stage3/result"):
        check_starts(starting(json.dumps(str(tiny_run / name))))
    monkeypatch.setenv("HOME", str(tiny_run))
    check_starts(starting("~/02-stage1"))


def test_what_has_no_such_network_is_refused_before_anything_trains(
    tiny_run: Path, squares: Path, tmp_path: Path
):
    shutil.copytree(tiny_run, tmp_path / "tiny")
    run = tmp_path / "run"
    recipe = starting(tmp_path / "tiny/01-codec")
    with pytest.raises(
        DataError, match=r"'stage3' .* 0 of .* tensors fit; it is of objective codec and size tiny"
    ):
        train(recipe, run=run, data={"target": squares}, dry_run=True)
    with pytest.raises(DataError, match=r"no stage can start from .*nowhere"):
        train(starting(tmp_path / "nowhere"), run=run, data={"target": squares})
    assert not run.exists()


def test_a_stage_of_another_size_is_refused(tiny_run: Path, tmp_path: Path):
    shutil.copytree(tiny_run, tmp_path / "tiny")
    recipe = starting(tmp_path / "tiny/02-stage1", size="small")
    assert recipe.model.network == SIZES["small"].network
    with pytest.raises(DataError, match="objective motus and size tiny"):
        check_starts(recipe)


def test_a_recipes_dataset_may_lie_in_the_home_folder(squares: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(squares.parent))
    recipe = load_recipe("stage3", overrides=["datasets.target.path=~/squares"])
    assert find_datasets(recipe, {})[0] == {"target": squares}


def test_a_resumed_run_tells_the_engine_that_it_went_on_with(squares: Path, tmp_path: Path):
    few, data = ["stages.stage1.steps=1", "stages.stage1.batch=2"], {"target": squares}
    for keep in (1, 3):
        recipe = load_recipe("stage1", overrides=[*few, f"engine.keep={keep}"])
        train(recipe, run=tmp_path / "run", data=data, resume=True)
        told = json.loads((tmp_path / "run/recipe.json").read_text())
        assert told["engine.keep"]["value"] == keep
        assert list(told) == list(recipe.resolved())
    with pytest.raises(UsageError, match="--resume and --force contradict"):
        train(recipe, run=tmp_path / "run", data=data, resume=True, force=True)
