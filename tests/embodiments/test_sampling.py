"""Random motion: free of collisions, within limits, and decided by seed and index alone."""

import numpy as np
import pytest

from motus_embodiments import (
    ActionAdapter,
    Card,
    DataError,
    Kinematics,
    MissingError,
    MujocoPoseSampler,
    UsageError,
    derive_card,
    load_card,
    make_sampler,
)
from motus_embodiments.physics import mujoco
from motus_embodiments.poses.collisions import Collisions
from motus_embodiments.poses.coverage import Grid, draw_coverage
from motus_embodiments.poses.mujoco_sampler import SPEEDS
from motus_embodiments.poses.sampling import COUNTS
from motus_embodiments.poses.workspace import MARGIN, HeadView, random_states
from tests.embodiments.conftest import ARM, OPTIONS, shipped_with_models

MODELS = shipped_with_models()
RATE = 30.0


@pytest.fixture(scope="module", params=MODELS)
def sampler(request):
    return MujocoPoseSampler(request.param, seed=3)


@pytest.mark.parametrize("card", MODELS)
def test_an_arm_at_home_is_in_its_workspace(card):
    """The box is told in the arm's base frame, which may be turned against the world."""
    kinematics = Kinematics(card)
    at_home = kinematics.poses(np.array([card.home()]))[0, :, :3, 3]
    for arm, place in zip(card.arms, at_home, strict=True):
        if arm.workspace:
            assert (place > arm.workspace.low).all(), arm.side
            assert (place < arm.workspace.high).all(), arm.side


def test_trajectories_are_free_within_limits_and_slow_enough(sampler):
    card = sampler.card
    states = sampler.plan(0, 40, RATE).states
    adapter = ActionAdapter(card)
    assert states.shape == (40, len(card.state_channels))
    adapter.check(states, "state")
    adapter.check(adapter.command(states), "action")
    for qpos in Kinematics(card).qpos(states):
        assert sampler.collisions.first(qpos) is None
    low = np.array([c.low for c in card.state_channels])
    high = np.array([c.high for c in card.state_channels])
    joints = [c.kind == "joint" and c.side is not None for c in card.state_channels]
    margin = np.where(joints & np.isfinite(high - low), MARGIN * (high - low), 0)
    assert (states >= low + margin - 1e-9).all()
    assert (states <= high - margin + 1e-9).all()
    speed = np.abs(np.diff(states, axis=0)) * RATE
    moves = [c.kind in ("joint", "gripper") for c in card.state_channels]
    assert (speed <= sampler.speed * SPEEDS[1] * 1.01)[:, moves].all()


def test_seed_and_index_alone_decide(sampler):
    other = MujocoPoseSampler(sampler.card, 3, sampler.survey)
    other.plan(0, 12, RATE)
    np.testing.assert_array_equal(sampler.plan(1, 12, RATE).states, other.plan(1, 12, RATE).states)
    seeded = MujocoPoseSampler(sampler.card, seed=6).plan(1, 12, RATE).states
    assert not np.array_equal(sampler.plan(1, 12, RATE).states, seeded)


def test_goals_are_free_seen_and_spread(sampler):
    grids = sampler.survey.grids
    goals = sampler.goals(60)
    assert sampler.collisions.free(goals).all()
    points = sampler.kinematics.poses(goals)[:, :, :3, 3]
    for a, grid in enumerate(grids):
        hit = (grid.visits(points[:, a]) > 0).sum()
        assert hit >= 0.7 * min(60, len(grid))  # dealt from a deck: hardly a cell twice
        assert HeadView(sampler.kinematics).sees(points[:, a], a).mean() > 0.9


def test_a_survey_made_twice_is_the_same(toy):
    one, two = MujocoPoseSampler(toy, seed=5), MujocoPoseSampler(toy, seed=5)
    assert one.survey.always == two.survey.always
    for a, b in zip(one.survey.grids, two.survey.grids, strict=True):
        np.testing.assert_array_equal(a.reachable, b.reachable)
    for a, b in zip(one.survey.decks, two.survey.decks, strict=True):
        np.testing.assert_array_equal(a, b)


def test_collisions_are_told_apart(toy):
    sampler = MujocoPoseSampler(toy)

    def hit(*state):
        return sampler.collisions.reason(np.array([state]))

    assert hit(0, 0, 0, 0, 1) is None
    assert hit(0, 0, 0, 0, 0) is None  # closed fingers may touch each other
    assert hit(0, 1.2, 1.2, 0, 1) == "table"


@pytest.mark.parametrize("card", MODELS)
def test_what_is_no_robot_is_not_looked_at_and_everything_else_is(card):
    kinematics = Kinematics(card)
    model, data = kinematics.model, kinematics.data
    states = random_states(kinematics, np.random.default_rng(0), 30)
    states = np.clip(states, -10, 10)

    def pairs():
        found = []
        for qpos in kinematics.qpos(states):
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            mujoco.mj_collision(model, data)
            found.append({tuple(sorted(pair)) for pair in data.contact.geom.tolist()})
        return found

    before = pairs()
    collisions = Collisions(kinematics, states)
    arms = collisions.robot_bodies()
    robot = set(np.flatnonzero(np.isin(model.geom_bodyid, list(arms))).tolist())
    for seen, all_of_them in zip(pairs(), before, strict=True):
        assert seen <= all_of_them
        for pair in all_of_them - seen:
            moving = [g for g in pair if g in robot and model.body_weldid[model.geom_bodyid[g]]]
            assert not moving


