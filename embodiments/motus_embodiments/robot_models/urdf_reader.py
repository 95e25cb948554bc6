"""URDF for MuJoCo: what its own reader passes over (package paths, mimic joints, odd inertias)."""

import logging
import math
import re
from functools import cache
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np

from motus_embodiments.errors import DataError
from motus_embodiments.physics import mujoco

_READABLE = (".stl", ".obj", ".msh")
_SETTINGS = {
    "fusestatic": "false",  # links keep their frames
    "discardvisual": "false",
    "balanceinertia": "true",
    "boundmass": "1e-4",
    "boundinertia": "1e-8",
}
_INERTIA = ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
_PREFIX = re.compile(r"(?:</?|\s)(?!xml)([A-Za-z_][\w-]*):[\w-]")
_DECLARED = re.compile(r"xmlns:([\w-]+)=")
_log = logging.getLogger(__name__)


def urdf_spec(path: Path) -> mujoco.MjSpec:
    """Parse a URDF file; mimic joints become equality constraints.

    Meshes are looked for beside the file and, for package:// addresses, in the folders above it.
    A picture (`visual`) in a format that MuJoCo does not read is left out with a warning where no
    .obj or .stl of the same name lies beside it; collision shapes must be there.

    Raises:
        DataError: It is no URDF, a xacro file, or lacks a mesh of a collision shape.
    """
    root = _parse(path)
    if root.tag != "robot":
        raise DataError(f"{path} is no URDF: it begins with <{root.tag}>", where=str(path))
    _resolve_meshes(root, path)
    _drop_odd_inertias(root)
    _set_up(root)
    spec = mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"))
    for joint in root.iter("joint"):
        mimic = joint.find("mimic")
        if mimic is None:
            continue
        equality = spec.add_equality()
        equality.type = mujoco.mjtEq.mjEQ_JOINT
        equality.objtype = mujoco.mjtObj.mjOBJ_JOINT
        equality.name1, equality.name2 = joint.get("name", ""), mimic.get("joint", "")
        offset, multiplier = mimic.get("offset", "0"), mimic.get("multiplier", "1")
        equality.data[:5] = [float(offset), float(multiplier), 0, 0, 0]
    return spec


def velocities(path: Path) -> dict[str, float]:
    """Velocity limit of each joint that has one, in rad/s or m/s.

    Raises:
        DataError: One of them is no number.
    """
    found = {}
    for joint in _parse(path).iter("joint"):
        limit = joint.find("limit")
        text = limit.get("velocity", "0") if limit is not None else "0"
        name = joint.get("name", "")
        try:
            speed = float(text)
        except ValueError as error:
            raise DataError(
                f"the velocity limit of joint '{name}' is '{text}', in {path}",
                hint="write it as a number there, in rad/s or m/s",
                where=str(path),
            ) from error
        if 0 < speed < math.inf:
            found[name] = speed
    return found


def _parse(path: Path) -> Element:
    """The file's tree, without what other programs' prefixes (such as drake:) are for.

    Raises:
        DataError: It is no XML, or a xacro file, which has to be run first.
    """
    try:
        text = path.read_text(encoding="utf-8")
        prefixes = set(_PREFIX.findall(text)) - set(_DECLARED.findall(text))
        declared = "".join(f' xmlns:{prefix}="urn:{prefix}"' for prefix in sorted(prefixes))
        root = ElementTree.fromstring(text.replace("<robot", f"<robot{declared}", 1).encode())
    except (ElementTree.ParseError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path} is no XML file: {error}", where=str(path)) from error
    if path.suffix.lower() == ".xacro" or any(map(_is_xacro, root.iter())):
        raise DataError(
            f"{path} is a xacro file, which has yet to be made a URDF",
            hint=f"xacro {path} > robot.urdf, then give robot.urdf",
            where=str(path),
        )
    for parent in list(root.iter()):
        for name in [name for name in parent.attrib if name.startswith("{")]:
            del parent.attrib[name]
        for child in list(parent):
            if isinstance(child.tag, str) and child.tag.startswith("{"):
                parent.remove(child)
    return root


def _is_xacro(element: Element) -> bool:
    """Whether an element is xacro's own, or has a value that xacro has to fill in."""
    is_own = isinstance(element.tag, str) and element.tag.partition("}")[0].endswith("xacro")
    return is_own or any("${" in value or "$(" in value for value in element.attrib.values())


def _set_up(root: Element) -> None:
    """MuJoCo's settings, below those that the file itself has."""
    section = root.find("mujoco")
    if section is None:
        section = ElementTree.SubElement(root, "mujoco")
    compiler = section.find("compiler")
    if compiler is None:
        compiler = ElementTree.SubElement(section, "compiler")
    compiler.attrib.pop("meshdir", None)  # meshes have whole paths by now
    compiler.set("strippath", "false")
    for key, value in _SETTINGS.items():
        compiler.attrib.setdefault(key, value)


def _resolve_meshes(root: Element, path: Path) -> None:
    compiler = root.find("mujoco/compiler")
    folder = path.parent / ("" if compiler is None else compiler.get("meshdir", ""))
    for link in root.iter("link"):
        for shape in [*link.findall("visual"), *link.findall("collision")]:
            mesh = shape.find("geometry/mesh")
            if mesh is None:
                continue
            address = mesh.get("filename", "")
            file = _find(address, folder, path.parent)
            if file is not None:
                mesh.set("filename", str(file))
            elif shape.tag == "visual":
                _tell_left_out(path, address)
                link.remove(shape)
            else:
                raise DataError(
                    f"the robot model {path} needs {address}, which is not there",
                    hint="fetch the model's folder whole, meshes included (.stl or .obj)",
                    where=str(path),
                )


@cache
def _tell_left_out(path: Path, address: str) -> None:
    """Once in a process, however often the model is loaded."""
    _log.warning("%s: %s cannot be drawn, it is left out", path.name, address)


def _find(address: str, *folders: Path) -> Path | None:
    """The readable mesh file of an address, whole; None where there is none."""
    scheme, _, rest = address.rpartition("://")
    places = [folder / rest for folder in folders]
    if scheme == "package":  # package://NAME/meshes/a.stl, with NAME a folder at or above ours
        inside = rest.partition("/")[2]
        for above in (folders[-1], *folders[-1].parents):
            places += [above / rest, above / inside]
    for place in places:
        for file in (place, *(place.with_suffix(suffix) for suffix in _READABLE)):
            if file.suffix.lower() in _READABLE and file.is_file():
                return file.resolve()
    return None


def _drop_odd_inertias(root: Element) -> None:
    """Inertias that no body can have are left to MuJoCo, which takes them from the shapes."""
    for link in root.iter("link"):
        inertial = link.find("inertial")
        if inertial is None:
            continue
        given, mass = inertial.find("inertia"), inertial.find("mass")
        if given is None or mass is None or float(mass.get("value", "0")) <= 0:
            link.remove(inertial)
            continue
        xx, yy, zz, xy, xz, yz = (float(given.get(name, "0")) for name in _INERTIA)
        matrix = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        if np.linalg.eigvalsh(matrix).min() <= 0:
            link.remove(inertial)
