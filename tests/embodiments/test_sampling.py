"""Random motion: free of collisions, within limits, and decided by seed and index alone."""

import numpy as np
import pytest

from motus_embodiments import (
    ActionAdapter,
    Kinematics,
    MissingError,
    MujocoPoseSampler,
    UsageError,
    load_card,
    make_sampler,
)
from motus_embodiments.coverage import Grid
from motus_embodiments.sampling import MARGIN, SPEEDS, minimum_jerk
from tests.embodiments.conftest import shipped_with_models

MODELS = shipped_with_models()


@pytest.mark.parametrize("card", MODELS)
def test_trajectories_are_free_within_limits_and_slow_enough(card):
    sampler = MujocoPoseSampler(card, seed=3)
    states = sampler.trajectory(0, 40, card.rate)
    adapter = ActionAdapter(card)
    assert states.shape == (40, len(card.state_channels))
    adapter.check(states, "state")
    adapter.check(adapter.command(states), "action")
    for qpos in Kinematics(card).qpos(states):
        assert sampler.collisions.first(qpos) is None
    low = np.array([c.low for c in card.state_channels])
    high = np.array([c.high for c in card.state_channels])
    joints = [c.kind == "joint" for c in card.state_channels]
    margin = MARGIN * (high - low) * joints
    assert (states >= low + margin - 1e-9).all()
    assert (states <= high - margin + 1e-9).all()
    speed = np.abs(np.diff(states, axis=0)) * card.rate
    assert (speed <= sampler._limits * SPEEDS[1] * 1.01).all()


@pytest.mark.parametrize("card", MODELS)
def test_seed_and_index_alone_decide(card):
    one, two = MujocoPoseSampler(card, seed=5), MujocoPoseSampler(card, seed=5)
    two.trajectory(0, 12, card.rate)
    np.testing.assert_array_equal(
        one.trajectory(1, 12, card.rate), two.trajectory(1, 12, card.rate)
    )
    other = MujocoPoseSampler(card, seed=6).trajectory(1, 12, card.rate)
    assert not np.array_equal(one.trajectory(1, 12, card.rate), other)


def test_collisions_are_told_apart(toy):
    sampler = MujocoPoseSampler(toy)
    kinematics = Kinematics(toy)

    def hit(*state):
        return sampler.collisions.first(kinematics.qpos(np.array([state]))[0])

    assert hit(0, 0, 0, 0, 1) is None
    assert hit(0, 0, 0, 0, 0) is None  # closed fingers may touch each other
    assert hit(0, 1.2, 1.2, 0, 1) == "table"


def test_the_report_counts_and_covers(toy):
    sampler = MujocoPoseSampler(toy)
    for index in range(4):
        sampler.trajectory(index, 20, 10.0)
    report = sampler.report()
    coverage = report.coverage["left"]
    assert report.accepted >= 4
    assert report.checked > 80
    assert 0 < coverage.hit <= coverage.cells
    assert 0 < coverage.entropy <= 1
    assert coverage.peak >= 1


def test_targets_do_not_repeat_before_the_deck_is_dealt(toy):
    sampler = MujocoPoseSampler(toy)
    deck = sampler._decks[0]
    assert sorted(deck.tolist()) == list(range(len(sampler.grids[0])))


def test_minimum_jerk_starts_and_ends_at_rest():
    path = minimum_jerk(np.zeros(1), np.ones(1), 100)[:, 0]
    assert path[-1] == 1
    assert path[0] < 1e-4
    assert np.diff(path).max() == pytest.approx(1.875 / 100, rel=1e-2)


def test_coverage_of_even_and_uneven_visits():
    grid = Grid(np.random.default_rng(0).uniform(0, 0.2, (2000, 3)))
    even = grid.coverage(np.full(len(grid), 3))
    assert (even.share, even.peak) == (1, 1)
    assert even.entropy == pytest.approx(1)
    visits = np.zeros(len(grid), int)
    visits[0] = 5
    assert grid.coverage(visits).entropy == 0
    assert grid.coverage(visits * 0).hit == 0


def test_auto_says_what_it_falls_back_to(toy):
    chosen = make_sampler(toy, "auto")
    assert chosen.backend == "mujoco"
    assert "curobo" in chosen.note
    assert make_sampler(toy, "mujoco").note == ""


def test_curobo_without_what_it_needs_is_missing(toy):
    with pytest.raises(MissingError, match="curobo"):
        make_sampler(toy, "curobo")


def test_wrong_backend_and_robots_without_poses_are_refused(toy):
    with pytest.raises(UsageError, match="no backend"):
        make_sampler(toy, "bullet")
    with pytest.raises(MissingError, match="no robot model"):
        make_sampler(load_card("gr1"))
