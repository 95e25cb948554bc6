"""A robot's kinematic tree as URDF: links, joints, limits; no shapes and no masses."""

from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.coupling import subtree
from motus_embodiments.kinematics import Kinematics
from motus_embodiments.physics import mujoco

BASE = "motus_world"  # the root link: the model's world frame

Pose = Float[ndarray, "4 4"]


@dataclass(frozen=True)
class Tree:
    """A kinematic tree.

    Attributes:
        xml: The URDF.
        links: Body of the model -> its link.
        tools: The link of each arm's end-effector, in the order of the card's arms.
        joints: Names of the joints that move, in the order of the card's arms.
    """

    xml: str
    links: dict[int, str]
    tools: tuple[str, ...]
    joints: tuple[str, ...]


def write_urdf(
    kinematics: Kinematics,
    state: Float[ndarray, " n"],
    speed: dict[str, float],
) -> Tree:
    """The arms of a robot as URDF; whatever is no joint of an arm stands as in `state`.

    Joints turn and slide about z, the only axes (with x and y) that cuRobo's parser knows, and
    read what the model's joints read.

    Args:
        kinematics: Of the card.
        state: A canonical state.
        speed: Joint -> largest speed in rad/s or m/s.
    """
    model, card = kinematics.model, kinematics.card
    assert model is not None
    writer = _Writer(kinematics, state, speed)
    bodies: set[int] = set()
    for arm in card.arms:
        joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, arm.joints[0].name)
        first = int(model.jnt_bodyid[joint])
        bodies |= subtree(model, first)
        while (first := int(model.body_parentid[first])) != 0:
            bodies.add(first)
    for body in sorted(bodies):  # parents come before children in a model
        writer.add_body(body)
    tools = [
        writer.add_tool(f"{arm.side}_tool", frame.is_site, frame.id)
        for arm, frame in zip(card.arms, kinematics.frames, strict=True)
    ]
    ElementTree.indent(writer.root)
    joints = tuple(joint.name for arm in card.arms for joint in arm.joints)
    xml = ElementTree.tostring(writer.root, encoding="unicode") + "\n"
    return Tree(xml, writer.links, tuple(tools), joints)


class _Writer:
    def __init__(
        self, kinematics: Kinematics, state: Float[ndarray, " n"], speed: dict[str, float]
    ) -> None:
        assert kinematics.model is not None
        self.root = ElementTree.Element("robot", name=kinematics.card.name)
        self.links: dict[int, str] = {}
        self._model = kinematics.model
        self._qpos = kinematics.qpos(state[None])[0]
        self._speed = speed
        self._limits = {
            joint.name: (low, high)
            for arm, frame in zip(kinematics.card.arms, kinematics.frames, strict=True)
            for joint, low, high in zip(arm.joints, frame.low, frame.high, strict=True)
        }
        self._names = {BASE}
        ElementTree.SubElement(self.root, "link", name=BASE)

    def add_body(self, body: int) -> None:
        """A link for a body, and one for each of its moving joints."""
        model = self._model
        parent = self.links.get(int(model.body_parentid[body]), BASE)
        offset = _pose(model.body_pos[body], model.body_quat[body])
        for joint in self._joints(body):
            name, anchor = model.joint(joint).name, _pose(model.jnt_pos[joint])
            slides = model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_SLIDE
            turned = offset @ anchor @ _onto(model.jnt_axis[joint])
            back = np.linalg.inv(anchor @ _onto(model.jnt_axis[joint]))
            at = int(model.jnt_qposadr[joint])
            if name in self._limits:
                parent = self._add_joint(parent, name, turned, float(model.qpos0[at]), slides)
                offset = back
            else:
                offset = turned @ _about_z(self._qpos[at] - model.qpos0[at], slides) @ back
        self.links[body] = self._add_link(model.body(body).name or f"body{body}", parent, offset)

    def add_tool(self, name: str, is_site: bool, index: int) -> str:
        """A link for an end-effector."""
        model = self._model
        if not is_site:
            return self._add_link(name, self.links[index], np.eye(4))
        offset = _pose(model.site_pos[index], model.site_quat[index])
        return self._add_link(name, self.links[int(model.site_bodyid[index])], offset)

    def _joints(self, body: int) -> Iterator[int]:
        start, count = int(self._model.body_jntadr[body]), int(self._model.body_jntnum[body])
        scalar = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
        return (j for j in range(start, start + count) if self._model.jnt_type[j] in scalar)

    def _add_joint(self, parent: str, name: str, frame: Pose, zero: float, slides: bool) -> str:
        """A moving joint about or along z of `frame`, which reads `zero` there; its link."""
        link = self._name(f"{name}_link")
        kind = "prismatic" if slides else "revolute"
        joint = self._connect(name, kind, parent, link, frame @ _about_z(-zero, slides))
        ElementTree.SubElement(joint, "axis", xyz="0 0 1")
        low, high = self._limits[name]
        ElementTree.SubElement(
            joint,
            "limit",
            lower=repr(float(low)),
            upper=repr(float(high)),
            velocity=repr(self._speed[name]),
            effort="100.0",
        )
        return link

    def _add_link(self, name: str, parent: str, offset: Pose) -> str:
        link = self._name(name)
        self._connect(f"{link}_fixed", "fixed", parent, link, offset)
        return link

    def _connect(
        self, name: str, kind: str, parent: str, link: str, origin: Pose
    ) -> ElementTree.Element:
        ElementTree.SubElement(self.root, "link", name=link)
        joint = ElementTree.SubElement(self.root, "joint", name=name, type=kind)
        ElementTree.SubElement(joint, "parent", link=parent)
        ElementTree.SubElement(joint, "child", link=link)
        xyz, rpy = (" ".join(repr(float(x)) for x in v) for v in (origin[:3, 3], _rpy(origin)))
        ElementTree.SubElement(joint, "origin", xyz=xyz, rpy=rpy)
        return joint

    def _name(self, wanted: str) -> str:
        name, number = wanted, 2
        while name in self._names:
            name, number = f"{wanted}_{number}", number + 1
        self._names.add(name)
        return name


def _pose(position: Float[ndarray, " 3"], quaternion: Float[ndarray, " 4"] | None = None) -> Pose:
    pose, matrix = np.eye(4), np.eye(3).ravel()
    if quaternion is not None:
        mujoco.mju_quat2Mat(matrix, quaternion)
    pose[:3, :3], pose[:3, 3] = matrix.reshape(3, 3), position
    return pose


def _onto(axis: Float[ndarray, " 3"]) -> Pose:
    """The turn that takes z onto an axis."""
    quaternion = np.zeros(4)
    mujoco.mju_quatZ2Vec(quaternion, axis)
    return _pose(np.zeros(3), quaternion)


def _about_z(amount: float, slides: bool) -> Pose:
    if slides:
        return _pose(np.array([0.0, 0.0, amount]))
    return _pose(np.zeros(3), np.array([np.cos(amount / 2), 0, 0, np.sin(amount / 2)]))


def _rpy(pose: Pose) -> tuple[float, float, float]:
    """Roll, pitch, yaw about fixed axes: R = Rz(yaw) Ry(pitch) Rx(roll)."""
    R = pose[:3, :3]
    pitch = float(np.arctan2(-R[2, 0], np.hypot(R[0, 0], R[1, 0])))
    if np.hypot(R[0, 0], R[1, 0]) < 1e-9:  # yaw and roll turn about the same axis
        return float(np.arctan2(-R[1, 2], R[1, 1])), pitch, 0.0
    return float(np.arctan2(R[2, 1], R[2, 2])), pitch, float(np.arctan2(R[1, 0], R[0, 0]))
