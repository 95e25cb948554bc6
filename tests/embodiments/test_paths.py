"""Moves, tours and ways around."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motus_embodiments.poses.paths import CHECK_STEP, detour, leg, minimum_jerk, seconds, tour

SPEED = np.array([1.0, 2.0])
POINTS = st.lists(st.tuples(*[st.floats(-3, 3)] * 2), min_size=1, max_size=6, unique=True)


def length(states, speed, start=None):
    states = list(states) if start is None else [start, *states]
    return sum(seconds(a, b, speed) for a, b in itertools.pairwise(states))


def test_minimum_jerk_starts_and_ends_at_rest():
    path = minimum_jerk(np.zeros(1), np.ones(1), 100)[:, 0]
    assert path[-1] == 1
    assert path[0] < 1e-4
    assert np.diff(path).max() == pytest.approx(1.875 / 100, rel=1e-2)


@given(st.tuples(*[st.floats(-3, 3)] * 4), st.floats(5, 60))
def test_a_leg_is_slow_enough_and_checked_finely(numbers, rate):
    start, goal = np.array(numbers[:2]), np.array(numbers[2:])
    found = leg(start, goal, SPEED, rate)
    steps = np.diff(np.concatenate([start[None], found.frames]), axis=0)
    assert (np.abs(steps) * rate <= SPEED * (1 + 1e-9)).all()
    finer = np.diff(np.concatenate([start[None], found.checks]), axis=0)
    assert np.abs(finer).max() <= CHECK_STEP * (1 + 1e-9)
    np.testing.assert_allclose(found.frames[-1], goal, atol=1e-12)
    assert {tuple(row) for row in found.frames} <= {tuple(row) for row in found.checks}


@given(POINTS, st.booleans())
def test_a_tour_visits_everything_once_and_is_not_longer(points, has_start):
    goals = [np.array(p) for p in points]
    start = np.array([0.5, -0.5]) if has_start else None
    found = tour(goals, SPEED, start)
    assert sorted(map(tuple, found)) == sorted(map(tuple, goals))
    assert (
        length(found, SPEED, start) <= length(goals, SPEED, start) + 2 * 6 * 1e-6 or len(goals) > 2
    )
    if not has_start:
        np.testing.assert_array_equal(found[0], goals[0])


def test_a_tour_is_near_the_shortest():
    rng = np.random.default_rng(0)
    excess = []
    for _ in range(20):
        goals, start = list(rng.uniform(-1, 1, (6, 2))), rng.uniform(-1, 1, 2)
        best = min(length(order, SPEED, start) for order in itertools.permutations(goals))
        excess.append(length(tour(goals, SPEED, start), SPEED, start) / best)
    assert np.mean(excess) < 1.1
    assert max(excess) < 1.5


def wall(states):
    """A wall at x = 0 with a gap above y = 1."""
    inside = (np.abs(states[:, 0]) < 0.1) & (states[:, 1] < 1)
    return "wall" if inside.any() else None


def test_a_detour_goes_around():
    rng = np.random.default_rng(1)
    start, goal = np.array([-1.0, 0.0]), np.array([1.0, 0.0])
    way = detour(start, goal, SPEED, lambda: rng.uniform(-2, 2, 2), wall, rng)
    np.testing.assert_array_equal(way[-1], goal)
    for a, b in itertools.pairwise([start, *way]):
        assert wall(a + (b - a) * np.linspace(0, 1, 200)[:, None]) is None
    assert len(way) >= 2


def test_no_way_is_no_way():
    rng = np.random.default_rng(1)

    def closed(states):
        return "wall" if (np.abs(states[:, 0]) < 0.1).any() else None

    ends = np.array([-1.0, 0.0]), np.array([1.0, 0.0])
    assert detour(*ends, SPEED, lambda: rng.uniform(-2, 2, 2), closed, rng) is None
