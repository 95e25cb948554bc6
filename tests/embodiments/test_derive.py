"""Cards from robot models, and `add_embodiment`."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from motus_embodiments import (
    DataError,
    Kinematics,
    MismatchError,
    UsageError,
    add_embodiment,
    check_card,
    derive_card,
    load_card,
)
from tests.embodiments.conftest import ARM, OPTIONS, shipped_with_models

URDF = """<robot name="two">
  <link name="base"/>
  <link name="one"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0"
    iyz="0"/></inertial></link>
  <link name="tip"/>
  <joint name="hinge" type="revolute"><parent link="base"/><child link="one"/>
    <axis xyz="0 0 1"/><limit lower="-1" upper="2" velocity="1.5" effort="1"/></joint>
  <joint name="flange" type="fixed"><parent link="one"/><child link="tip"/>
    <origin xyz="0.2 0 0"/></joint>
</robot>"""


@pytest.mark.parametrize("card", shipped_with_models())
def test_shipped_cards_agree_with_their_models(card):
    assert check_card(card) == ()


def test_the_model_states_what_it_states(toy):
    arm = toy.arms[0]
    assert [joint.name for joint in arm.joints] == ["turn", "lift", "bend", "roll"]
    assert (arm.joints[1].low, arm.joints[1].high, arm.joints[1].home) == (-1.2, 1.2, 0.3)
    assert arm.base == "base"
    assert set(arm.gripper.joints) == {"thumb", "finger"}
    assert (arm.gripper.model_closed, arm.gripper.model_open) == ((0, 0), (0.04, 0.04))
    assert (arm.gripper.closed, arm.gripper.open, arm.gripper.home) == (0.0, 0.08, 1.0)
    assert check_card(toy) == ()


def test_what_no_model_states_is_asked_for_at_once(toy_model):
    with pytest.raises(UsageError) as caught:
        derive_card("toy", toy_model)
    for option in ("end-effector", "side", "rate", "action", "cameras"):
        assert f"--{option}" in caught.value.hint
    assert "grip" in caught.value.hint
    assert "front" in caught.value.hint


def test_a_single_jaw_cannot_prove_which_end_is_open(tmp_path):
    text = "\n".join(line for line in ARM.splitlines() if "equality" not in line)
    text = text.replace('<joint name="thumb" type="slide" axis="1 0 0" range="0 .04"/>', "")
    text = text.replace('<position joint="thumb"/>', '<position joint="finger"/>')
    text = text.replace(" .04 .04 ", " .04 ")
    path = tmp_path / "jaw.xml"
    path.write_text(text)
    with pytest.raises(UsageError, match="gripper_open"):
        derive_card("jaw", path, **OPTIONS)
    card = derive_card("jaw", path, **OPTIONS, gripper_open="low")
    assert card.arms[0].gripper.model_open == (0,)


def hand(side: str, fingers: int) -> str:
    """An arm of one joint with a hand of some fingers."""
    grown = "".join(
        f'<body name="{side}_f{i}" pos="{i} 0 0"><joint name="{side}_f{i}" axis="1 0 0" '
        f'range="0 {i + 1}"/><geom size=".1"/></body>'
        for i in range(fingers)
    )
    return (
        f'<body name="{side}_arm"><joint name="{side}_turn" range="-1 1"/><geom size=".1"/>'
        f'<site name="{side}_grip"/>{grown}</body>'
    )


def test_each_arm_takes_the_driven_joints_of_its_own_hand(tmp_path):
    path = tmp_path / "two.xml"
    options = {
        "end_effector": {"left": "left_grip", "right": "right_grip"}, "rate": 10.0,
        "action": "joint_position", "gripper_values": (0, 1), "gripper_open": "high",
    }  # fmt: skip

    def hands(fingers, **more):
        grown = hand("left", 3) + hand("right", fingers)
        path.write_text(
            f'<mujoco><compiler angle="radian"/><worldbody>{grown}</worldbody></mujoco>'
        )
        card = derive_card("two", path, **options, **more)
        return [arm.gripper and arm.gripper.joints for arm in card.arms]

    with pytest.raises(UsageError) as caught:
        hands(3)
    joints = [f"{side}_f{i}" for side in ("left", "right") for i in range(3)]
    assert f"--gripper: its driven joints, of {', '.join(joints)}" in caught.value.hint
    assert hands(3, gripper=tuple(joints)) == [tuple(joints[:3]), tuple(joints[3:])]
    with pytest.raises(UsageError, match="cannot say gripper") as caught:
        hands(3, gripper=("left_f1",))
    assert "of right_f0, right_f1, right_f2" in caught.value.hint
    assert hands(1, gripper=("left_f1",)) == [("left_f1",), ("right_f0",)]
    assert hands(3, gripper=()) == [None, None]
    with pytest.raises(UsageError, match="'left_f' is no joint beyond a wrist"):
        hands(3, gripper=("left_f",))


def fingers(coupled: str, axis: str, reach: str) -> str:
    """An arm of one joint with two fingers, the second coupled to the first by `coupled`."""
    grown = "".join(
        f'<body name="{name}" pos="0 {y} .05"><joint name="{name}" type="slide" axis="{along}" '
        f'range="{span}"/><geom type="box" size=".01 .005 .02" pos="0 0 .06"/></body>'
        for name, y, along, span in (("a", 0.02, "0 1 0", "0 .04"), ("b", -0.02, axis, reach))
    )
    return (
        '<mujoco><compiler angle="radian"/><worldbody><body name="arm"><joint name="turn" '
        f'range="-1 1"/><geom size=".02"/><site name="grip"/>{grown}</body></worldbody>'
        f"<equality>{coupled}</equality></mujoco>"
    )


@pytest.mark.parametrize("opens", [None, "high"])
@pytest.mark.parametrize(
    ("coupled", "axis", "closed", "opened"),
    [
        ('joint1="b" joint2="a" polycoef="0 1 0 0 0"', "0 -1 0", (0, 0), (0.04, 0.04)),
        ('joint1="b" joint2="a" polycoef="0 -1 0 0 0"', "0 1 0", (0, 0), (0.04, -0.04)),
        ('joint1="b" joint2="a" polycoef=".01 .5 0 0 0"', "0 -1 0", (0, 0.01), (0.04, 0.03)),
        ('joint1="a" joint2="b" polycoef="0 1 0 0 0"', "0 -1 0", (0, 0), (0.03, 0.03)),
    ],
)
def test_a_coupled_finger_follows_the_other(tmp_path, coupled, axis, closed, opened, opens):
    """Its own range, here wider, says nothing."""
    leads = coupled.startswith('joint1="a"')
    path = tmp_path / "two.xml"
    path.write_text(fingers(f"<joint {coupled}/>", axis, "0 .03" if leads else "-1 1"))
    options = {key: value for key, value in OPTIONS.items() if key != "cameras"}
    gripper = derive_card("two", path, **options, gripper_open=opens).arms[0].gripper
    assert gripper.joints == ("a", "b")
    np.testing.assert_allclose([gripper.model_closed, gripper.model_open], [closed, opened])
    assert gripper.home == 0


def test_a_urdf_finger_that_mimics_the_other_follows_it(tmp_path):
    grown = "".join(
        f'<link name="{name}"><visual><origin xyz="0 0 .06"/><geometry><box size=".01 .01 .04"/>'
        f'</geometry></visual></link><joint name="{name}" type="revolute"><parent link="one"/>'
        f'<child link="{name}"/><origin xyz="0 {y} 0"/><axis xyz="1 0 0"/><limit lower="-.8" '
        f'upper=".8" velocity="1" effort="1"/>{mimic}</joint>'
        for name, y, mimic in (
            ("a", 0.03, ""),
            ("b", -0.03, '<mimic joint="a" multiplier="-1" offset=".1"/>'),
        )
    )
    path = tmp_path / "two.urdf"
    path.write_text(URDF.replace("</robot>", f"{grown}</robot>"))
    options = {"end_effector": "tip", "side": "right", "rate": 20, "action": "joint_position"}
    gripper = derive_card("two", path, gripper_values=(0, 1), **options).arms[0].gripper
    np.testing.assert_allclose(gripper.model_closed, [0.8, -0.7])
    np.testing.assert_allclose(gripper.model_open, [-0.8, 0.9])


@pytest.mark.parametrize("more", [{}, {"gripper_values": None, "gripper_open": "high"}])
def test_what_is_told_of_a_gripper_needs_one(toy_model, more):
    with pytest.raises(UsageError, match="no driven joint beyond 'thumb'") as caught:
        derive_card("toy", toy_model, **(OPTIONS | {"end_effector": "thumb"} | more))
    option = "--gripper-open" if more else "--gripper-values"
    assert option in caught.value.message
    assert caught.value.hint.endswith(f"such as grip, palm; or leave out {option}")


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        ("end_effector", "gripp", "grip"),
        ("cameras", {"frnt": "head"}, "front"),
        ("gripper", ("fingr",), "finger"),
        ("home", "hom", "home"),
    ],
)
def test_wrong_names_give_the_nearest(toy_model, option, value, hint):
    with pytest.raises(UsageError) as caught:
        derive_card("toy", toy_model, **(OPTIONS | {option: value}))
    assert hint in caught.value.hint


def test_urdf_gives_limits_and_velocities(tmp_path):
    path = tmp_path / "two.urdf"
    path.write_text(URDF)
    options = {"end_effector": "tip", "side": "right", "rate": 20, "action": "ee_pose"}
    card = derive_card("two", path, **options)
    joint = card.arms[0].joints[0]
    assert (joint.low, joint.high, joint.velocity) == (-1, 2, 1.5)
    assert card.action.relative
    pose = Kinematics(card).poses(np.array([[np.pi / 2]]))[0, 0]
    np.testing.assert_allclose(pose[:3, 3], [0, 0.2, 0], atol=1e-9)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name="lift" ', "", "a joint of the body 'upper' has no name"),
        ('name="thumb" type', "type", "a joint of the hand on 'roll' has no name"),
        (
            'name="bend" axis="0 1 0" range="-2.2 2.2"',
            'name="bend" type="ball"',
            "a ball joint",
        ),
        ('"-1.2 1.2"', '"1.2 -1.2"', "'lift' has a lower limit of 1.2 above its upper, -1.2"),
    ],
)
def test_joints_that_no_card_can_hold_are_refused(tmp_path, old, new, says):
    text = ARM.replace(old, new)
    assert text != ARM
    for tag in ("equality", "actuator", "keyframe"):
        text = re.sub(f"<{tag}>.*</{tag}>", "", text, flags=re.DOTALL)
    path = tmp_path / "odd.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=says) as caught:
        derive_card("odd", path, **OPTIONS)
    assert caught.value.where == str(path)


def test_a_joint_of_the_arm_that_follows_another_is_remarked_upon(toy, toy_model):
    coupled = '<equality><joint joint1="roll" joint2="turn" polycoef="0 1 0 0 0"/>'
    toy_model.write_text(ARM.replace("<equality>", coupled))
    card = derive_card("toy", toy_model, **OPTIONS)
    assert "'roll' is coupled in toy.xml" in card.notes
    assert not toy.notes


def test_a_camera_without_a_name_is_not_asked_about(toy_model):
    toy_model.write_text(ARM.replace('camera name="front"', "camera"))
    options = {key: value for key, value in OPTIONS.items() if key != "cameras"}
    assert derive_card("toy", toy_model, **options).cameras == ()


def test_infinite_limits_are_no_limits(toy_model):
    toy_model.write_text(ARM.replace('range="-2 2"', 'range="-2 inf"'))
    joint = derive_card("toy", toy_model, **OPTIONS).arms[0].joints[0]
    assert (joint.low, joint.high) == (-2, None)


def test_a_velocity_that_is_no_number_is_named(tmp_path):
    path = tmp_path / "two.urdf"
    path.write_text(URDF.replace('velocity="1.5"', 'velocity="fast"'))
    options = {"end_effector": "tip", "side": "right", "rate": 20, "action": "ee_pose"}
    with pytest.raises(DataError, match="velocity limit of joint 'hinge' is 'fast'"):
        derive_card("two", path, **options)
    path.write_text(URDF.replace('velocity="1.5"', 'velocity="inf"'))
    assert derive_card("two", path, **options).arms[0].joints[0].velocity is None


def test_a_missing_mesh_is_named(tmp_path):
    path = tmp_path / "torn.xml"
    path.write_text(
        '<mujoco><asset><mesh name="m" file="gone.stl"/></asset><worldbody><geom type="mesh" '
        'mesh="m"/></worldbody></mujoco>'
    )
    with pytest.raises(DataError, match=r"gone\.stl") as caught:
        derive_card("torn", path, **OPTIONS)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("text", ["", "not xml", "<mujoco><nonsense/></mujoco>"])
def test_a_file_that_is_no_model_is_bad_data(tmp_path, text):
    path = tmp_path / "bad.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"bad\.xml"):
        derive_card("bad", path, **OPTIONS)


def test_a_model_that_is_nowhere_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no robot model at"):
        derive_card("none", tmp_path / "none.xml", **OPTIONS)
    (tmp_path / "a.xml").write_text(ARM)
    (tmp_path / "b.xml").write_text(ARM)
    with pytest.raises(UsageError, match=r"a\.xml, b\.xml"):
        derive_card("two", tmp_path, **OPTIONS)


def test_adding_writes_a_card_that_loads(tmp_path, monkeypatch, toy_model):
    monkeypatch.chdir(tmp_path)
    card, path = add_embodiment("toy", model=toy_model, **OPTIONS)
    assert path == Path("embodiments/toy.yaml")
    assert load_card("toy") == card
    with pytest.raises(UsageError, match="exists already"):
        add_embodiment("toy", model=toy_model, **OPTIONS)


def test_a_dry_run_writes_nothing(tmp_path, toy_model):
    _, path = add_embodiment(
        "toy", model=toy_model, folder=tmp_path / "own", dry_run=True, **OPTIONS
    )
    assert not path.parent.exists()


def test_shipped_cards_are_copied_with_their_comments(tmp_path):
    card, path = add_embodiment("pusht", folder=tmp_path)
    assert load_card(path) == card == load_card("pusht")
    with pytest.raises(UsageError, match="no robot named"):
        add_embodiment("frankka", folder=tmp_path)
    with pytest.raises(UsageError, match="cannot be given"):
        add_embodiment("aloha", folder=tmp_path, rate=5)


def test_a_card_that_differs_from_its_model_is_refused(toy, toy_model, tmp_path, monkeypatch):
    toy_model.write_text(ARM.replace('range="-2 2"', 'range="-1 1"'))
    assert check_card(toy) == (
        "joint 'turn': low is -2.0, in the model -1",
        "joint 'turn': high is 2.0, in the model 1",
    )
    from motus_embodiments.drafting import register

    monkeypatch.setattr(register, "finished", lambda _draft: toy)
    with pytest.raises(MismatchError, match="'turn'"):
        add_embodiment("toy", model=toy_model, folder=tmp_path / "own")


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        (
            "trs_so_arm100",
            {"end_effector": "Fixed_Jaw", "side": "right", "cameras": {}, "gripper_open": "high"},
        ),
        ("franka_emika_panda", {"end_effector": "hand", "side": "left", "cameras": {}}),
        (
            "aloha",
            {
                "end_effector": {"left": "left/gripper", "right": "right/gripper"},
                "cameras": {"cam_high:overhead_cam": "head"},
            },
        ),
    ],
)
def test_menagerie_models_are_derived(folder, options, tmp_path, monkeypatch):
    root = Path(__file__).parents[3] / "shared" / "menagerie"
    if not (root / folder).is_dir():
        pytest.skip(f"no copy of MuJoCo Menagerie at {root}")
    monkeypatch.setenv("MENAGERIE_ROOT", str(root))
    card, path = add_embodiment(
        "robot",
        model=folder,
        folder=tmp_path,
        rate=30,
        action="joint_position",
        gripper_values=(0, 1),
        **options,
    )
    assert card.model.menagerie == os.path.join(folder, "scene.xml")
    assert check_card(load_card(path)) == ()
