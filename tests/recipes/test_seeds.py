"""Noise is drawn from seeds that no two episodes, calls or windows share."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from motus_adapters import Policy, UnifiedDataset
from motus_recipes.data.mixture import seeds
from motus_recipes.data.windows import Windows, cut
from motus_recipes.evaluation.driving import PolicyDriver
from motus_recipes.evaluation.sampling import solve


class Listening:
    """A policy that notes the seeds it is asked with."""

    digest = "none"
    config = SimpleNamespace(execute=1)

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def reset(self) -> None:
        pass

    def act(self, *_: object, seed: int, **__: object) -> np.ndarray:
        self.seeds.append(seed)
        return np.zeros((2, 1))


def asked(*episodes: int) -> list[int]:
    policy: Any = Listening()
    driver = PolicyDriver(policy, "go")
    simulator: Any = SimpleNamespace(rate=10.0)
    for episode in episodes:
        driver.reset(episode)
        for _ in range(20):
            driver.actions(simulator, SimpleNamespace(images={}, state=np.zeros(1)))
    return policy.seeds


def test_neighbouring_episodes_share_no_noise():
    found = asked(*range(1_000_000, 1_000_010))
    assert len(set(found)) == 200
    assert found[20:40] == asked(1_000_001)
    assert all(0 <= seed < 2**63 for seed in found)


def test_seeds_depend_on_all_of_their_entropy():
    assert seeds((1, 2), 3) == seeds((1, 2), 5)[:3]
    assert not set(seeds((1, 2), 9)) & set(seeds((2, 1), 9))


@pytest.fixture(scope="module")
def policy(untrained, tmp_path_factory) -> Policy:
    return Policy.load(untrained(tmp_path_factory.mktemp("p") / "p", "pusht", {"head": (48, 48)}))


def first(windows: Windows) -> Windows:
    arrays = {n: getattr(windows, n)[:1] for n in ("pictures", "future", "state", "actions")}
    return Windows(windows.episode, **arrays, task=windows.task)


def test_a_window_is_solved_alike_whatever_stands_beside_it(policy: Policy, squares: Path):
    windows = cut(policy, UnifiedDataset(squares), 3)
    assert len(windows.pictures) > 1
    alone, among = (solve(policy, w, "joint", seed=4, steps=2) for w in (first(windows), windows))
    np.testing.assert_allclose(alone[1], among[1][:1], atol=1e-4)
    other = solve(policy, first(windows), "joint", seed=5, steps=2)
    assert np.abs(other[1] - alone[1]).max() > 1e-3
