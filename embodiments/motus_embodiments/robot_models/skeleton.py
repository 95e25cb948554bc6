"""A robot model without what only pictures and contacts need: bodies, joints, sites, couplings."""

import math
from collections.abc import Iterator

from motus_embodiments.physics import mujoco
from motus_embodiments.robot_models.finding import compile_spec, find_model, load_card_spec
from motus_embodiments.schema import Card

# Lists of a parsed model that forward kinematics and coupled fingers do without.
_DROPPED = (
    *("actuators", "sensors", "keys", "pairs", "excludes", "skins", "flexes", "tuples"),
    *("texts", "numerics", "geoms", "cameras", "lights", "meshes", "hfields", "materials"),
    "textures",
)


def kinematic_model(card: Card) -> str:
    """The card's robot as MJCF text that stands alone: no meshes, nothing but the robot.

    `Kinematics` gives the same poses from it, coupled fingers included. The same model file gives
    the same text.

    Raises:
        MissingError: The card's model is not here.
        DataError: MuJoCo cannot read it, or the fingers hang on something that is dropped.
    """
    path = find_model(card)
    spec = load_card_spec(card)
    model = compile_spec(spec, path)
    for body in spec.bodies[1:]:  # masses come from the geoms, which go
        at = model.body(body.name) if body.name else None
        if at is not None:
            body.mass, body.inertia = float(at.mass[0]), at.inertia
            body.ipos, body.iquat = at.ipos, at.iquat
        else:
            body.mass, body.inertia = 1e-3, [1e-6, 1e-6, 1e-6]
        body.fullinertia = [math.nan] * 6  # unset: the diagonal one above stands
        body.explicitinertial = True
    for name in _DROPPED:
        for element in list(getattr(spec, name)):
            spec.delete(element)
    kept = _needed(card)
    gone: set[str] = set()
    for body in list(spec.worldbody.bodies):
        if not kept & set(_names(body)):
            gone |= set(_names(body))
            spec.delete(body)
    for equality in list(spec.equalities):
        if {equality.name1, equality.name2} & gone:
            spec.delete(equality)
    spec.modelname = card.name
    spec.meshdir = spec.texturedir = ""
    spec.comment = ""
    compile_spec(spec, path)
    text: str = spec.to_xml()
    return text


def _needed(card: Card) -> set[str]:
    """Names of joints, sites and bodies that the card speaks of."""
    names = {joint.name for joint in card.joints}
    for arm in card.arms:
        names |= {joint.name for joint in arm.joints}
        names |= {name for name in (arm.end_effector, arm.base) if name}
        names |= set(arm.gripper.joints) if arm.gripper else set()
    return names


def _names(body: mujoco.MjsBody) -> Iterator[str]:
    """Names of a body, its joints and sites, and of everything below it."""
    yield body.name
    for part in (*body.joints, *body.sites):
        yield part.name
    for child in body.bodies:
        yield from _names(child)
