"""Latent actions of a step of any length: what changes in its frames, added up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from motus_recipes import load_recipe
from motus_recipes.data.cache import Cached, open_cached
from motus_recipes.data.mixture import Row
from motus_recipes.training.objectives import PolicyObjective


@pytest.fixture(scope="module")
def cached(squares: Path) -> Cached:
    """Four episodes at 10 Hz."""
    return open_cached("squares", squares, load_recipe("full").model)


@pytest.fixture(scope="module")
def values(cached: Cached) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(len(cached.first), 14)).astype(np.float32)


def test_at_the_datasets_own_rate_they_are_its_rows(cached: Cached, values: np.ndarray):
    found = cached.changes(values, 2, 5, 10.0)
    np.testing.assert_allclose(found, values[2:7], atol=1e-6)


def test_longer_steps_add_up_and_shorter_ones_share(cached: Cached, values: np.ndarray):
    pairs = values[:8].reshape(4, 2, 14).sum(1)
    np.testing.assert_allclose(cached.changes(values, 0, 4, 5.0), pairs, atol=1e-6)
    halves = np.repeat(values[:4] / 2, 2, axis=0)
    np.testing.assert_allclose(cached.changes(values, 0, 8, 20.0), halves, atol=1e-6)


@pytest.mark.parametrize("rate", [3.0, 7.5, 10.0, 24.0])
def test_nothing_is_lost_and_nothing_told_twice(cached: Cached, values: np.ndarray, rate: float):
    """However many steps: together they are the episode from there on, which then stands still."""
    last = int(cached.last[0])
    steps = cached.changes(values, 1, 60, rate)
    np.testing.assert_allclose(steps.sum(0), values[1:last].sum(0), atol=1e-5)
    assert not steps[-1].any()
    assert not cached.changes(values, last, 4, rate).any()


@pytest.mark.parametrize("rate", [10.0, 5.0])
def test_a_stage_of_latent_actions_learns_whole_steps(
    cached: Cached, values: np.ndarray, rate: float
):
    recipe = load_recipe("stage2", overrides=[f"window.action_rate={rate}"])
    data = {"target": replace(cached, latent=values)}
    objective = PolicyObjective(
        data, recipe.model, recipe.spec.stages[0], None, torch.device("cpu")
    )
    batch, _ = objective.inputs([Row("target", 1, 0, 0)], train=False)
    learnt = objective.normalizers["action"].denormalize(batch.actions[0].numpy())
    count = recipe.model.window.action_steps
    np.testing.assert_allclose(learnt, cached.changes(values, 1, count, rate), atol=1e-5)
    np.testing.assert_allclose(
        objective.normalizers["action"].std,
        values[cached.split()[0]].std(0) * 10 / rate,
        rtol=0.2,
    )
