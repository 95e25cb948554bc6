"""The Meta-World experiment: its parts fit together; with `-m slow` it runs."""

import json
from pathlib import Path

import pytest

from motus_adapters import find_entry
from motus_embodiments import load_card
from motus_recipes import load_recipe
from motus_recipes.experiments import costs, metaworld


def test_its_recipe_has_a_source_of_the_same_weight_for_each_task():
    spec = load_recipe(str(metaworld.RECIPE)).spec
    assert set(spec.datasets) == set(metaworld.TASKS)
    for stage in spec.stages:
        assert stage.sources == dict.fromkeys(metaworld.TASKS, 1)
    horizon = spec.window.action_steps / spec.window.action_rate
    assert metaworld.EXECUTE / load_card(metaworld.CARD).rate < horizon


def test_words_of_a_task_are_no_other_tasks_words():
    own = {task: find_entry(f"metaworld:{task}-v3").instruction for task in metaworld.TASKS}
    said = [*own.values(), *metaworld.TASKS.values()]
    assert len(said) == len(set(said))
    assert {
        "faucet-open": own["faucet-close"],
        "faucet-close": own["faucet-open"],
    } == metaworld.SWAPPED


def test_costs_add_up_over_runs_also_when_one_is_interrupted(tmp_path: Path, monkeypatch):
    clock = iter([0.0, 60.0, 100.0, 130.0])
    monkeypatch.setattr(costs, "cpu_seconds", lambda: next(clock))
    file = tmp_path / "new" / "costs.json"
    with costs.Costs(file)("train"):
        pass
    with pytest.raises(KeyboardInterrupt), costs.Costs(file)("train"):
        raise KeyboardInterrupt
    assert json.loads(file.read_text()) == {"train": 90.0}
    assert str(costs.Costs(file)) == "CPU minutes: train 1.5."


def test_a_wrong_option_is_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        metaworld.main(["--workers", "many"])
    assert caught.value.code == 2
    assert "--workers" in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_and_goes_on_where_it_was(tmp_path: Path, capsys):
    pytest.importorskip("metaworld")
    assert metaworld.main(["--out", str(tmp_path / "a"), "--quick"]) == 0
    table = capsys.readouterr().out
    assert "| faucet-open | turn the faucet on | 0 of 1 |" in table
    assert "| faucet-open | turn the faucet off | 0 of 1 |" in table
    changed = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*") if p.is_file()}
    assert metaworld.main(["--out", str(tmp_path / "a"), "--quick"]) == 0
    assert capsys.readouterr().out == table
    assert changed == {p: p.stat().st_mtime_ns for p in changed}
