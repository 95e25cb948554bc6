"""Sheets of simulated tasks: conditions over signals, and the shipped ones held against experts."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motus_adapters import (
    families,
    find_entry,
    open_simulator,
    simulator_names,
)
from motus_embodiments import MismatchError, UsageError
from motus_recipes import compare, evaluate
from motus_recipes.evaluation.driving import ExpertDriver, run_episode
from motus_recipes.evaluation.sheet import measure, read_sheets, sheet_for, subgoals_of

ENV = "toy:Slide"
NUMBERS = st.floats(-1e3, 1e3)


def sheet_of(folder: Path, subgoals: str, task: str = ENV) -> Path:
    file = folder / "sheet.yaml"
    file.write_text(f"task: {task}\nsubgoals: {subgoals}\n")
    return file


@given(NUMBERS, NUMBERS, st.sampled_from(["<", "<=", ">", ">="]))
def test_a_condition_is_a_comparison(tmp_path_factory, value, bound, sign):
    simulator: Any = SimpleNamespace(name=ENV, signals={"place": value}, success=False)
    file = sheet_of(tmp_path_factory.mktemp("s"), f"{{there: place {sign} {bound!r}}}")
    (goal,) = subgoals_of(sheet_for(ENV, file), simulator)
    assert goal.holds(measure(simulator)) == eval(f"{value!r} {sign} {bound!r}")


@pytest.mark.parametrize(
    ("place", "left", "held"),
    [
        (300, 100, {"a", "b", "c"}),
        (300, 300, {"a", "b"}),
        (0, 100, set()),
        (float("nan"), 1, set()),
    ],
)
def test_all_terms_hold_at_one_time_and_a_bare_signal_is_above_nothing(
    toys, tmp_path, place, left, held
):
    told = "{a: place, b: place > 2.5e2, c: place >= 300 and left<200}"
    goals = subgoals_of(sheet_for(ENV, sheet_of(tmp_path, told)), toys.Slide())
    measured = {"place": place, "left": left, "success": 0.0}
    assert {goal.name for goal in goals if goal.holds(measured)} == held


def test_what_was_reached_once_stays_reached(toys, tmp_path):
    sheet = sheet_for(ENV, sheet_of(tmp_path, "[left < 300, left < 200 and left > 90, success]"))
    episode, _ = run_episode(toys.Slide(), ExpertDriver(), 3, sheet)
    assert episode.success
    assert episode.reached == ("left < 300", "left < 200 and left > 90", "success")
    assert run_episode(toys.Slide(), ExpertDriver(), 3)[0] == replace(episode, reached=())


def test_a_star_makes_each_signal_a_sub_goal(toys, tmp_path):
    report = evaluate("expert", ENV, 1, opener=toys.slide, sheet=sheet_of(tmp_path, '["*"]'))
    assert report.protocol.subgoals == ("place", "left")
    assert report.partial == 1.0
    report = evaluate("expert", ENV, 1, opener=toys.slide, sheet=sheet_of(tmp_path, '["l*t"]'))
    assert report.protocol.subgoals == ("left",)


@pytest.mark.parametrize(
    ("subgoals", "named", "hint", "workers"),
    [
        ("{moved: plase > 3}", "signals of toy:Slide: place, left, success", "'place'", 1),
        ("{moved: place > 3 and risen}", "asks for 'risen'", "known: left, place, success", 2),
        ('["h*"]', "asks for 'h\\*'", "known", 1),
        ("[past the middle]", "has no condition", "SIGNAL > NUMBER", 1),
        ("{moved: place = 3}", "has no condition", "SIGNAL > NUMBER", 1),
        ("{moved: place > many}", "has no condition", "SIGNAL > NUMBER", 1),
    ],
)
def test_a_sheet_that_does_not_fit_is_refused_before_anything_runs(
    toys, tmp_path, subgoals, named, hint, workers
):
    done = []
    with pytest.raises(UsageError, match=named) as caught:
        evaluate(
            "expert",
            ENV,
            2,
            opener=toys.slide,
            workers=workers,
            sheet=sheet_of(tmp_path, subgoals),
            on_progress=lambda *told: done.append(told),
        )
    assert hint in (caught.value.hint or "")
    assert not done


def test_a_sheet_of_another_task_is_refused(tmp_path, motus):
    file = sheet_of(tmp_path, "[success]", "robosuite:Lift-*")
    ran = motus("eval", "expert", "--env", "gym-pusht:PushT", "--sheet", file)
    assert ran.code == 2
    assert "no sheet for gym-pusht:PushT, but for robosuite:Lift-*" in ran.err
    assert motus("eval", "expert", "--env", "gym-pusht:PushT", "--sheet", "no.yaml").code == 2


def test_the_protocol_carries_the_sheet_and_unlike_sheets_are_not_compared(toys, tmp_path):
    results = [tmp_path / f"{number}.json" for number in range(3)]
    told = ("{far: place > 200}", "{far: place > 201}", "{far:   place > 200}  # a remark")
    cards = [
        evaluate(
            "expert", ENV, 1, opener=toys.slide, sheet=sheet_of(tmp_path, text), out=file
        ).protocol
        for file, text in zip(results, told, strict=True)
    ]
    assert cards[0].subgoals == ("far: place > 200",)
    assert cards[0].sheet == cards[2].sheet != cards[1].sheet
    assert compare(results[0], results[2]).differences[0].difference == 0
    with pytest.raises(MismatchError, match=r"subgoals is far: place > 200 in the first"):
        compare(results[0], results[1])


def test_every_shipped_sheet_is_for_a_task_that_exists():
    names = list(simulator_names())
    for key in families():
        file = Path(__file__).parents[2] / f"recipes/motus_recipes/evaluation/sheets/{key}.yaml"
        for sheet in read_sheets(file):
            for pattern in sheet.task:
                assert any(find_entry(n) and sheet.covers(n) for n in names), pattern
    assert all(sheet_for(name) for name in names)


def hold_against_the_expert(name: str) -> None:
    simulator = open_simulator(name, 32)
    simulator.observe = lambda: None  # type: ignore[method-assign,assignment,return-value]
    sheet = sheet_for(name)
    try:
        simulator.reset(1)
        goals = subgoals_of(sheet, simulator)
        measured = measure(simulator)
        assert not [goal.name for goal in goals if goal.holds(measured)]
        episode, _ = run_episode(simulator, ExpertDriver(), 1, sheet)
        assert episode.success
        assert set(episode.reached) == {goal.name for goal in goals}
    finally:
        simulator.close()


@pytest.mark.parametrize(
    "name",
    [
        "gym-hil:PandaPickCube",
        "metaworld:pick-place-wall-v3",
        "metaworld:drawer-open-v3",
        "metaworld:assembly-v3",
        "robosuite:Stack-Panda",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "robosuite:Lift-UR5e",
                "robosuite:Door-Panda",
                "robosuite:NutAssembly-Panda",
                "robosuite:NutAssemblySquare-Panda",
                "robosuite:PickPlaceCan-Panda",
                "robosuite:TwoArmLift-Panda+Panda",
                "robosuite:TwoArmHandover-Panda+Panda",
                "libero:libero_10/0",
            )
        ),
    ],
)
def test_the_expert_reaches_every_sub_goal_and_none_holds_at_the_start(name, need_simulator):
    need_simulator(name)
    hold_against_the_expert(name)


@pytest.mark.slow
@pytest.mark.parametrize("task", families()["metaworld"].tasks)
def test_the_expert_reaches_every_sub_goal_of_metaworlds_tasks(task, need_simulator):
    need_simulator("metaworld:")
    hold_against_the_expert(f"metaworld:{task}")
