"""The promises of the simulator protocol, held against every simulator that is installed."""

import os
import signal

import numpy as np
import pytest

from motus_adapters import (
    SimulatorError,
    check_simulator,
    families,
    find_entry,
    open_simulator,
    simulator_names,
)
from motus_adapters.recording import demonstrate
from motus_embodiments import ActionAdapter, MissingError, UsageError, load_card

# One task of each family, two where tasks differ in kind.
TRIED = (
    "gym-hil:PandaPickCube",
    "gym-aloha:TransferCube",
    "gym-aloha:Insertion",
    "gym-pusht:PushT",
    "metaworld:drawer-open-v3",
    "metaworld:pick-place-v3",
    "robosuite:Lift-Panda",
    pytest.param("robosuite:Lift-UR5e", marks=pytest.mark.slow),
    "robosuite:TwoArmLift-Panda+Panda",
    *(
        pytest.param(f"robosuite:{name}", marks=pytest.mark.slow)
        for name in (
            "Stack-XArm7",
            "Door-Sawyer",
            "NutAssembly-IIWA",
            "NutAssemblySquare-Kinova3",
            "NutAssemblyRound-Panda",
            "PickPlaceCan-Panda",
            "Lift-Jaco",
            "TwoArmLift-Baxter",
            "TwoArmHandover-Panda+Panda",
            "TwoArmTransport-Panda+Panda",
        )
    ),
    pytest.param("libero:libero_10/0", marks=pytest.mark.slow),
)


@pytest.fixture(scope="module")
def opened(need_simulator):
    """Start a simulator by name, where it is installed."""

    def start(name):
        need_simulator(name)
        return open_simulator(name, 48)

    return start


@pytest.mark.parametrize("name", TRIED)
def test_a_simulator_keeps_its_promises(opened, name):
    simulator = opened(name)
    try:
        broken = [check for check in check_simulator(simulator) if not check.ok]
        assert not broken
        assert simulator.name == name
        assert simulator.has_expert == find_entry(name).has_expert
        assert simulator.max_steps > 0
        assert simulator.versions
    finally:
        simulator.close()


@pytest.mark.parametrize(
    "name",
    [
        "metaworld:drawer-open-v3",
        "robosuite:Lift-Panda",
        "robosuite:Stack-UR5e",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "robosuite:Door-Panda",
                "robosuite:Door-UR5e",
                "robosuite:Stack-Sawyer",
                "robosuite:NutAssembly-Panda",
                "robosuite:NutAssemblySquare-Panda",
                "robosuite:NutAssemblyRound-Panda",
                "robosuite:PickPlaceCan-Panda",
                "robosuite:TwoArmLift-Panda+Panda",
                "robosuite:TwoArmHandover-Panda+Panda",
                "libero:libero_object/0",
            )
        ),
    ],
)
def test_an_expert_solves_its_task_from_a_disturbed_start(opened, name):
    simulator = opened(name)
    try:
        generator = np.random.default_rng(1)
        simulator.reset(1)
        simulator.disturb(generator)
        for _ in range(simulator.max_steps):
            if simulator.success:
                break
            simulator.step(simulator.expert())
        assert simulator.success
    finally:
        simulator.close()


def test_metaworlds_recorded_steps_add_up_to_where_its_hand_was_drawn(opened):
    simulator = opened("metaworld:window-open-v3")
    seed = 3  # odd, so that a force pushes the hand
    try:
        pushed = demonstrate(simulator, seed)
        drawn = simulator._env.data.mocap_pos[0].copy()
        simulator.reset(seed)
        simulator.disturb(np.random.default_rng(seed))
        calm = []
        for action in pushed.actions:
            calm.append(simulator.observe().state)
            simulator.step(action)
        again = simulator._env.data.mocap_pos[0].copy()
    finally:
        simulator.close()
    adapter = ActionAdapter(load_card(simulator.card))
    targets = adapter.encode_action(pushed.actions, adapter.encode_state(pushed.states))
    assert np.linalg.norm(targets[-1, :3] - drawn) < 0.01  # m, how far the hand rested from it
    assert np.allclose(drawn, again, atol=1e-6)
    away = np.linalg.norm(pushed.states[:, :3] - np.stack(calm)[:, :3], axis=1)
    assert away.max() > 0.01  # m


