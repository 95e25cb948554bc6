"""Robot model files: URDF as it is found in the wild, models put together, models in packages."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from motus_embodiments import Card, DataError, Kinematics, MissingError, derive_card
from motus_embodiments.robot_models.finding import find_model, load_model, model_file
from tests.embodiments.conftest import ARM, OPTIONS

BALL = """o ball
v 0 0 0
v .01 0 0
v 0 .01 0
v 0 0 .01
f 1 3 2
f 1 2 4
f 1 4 3
f 2 3 4
"""

# A foreign prefix, a package address, a picture that MuJoCo cannot read, an inertia that no body
# has, a link without mass, and a finger that mimics the other.
URDF = """<?xml version="1.0"?>
<robot name="hand">
  <link name="base"/>
  <link name="arm">
    <inertial><mass value="1"/>
      <inertia ixx="-1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>
    <visual><geometry><mesh filename="package://hand_description/meshes/arm.dae"/></geometry></visual>
    <visual><geometry><mesh filename="package://hand_description/meshes/gone.dae"/></geometry></visual>
    <collision><geometry><mesh filename="package://hand_description/meshes/ball.obj"/></geometry></collision>
  </link>
  <link name="palm"/><link name="left"><collision><geometry><box size=".01 .01 .04"/></geometry>
  </collision></link><link name="right"><collision><geometry><box size=".01 .01 .04"/></geometry>
  </collision></link>
  <joint name="turn" type="revolute"><parent link="base"/><child link="arm"/><axis xyz="0 0 1"/>
    <limit lower="-2" upper="2" velocity="1.5" effort="1" other:acceleration="3"/></joint>
  <joint name="flange" type="fixed"><parent link="arm"/><child link="palm"/>
    <origin xyz="0.2 0 0"/></joint>
  <joint name="finger" type="prismatic"><parent link="palm"/><child link="left"/>
    <axis xyz="0 1 0"/><limit lower="0" upper="0.04" velocity="0.1" effort="1"/></joint>
  <joint name="follower" type="prismatic"><parent link="palm"/><child link="right"/>
    <axis xyz="0 -1 0"/><limit lower="0" upper="0.04" velocity="0.1" effort="1"/>
    <mimic joint="finger" multiplier="1"/></joint>
  <other:plugin file="x"/>
