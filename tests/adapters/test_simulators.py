"""The promises of the simulator protocol, held against every simulator that is installed."""

import numpy as np
import pytest

from motus_adapters import (
    check_simulator,
    environment_state,
    families,
    find_entry,
    open_simulator,
    simulator_names,
)
from motus_embodiments import MissingError, UsageError, load_card

# One task of each family, two where tasks differ in kind.
TRIED = (
    "gym-hil:PandaPickCube",
    "gym-aloha:TransferCube",
    "gym-aloha:Insertion",
    "gym-pusht:PushT",
    "metaworld:drawer-open-v3",
    "metaworld:pick-place-v3",
    "robosuite:Lift-Panda",
    "robosuite:Lift-UR5e",
    pytest.param("libero:libero_10/0", marks=pytest.mark.slow),
)


def opened(name):
    key = name.partition(":")[0]
    family = families()[key]
    if family.host is None and not family.is_importable:
        pytest.skip(f"{family.package} is not installed")
    if family.host is not None and environment_state(key, family) != "installed":
        pytest.skip(f"needs `motus sim install {key}`")
    return open_simulator(name, 48)


@pytest.mark.parametrize("name", TRIED)
def test_a_simulator_keeps_its_promises(name):
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


@pytest.mark.parametrize("name", ["metaworld:drawer-open-v3", "robosuite:Lift-Panda"])
def test_an_expert_solves_its_task_from_a_disturbed_start(name):
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
        assert simulator.reached == simulator.subgoals
    finally:
        simulator.close()


def test_without_an_expert_that_is_said():
    simulator = opened("gym-pusht:PushT")
    assert not simulator.has_expert
    with pytest.raises(UsageError, match="no scripted expert"):
        simulator.expert()
    simulator.close()


def test_the_catalogue_names_cards_that_exist():
    for family in families().values():
        for card in (*family.robots.values(), family.card or "franka"):
            assert load_card(card).name == card
        assert family.tasks or family.suites
        assert family.experts == "all" or set(family.experts) <= set(family.tasks)
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
