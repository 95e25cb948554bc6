"""Closed loop: intervals, the expert in its simulator, and refusals."""

import importlib.util

import pytest

from motus_embodiments import DataError, UsageError
from motus_recipes import evaluate, wilson

has_simulator = pytest.mark.skipif(
    importlib.util.find_spec("gym_hil") is None, reason="gym-hil is not installed"
)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        # Examples of Newcombe 1998 (857-872), as the tests of the R package m-Py/propint give them
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        # statsmodels 0.15.0, proportion_confint(method="wilson")
        (0, 20, 0.0, 0.1611),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_agrees_with_published_intervals(successes, count, low, high):
    found = wilson(successes, count)
    assert found == pytest.approx((low, high), abs=1e-4)


@has_simulator
def test_the_expert_solves_the_task_and_chance_does_not():
    env = "gym-hil:PandaPickCube"
    expert = evaluate("expert", env, episodes=2)
    assert expert.rate == 1.0
    again = evaluate("expert", env, episodes=1)
    assert again.results[0].steps == expert.results[0].steps
    assert evaluate("random", env, episodes=1).rate == 0.0


def test_an_unknown_simulator_is_named():
    with pytest.raises(UsageError) as error:
        evaluate("expert", "gym-hil:PandaPickCub", episodes=1)
    assert "PandaPickCube" in (error.value.hint or "")


@has_simulator
@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_that_is_no_policy_is_named(tmp_path, workers):
    with pytest.raises(DataError) as error:
        evaluate(tmp_path, "gym-hil:PandaPickCube", episodes=2, workers=workers)
    assert str(tmp_path) in str(error.value)


def test_a_result_that_cannot_be_kept_is_told_before_the_first_episode(tmp_path, toys):
    (tmp_path / "file").touch()
    done = []
    with pytest.raises(FileExistsError):
        evaluate(
            "expert",
            "toy:Slide",
            2,
            opener=toys.crashing,
            out=tmp_path / "file" / "result.json",
            on_progress=lambda *told: done.append(told),
        )
    assert not done


def test_a_film_takes_no_others_place(tmp_path, toys):
    film, out = tmp_path / "film.mp4", tmp_path / "result.json"
    film.write_text("of years")
    told = {"opener": toys.slide, "film": film, "out": out}
    with pytest.raises(UsageError, match="exists"):
        evaluate("expert", "toy:Slide", 1, **told)
    assert film.read_text() == "of years"
    with pytest.raises(UsageError, match="something else"):
        evaluate("expert", "toy:Slide", 1, **told | {"film": tmp_path}, force=True)
    assert not out.exists()
    assert evaluate("expert", "toy:Slide", 1, **told, force=True).film == film
    assert film.stat().st_size > 1000