@pytest.fixture(scope="module")
def two_arms(opened):
    simulator = opened("robosuite:TwoArmLift-Panda+Panda")
    yield simulator
    simulator.close()


def kill(simulator):
    simulator.reset(5)
    start = simulator.observe()
    os.kill(simulator._worker._process.pid, signal.SIGKILL)
    with pytest.raises(SimulatorError, match=r"died \(exit -9\)"):
        simulator.observe()
    simulator.reset(5)
    again = simulator.observe()
    assert np.array_equal(again.state, start.state)
    for camera in simulator.cameras:
        assert np.array_equal(again.images[camera], start.images[camera])


def test_a_worker_that_is_killed_is_named_and_started_anew(two_arms):
    kill(two_arms)


@pytest.mark.slow
def test_libero_that_is_killed_is_named_and_started_anew(opened):
    simulator = opened("libero:libero_10/0")
    try:
        kill(simulator)
    finally:
        simulator.close()


def test_each_of_two_arms_follows_its_own_numbers(two_arms):
    two_arms.reset(0)
    start = two_arms.observe().state.astype(float)
    goal = start.copy()
    goal[0] += 0.1  # left
    goal[8 + 6] -= 0.2  # right
    for _ in range(20):
        two_arms.step(goal)
    moved = two_arms.observe().state - start
    joints = [i for i in range(16) if i % 8 != 7]
    assert moved[joints] == pytest.approx((goal - start)[joints], abs=0.03)
    assert two_arms.cameras == ("frontview", "robot0_eye_in_hand", "robot1_eye_in_hand")


def test_an_arm_that_no_expert_can_drive_is_listed_as_such():
    assert find_entry("robosuite:Stack-Panda").has_expert
    assert not find_entry("robosuite:Stack-Jaco").has_expert
    assert find_entry("robosuite:TwoArmLift-Panda+Panda").has_expert
    assert find_entry("robosuite:PickPlaceCan-UR5e").has_expert
    assert not find_entry("robosuite:NutAssembly-UR5e").has_expert
    assert not find_entry("robosuite:TwoArmLift-Baxter").has_expert
    assert not find_entry("robosuite:TwoArmTransport-Panda+Panda").has_expert
    with pytest.raises(UsageError, match="no simulator named"):
        find_entry("robosuite:TwoArmLift-Panda")


def test_libero_long_is_listed_with_its_ten_tasks():
    names = [name for name in simulator_names() if name.startswith("libero:libero_10/")]
    assert names == [f"libero:libero_10/{number}" for number in range(10)]


def test_without_an_expert_that_is_said(opened):
    simulator = opened("gym-pusht:PushT")
    assert not simulator.has_expert
    with pytest.raises(UsageError, match="no scripted expert"):
        simulator.expert()
    simulator.close()


def test_the_catalogue_names_cards_that_exist():
    for family in families().values():
        for card in (*family.robots.values(), *family.pairs.values(), family.card or "franka"):
            assert load_card(card).name == card
        assert family.tasks or family.suites
        assert family.experts == "all" or set(family.experts) <= {*family.tasks, *family.names}
    names = list(simulator_names())
    assert len(names) == len(set(names))
    assert sum(name.startswith("metaworld:") for name in names) == 50


def test_metaworld_tasks_are_those_of_the_package():
    pytest.importorskip("metaworld")
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    assert set(families()["metaworld"].tasks) == set(ALL_V3_ENVIRONMENTS)


@pytest.mark.parametrize("name", ["gym-hil", "gym-hil:", "gym-hil:PandaPickCub", "robosuite:Lift"])
def test_an_unknown_name_gets_the_nearest(name):
    with pytest.raises(UsageError, match=name) as caught:
        open_simulator(name)
    assert caught.value.hint


def test_an_environment_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MOTUS_SIMS", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        open_simulator("robosuite:Lift-Panda")
    assert caught.value.hint == "motus sim install robosuite"