</robot>"""


@pytest.fixture
def urdf(tmp_path):
    meshes = tmp_path / "hand_description/meshes"
    meshes.mkdir(parents=True)
    for name in ("ball.obj", "arm.obj"):
        (meshes / name).write_text(BALL)
    path = tmp_path / "hand_description/urdf/hand.urdf"
    path.parent.mkdir()
    path.write_text(URDF)
    return path


def test_urdf_as_it_is_found(urdf, caplog):
    model = load_model(urdf)
    assert model.njnt == 3
    assert model.nmesh == 2  # of arm.dae the .obj beside it is taken
    load_model(urdf)
    assert caplog.text.count("gone.dae cannot be drawn") == 1
    assert model.neq == 1  # the mimic joint
    assert [model.body(i).name for i in range(1, model.nbody)][-4:-2] == ["arm", "palm"]


def test_a_mimicking_finger_follows(urdf):
    card = derive_card(
        "hand", urdf, end_effector="palm", side="left", rate=10, action="joint_position",
        gripper_values=(0, 255),
    )  # fmt: skip
    gripper = card.arms[0].gripper
    assert gripper.model_closed == (0, 0)
    assert gripper.model_open == (0.04, 0.04)
    qpos = Kinematics(card).qpos(np.array([[0.0, 0.5]]))
    np.testing.assert_allclose(qpos, [[0, 0.02, 0.02]], atol=1e-6)
    assert card.arms[0].joints[0].velocity == 1.5


def test_a_collision_mesh_that_is_not_there_is_named(urdf):
    (urdf.parents[1] / "meshes/ball.obj").unlink()
    with pytest.raises(DataError, match=r"meshes/ball\.obj") as caught:
        load_model(urdf)
    assert caught.value.where == str(urdf)


@pytest.mark.parametrize("text", ["<robot name='x'", "<mujoco/>", "\xff"])
def test_a_file_that_is_no_urdf_is_bad_data(tmp_path, text):
    path = tmp_path / "x.urdf"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"x\.urdf"):
        load_model(path)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("arm.urdf.xacro", "", ""),
        ("arm.urdf", 'lower="-2"', 'lower="${-k}"'),
        ("arm.urdf", "<link", '<xacro:include filename="arm.xacro"/><link'),
    ],
)
def test_a_xacro_file_says_how_it_becomes_urdf(urdf, name, old, new):
    path = urdf.with_name(name)
    path.write_text(URDF.replace(old, new, 1))
    with pytest.raises(DataError, match="is a xacro file") as caught:
        load_model(path)
    assert f"xacro {path} > robot.urdf" in caught.value.hint


def test_what_xacro_left_in_comments_is_no_xacro(urdf):
    urdf.write_text(URDF.replace("<link", '<!-- <xacro:arm x="${k}"/> --><link', 1))
    assert load_model(urdf).njnt == 3


def test_a_urdf_in_capitals_is_one(urdf):
    path = urdf.rename(urdf.with_suffix(".URDF"))
    assert model_file(path.parent) == path
    card = derive_card(
        "hand", path, end_effector="palm", side="left", rate=10, action="joint_position",
        gripper_values=(0, 255),
    )  # fmt: skip
    assert card.arms[0].joints[0].velocity == 1.5


FLANGE = ARM.replace('<site name="grip" pos="0 0 .06"/>', '<site name="tool" pos="0 0 .06"/>')
TOOL = """<mujoco><worldbody><body name="mount"><geom type="sphere" size=".01"/>
  <site name="tip" pos="0 0 .1"/><body name="jaw"><joint name="jaw" range="0 1"/>
  <geom type="box" size=".01 .01 .02"/></body></body></worldbody></mujoco>"""


def assembled(tmp_path, site="tool"):
    (tmp_path / "arm.xml").write_text(FLANGE)
    (tmp_path / "tool.xml").write_text(TOOL)
    options = OPTIONS | {"end_effector": "tool", "gripper": (), "gripper_values": None}
    card = derive_card("arm", tmp_path / "arm.xml", **options)
    part = {"model": {"file": str(tmp_path / "tool.xml")}, "site": site, "prefix": "t/"}
    table = card.model_dump(mode="json", exclude_defaults=True)
    table["model"]["attach"] = [part]
    table["arms"][0] |= {
        "end_effector": "t/tip",
        "gripper": {"joints": ["t/jaw"], "model_closed": [0], "model_open": [1]},
    }
    return card, Card.model_validate(table)


def test_a_tool_is_attached_where_the_card_says(tmp_path):
    bare, whole = assembled(tmp_path)
    home = np.array([bare.home()])
    flange = Kinematics(bare).poses(home)[0, 0]
    tip = Kinematics(whole).poses(np.array([whole.home()]))[0, 0]
    np.testing.assert_allclose(tip[:3, :3], flange[:3, :3], atol=1e-9)
    np.testing.assert_allclose(tip[:3, 3], flange[:3, 3] + 0.1 * flange[:3, 2], atol=1e-9)


def test_a_site_that_is_not_there_is_named(tmp_path):
    _, whole = assembled(tmp_path, site="toool")
    with pytest.raises(DataError, match="'toool'") as caught:
        Kinematics(whole)
    assert "tool" in caught.value.hint


def test_models_inside_packages(tmp_path, monkeypatch):
    """In the package's own folder, or in the environment's share."""
    package = tmp_path / "robots_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "arm.xml").write_text(ARM)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert model_file("robots_of_mine:arm.xml") == package / "arm.xml"
    card = derive_card("arm", "robots_of_mine:arm.xml", **OPTIONS)
    assert (card.model.package, card.model.path, card.model.file) == (
        "robots_of_mine",
        "arm.xml",
        None,
    )
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    shared = tmp_path / "share/robots_of_mine"
    shared.mkdir(parents=True)
    (package / "arm.xml").rename(shared / "arm.xml")
    assert find_model(card) == shared / "arm.xml"


def test_menagerie_models_that_the_package_has_downloaded(tmp_path, monkeypatch):
    """The package is asked what it holds; nothing is downloaded."""
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    held = {"arm"}
    package = ModuleType("mujoco_menagerie")
    vars(package).update(
        names=lambda: ["arm", "leg"],
        get=lambda name: SimpleNamespace(name=name),
        Cache=lambda: SimpleNamespace(
            is_cached=lambda robot: robot.name in held,
            model_path=lambda robot: tmp_path / f"{robot.name}-1234",
        ),
    )
    monkeypatch.setitem(sys.modules, "mujoco_menagerie", package)
    (tmp_path / "arm-1234").mkdir()
    (tmp_path / "arm-1234/scene.xml").write_text(ARM)
    arm = {"side": "left", "joints": [{"name": "turn", "unit": "rad"}]}
    table = {"name": "a", "title": "a", "rate": 1, "action": {"representation": "joint_position"}}
    card = Card.model_validate(table | {"arms": [arm], "model": {"menagerie": "arm/scene.xml"}})
    assert find_model(card) == tmp_path / "arm-1234/scene.xml"
    held.clear()
    with pytest.raises(MissingError) as caught:
        find_model(card)
    assert "mujoco-menagerie prefetch arm" in caught.value.hint
    assert "MENAGERIE_ROOT" in caught.value.hint


def test_the_real_package_answers_as_expected(monkeypatch, tmp_path):
    menagerie = pytest.importorskip("mujoco_menagerie")
    monkeypatch.setenv("MENAGERIE_CACHE_DIR", str(tmp_path))
    robot = menagerie.get("ufactory_xarm7")
    assert menagerie.Cache().is_cached(robot) is False
    assert Path(menagerie.Cache().model_path(robot)).is_relative_to(tmp_path)
