"""A small robot of our own, so that most tests need no other package."""

from pathlib import Path

import pytest

from motus_embodiments import Card, MissingError, list_cards
from motus_embodiments.robot_models.finding import model_files

ARM = """
<mujoco model="toy">
  <compiler angle="radian"/>
  <option gravity="0 0 -9.81"/>
  <worldbody>
    <geom name="floor" type="plane" size="2 2 .1"/>
    <camera name="front" pos="1.5 0 .6" xyaxes="0 1 0 -.3 0 1"/>
    <body name="base" pos="0 0 .05">
      <geom type="cylinder" size=".05 .05"/>
      <body name="upper" pos="0 0 .1">
        <joint name="turn" axis="0 0 1" range="-2 2"/>
        <joint name="lift" axis="0 1 0" range="-1.2 1.2"/>
        <geom type="capsule" fromto="0 0 .05 0 0 .25" size=".03"/>
        <body name="fore" pos="0 0 .3">
          <joint name="bend" axis="0 1 0" range="-2.2 2.2"/>
          <geom type="capsule" fromto="0 0 .05 0 0 .2" size=".03"/>
          <body name="palm" pos="0 0 .25">
            <joint name="roll" axis="0 0 1" range="-3 3"/>
            <geom type="box" size=".05 .02 .01"/>
            <site name="grip" pos="0 0 .06"/>
            <body name="thumb" pos="0 0 .02">
              <joint name="thumb" type="slide" axis="1 0 0" range="0 .04"/>
              <geom type="box" size=".005 .01 .03" pos=".005 0 .03"/>
            </body>
            <body name="finger" pos="0 0 .02">
              <joint name="finger" type="slide" axis="-1 0 0" range="0 .04"/>
              <geom type="box" size=".005 .01 .03" pos="-.005 0 .03"/>
            </body>
          </body>
        </body>
      </body>
    </body>
    <body name="box" pos=".4 .4 .02">
      <freejoint/>
      <geom type="box" size=".02 .02 .02"/>
    </body>
  </worldbody>
  <equality><joint joint1="finger" joint2="thumb" polycoef="0 1 0 0 0"/></equality>
  <actuator>
    <position joint="turn"/><position joint="lift"/><position joint="bend"/>
    <position joint="roll"/><position joint="thumb"/>
  </actuator>
  <keyframe><key name="home" qpos="0 .3 .6 0 .04 .04 .4 .4 .02 1 0 0 0"/></keyframe>
</mujoco>
"""

OPTIONS = {
    "end_effector": "grip",
    "side": "left",
    "rate": 10.0,
    "action": "joint_position",
    "cameras": {"front": "head"},
    "gripper_values": (0.0, 0.08),
}


@pytest.fixture
def toy_model(tmp_path: Path) -> Path:
    path = tmp_path / "toy.xml"
    path.write_text(ARM)
    return path


@pytest.fixture
def toy(toy_model: Path) -> Card:
    from motus_embodiments import derive_card

    return derive_card("toy", toy_model, **OPTIONS)


@pytest.fixture(scope="module")
def shared_toy(tmp_path_factory: pytest.TempPathFactory) -> Card:
    """The same robot for all tests of a file."""
    from motus_embodiments import derive_card

    path = tmp_path_factory.mktemp("toy") / "toy.xml"
    path.write_text(ARM)
    return derive_card("toy", path, **OPTIONS)


def why_not_here(card: Card) -> str:
    """Why the model of a card cannot be loaded here; empty if it can."""
    try:
        model_files(card)
    except MissingError as error:
        return f"{error.message}; {error.hint}"
    return ""


def shipped_with_models() -> list:
    """Every shipped card with a model; skipped, with the reason, where that is not here."""
    marks = []
    for card, _ in list_cards():
        if card.model is not None:
            reason = why_not_here(card)
            skip = pytest.mark.skipif(bool(reason), reason=reason)
            marks.append(pytest.param(card, id=card.name, marks=skip))
    return marks
