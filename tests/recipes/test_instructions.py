"""Two instructions that are one to the network are told before they are learnt as one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from motus_recipes import load_recipe
from motus_recipes.data.cache import Cached, open_cached
from motus_recipes.training.objectives import PolicyObjective

LONG = "take the small red block from the left and put it into the"  # 13 words


@pytest.fixture(scope="module")
def cached(squares: Path) -> Cached:
    return open_cached("squares", squares, load_recipe("full").model)


def start(*told: Cached) -> None:
    recipe = load_recipe("stage3")
    data = {str(number): cached for number, cached in enumerate(told)}
    PolicyObjective(data, recipe.model, recipe.spec.stages[0], None, torch.device("cpu"))


def say(cached: Cached, *tasks: str) -> Cached:
    count = len(cached.tasks)
    return replace(cached, tasks=tuple(tasks[i % len(tasks)] for i in range(count)))


def test_what_differs_after_the_last_word_that_is_read_is_told(cached: Cached, caplog):
    for told in (
        [say(cached, f"{LONG} box", f"{LONG} bin")],
        [say(cached, f"{LONG} box"), say(cached, f"{LONG} bin")],
    ):
        caplog.clear()
        start(*told)
        assert f"'{LONG} bin' and '{LONG} box' for example (1 in all)" in caplog.text
        assert "it reads 12 words of each" in caplog.text


def test_other_words_and_the_same_words_written_otherwise_are_not(cached: Cached, caplog):
    start(say(cached, "push it", "pull it", LONG))
    start(say(cached, f"{LONG} box", f"{LONG} Box."))
    assert not caplog.text