def test_without_a_table_one_is_assumed_and_said(tmp_path):
    path = tmp_path / "bare.xml"
    lines = [line for line in ARM.splitlines() if 'name="floor"' not in line]
    path.write_text("\n".join(lines))
    chosen = make_sampler(derive_card("bare", path, **OPTIONS), "mujoco")
    assert "no table or floor" in chosen.note
    collisions = chosen.sampler.collisions
    assert collisions.reason(np.array([[0, 1.2, 1.2, 0, 1.0]])) == "table"
    assert collisions.reason(np.array([[0, 0, 0, 0, 1.0]])) is None


def test_only_what_the_head_camera_sees_is_a_target(toy):
    wide = MujocoPoseSampler(toy).survey.grids[0]
    data = toy.model_dump()
    mount = {"position": (0, 0.4, 1.2), "quaternion": (1, 0, 0, 0), "fovy": 40}
    data["cameras"] = ({"name": "up", "role": "head", "mount": mount},)
    narrow = MujocoPoseSampler(Card.model_validate(data)).survey.grids[0]
    assert 0 < len(narrow) < len(wide)
    data["cameras"][0]["mount"]["quaternion"] = (0, 1, 0, 0)  # looks at the sky
    with pytest.raises(DataError, match="in sight of the camera 'up'"):
        MujocoPoseSampler(Card.model_validate(data))


def test_a_head_camera_that_the_arm_itself_moves_bounds_nothing(toy):
    """At home it looks at the sky; where it looks otherwise only a whole pose could tell."""
    data = toy.model_dump()
    mount = {"body": "upper", "position": (0, 0, 0.3), "quaternion": (0, 1, 0, 0), "fovy": 40}
    data["cameras"] = ({"name": "up", "role": "head", "mount": mount},)
    view = HeadView(Kinematics(Card.model_validate(data)))
    assert view.sees(np.array([[0.0, 0, -1], [0, 0, 2]]), 0).all()
    data["cameras"][0]["mount"]["body"] = "base"
    view = HeadView(Kinematics(Card.model_validate(data)))
    assert view.sees(np.array([[0.0, 0, -1], [0, 0, 2]]), 0).tolist() == [False, True]


def test_an_arm_that_can_only_collide_is_named(toy):
    data = toy.model_dump()
    data["arms"][0]["workspace"] = {"low": (-0.5, -0.5, -0.2), "high": (0.5, 0.5, -0.05)}
    data["cameras"] = ()
    with pytest.raises(DataError, match="collides wherever"):
        MujocoPoseSampler(Card.model_validate(data))


def test_the_tally_counts_and_covers(toy, tmp_path):
    sampler = MujocoPoseSampler(toy)
    tally = sampler.tally()
    for index in range(4):
        plan = sampler.plan(index, 20, RATE)
        assert set(plan.counts) == set(COUNTS)
        tally.add(plan)
    report = tally.report()
    coverage = report.coverage["left"]
    assert report.accepted >= 4
    assert report.checked > 80
    assert 0 <= report.reject_rate < 1
    assert 0 < coverage.hit <= coverage.cells
    assert coverage.share == coverage.hit / coverage.cells
    assert 0 < coverage.entropy <= 1
    assert coverage.peak >= 1
    tally.draw(tmp_path / "one.png")
    tally.draw(tmp_path / "two.png")
    one = (tmp_path / "one.png").read_bytes()
    assert one[:4] == b"\x89PNG"
    assert one == (tmp_path / "two.png").read_bytes()
    assert {path.name for path in tmp_path.glob("*.p*")} == {"one.png", "two.png"}


def test_a_deck_holds_every_cell_once(toy):
    survey = MujocoPoseSampler(toy).survey
    for order in survey.decks[0]:
        assert sorted(order.tolist()) == list(range(len(survey.grids[0])))


def test_coverage_of_even_and_uneven_visits(tmp_path):
    grid = Grid(np.random.default_rng(0).uniform(0, 0.2, (2000, 3)))
    even = grid.coverage(np.full(len(grid), 3))
    assert (even.share, even.peak) == (1, 1)
    assert even.entropy == pytest.approx(1)
    visits = np.zeros(len(grid), int)
    visits[0] = 5
    assert grid.coverage(visits).entropy == 0
    assert grid.coverage(visits * 0).hit == 0
    draw_coverage(tmp_path / "a.png", "title", {"left": (grid, visits)}, {})
    assert (tmp_path / "a.png").stat().st_size > 1000


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
    with pytest.raises((MissingError, UsageError), match="no robot model"):
        make_sampler(load_card("pusht"))
