"""A card's robot and its surroundings in cuRobo's own files, written without cuRobo.

The tables below are cuRobo's (`KinematicsLoaderCfg`, `CSpaceParams`, `SceneCfg` of its version 2),
as far as they are used: the configuration is checked against them before it is written.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import yaml
from jaxtyping import Float
from numpy import ndarray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from motus_embodiments.cards import write_text
from motus_embodiments.curobo.sphere_model import SphereModel
from motus_embodiments.kinematics import Kinematics, gripper_column
from motus_embodiments.robot_models.urdf_writer import BASE, Tree, write_urdf
from motus_embodiments.schema import Card

FORMAT = 2.0  # of the robot files of cuRobo v2

Vector = tuple[float, float, float]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Sphere(_Table):
    """A sphere in the frame of its link, in m."""

    center: Vector
    radius: Annotated[float, Field(gt=0)]


class Cspace(_Table):
    """The joints that move (`CSpaceParams`)."""

    joint_names: tuple[str, ...] = Field(min_length=1)
    default_joint_position: tuple[float, ...]
    null_space_weight: tuple[float, ...]
    cspace_distance_weight: tuple[float, ...]
    max_acceleration: Annotated[float, Field(gt=0)] = 10.0
    max_jerk: Annotated[float, Field(gt=0)] = 500.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        lengths = {len(value) for value in vars(self).values() if isinstance(value, tuple)}
        if len(lengths) > 1 or len(set(self.joint_names)) < len(self.joint_names):
            raise ValueError("cspace: one number for each of the joints, each named once")
        return self


class KinematicsFile(_Table):
    """The links, their spheres, and the pairs that may touch (`KinematicsLoaderCfg`)."""

    urdf_path: str
    base_link: str
    tool_frames: tuple[str, ...] = Field(min_length=1)
    collision_link_names: tuple[str, ...]
    collision_spheres: dict[str, tuple[Sphere, ...]]
    self_collision_ignore: dict[str, tuple[str, ...]]
    # cuRobo copies it while it builds the pairs, so it has to be there.
    self_collision_buffer: dict[str, float]
    cspace: Cspace
    format_version: float = FORMAT

    @model_validator(mode="after")
    def _check(self) -> Self:
        if set(self.collision_link_names) != set(self.collision_spheres):
            raise ValueError("collision_link_names and collision_spheres differ")
        named = {*self.self_collision_ignore, *sum(self.self_collision_ignore.values(), ())}
        if strange := sorted(
            (named | set(self.self_collision_buffer)) - set(self.collision_spheres)
        ):
            raise ValueError(f"pairs name {strange[0]}, which has no spheres")
        return self


class Cuboid(_Table):
    """A box; its pose is x y z qw qx qy qz."""

    dims: Vector
    pose: tuple[float, float, float, float, float, float, float]


class RobotFile(_Table):
    """A robot file: `robot_cfg` around the kinematics."""

    kinematics: KinematicsFile


class SceneFile(_Table):
    """A scene file (`SceneCfg.create`)."""

    cuboid: dict[str, Cuboid]


@dataclass(frozen=True)
class CuroboFiles:
    """What was written.

    Attributes:
        robot: The robot file.
        scene: The scene file.
        urdf: The kinematic tree that the robot file names.
        tools: Link of each arm's end-effector, in the order of the card's arms.
        joints: Joints that move, in the order of the card's arms.
    """

    robot: Path
    scene: Path
    urdf: Path
    tools: tuple[str, ...]
    joints: tuple[str, ...]


def write_curobo(
    folder: Path,
    kinematics: Kinematics,
    spheres: SphereModel,
    speed: Float[ndarray, " n"],
) -> CuroboFiles:
    """Write a robot's URDF, robot file and scene file for cuRobo.

    Fingers stand still there, as wide open as they go. Paths in the files are absolute, since
    cuRobo looks for relative ones in its own folder.

    Args:
        folder: Where to.
        kinematics: Of the card, with the limits that are to be kept.
        spheres: The robot as spheres.
        speed: Speed limit of every channel of a state.
    """
    card = kinematics.card
    names = [channel.name for channel in card.state_channels]
    tree = write_urdf(kinematics, open_home(card), dict(zip(names, speed.tolist(), strict=True)))
    folder = folder.resolve()
    files = CuroboFiles(
        robot=folder / f"{card.name}.yml",
        scene=folder / f"{card.name}_scene.yml",
        urdf=folder / f"{card.name}.urdf",
        tools=tree.tools,
        joints=tree.joints,
    )
    robot = RobotFile(kinematics=_kinematics_file(card, tree, spheres, str(files.urdf)))
    scene = SceneFile(
        cuboid={
            box.name: Cuboid(dims=box.dims, pose=(*box.position, *box.quaternion))
            for box in spheres.obstacles
        }
    )
    write_text(files.urdf, tree.xml)
    write_text(files.robot, _yaml({"robot_cfg": robot.model_dump(mode="json")}))
    write_text(files.scene, _yaml(scene.model_dump(mode="json")))
    return files


def open_home(card: Card) -> Float[ndarray, " n"]:
    """The home state with open grippers."""
    state = np.array(card.home())
    for arm in card.arms:
        if arm.gripper:
            state[gripper_column(card, arm)] = 1.0
    return state


def _kinematics_file(card: Card, tree: Tree, spheres: SphereModel, urdf: str) -> KinematicsFile:
    links = {tree.links[body]: found for body, found in spheres.spheres.items()}
    ignored: dict[str, list[str]] = {}
    for a, b in sorted(spheres.ignored):
        ignored.setdefault(tree.links[a], []).append(tree.links[b])
    home = tuple(joint.home for arm in card.arms for joint in arm.joints)
    ones = (1.0,) * len(tree.joints)
    return KinematicsFile(
        urdf_path=urdf,
        base_link=BASE,
        tool_frames=tree.tools,
        collision_link_names=tuple(links),
        collision_spheres={
            link: tuple(
                Sphere(center=tuple(np.round(center, 5).tolist()), radius=round(float(radius), 5))
                for center, radius in zip(found.centers, found.radii, strict=True)
            )
            for link, found in links.items()
        },
        self_collision_ignore={link: tuple(others) for link, others in ignored.items()},
        self_collision_buffer={},
        cspace=Cspace(
            joint_names=tree.joints,
            default_joint_position=home,
            null_space_weight=ones,
            cspace_distance_weight=ones,
        ),
    )


def _yaml(data: object) -> str:
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=100)
