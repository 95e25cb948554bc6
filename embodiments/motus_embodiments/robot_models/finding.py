"""Robot model files: find them, load them, say clearly what is missing."""

import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path

from motus_embodiments.errors import DataError, MissingError, UsageError
from motus_embodiments.physics import mujoco
from motus_embodiments.robot_models.urdf_reader import urdf_spec
from motus_embodiments.schema import Card, RobotModel

MENAGERIE = "MENAGERIE_ROOT"


def find_model(card: Card) -> Path:
    """The card's model file: its own file, then a pip package's, then MuJoCo Menagerie's.

    Raises:
        MissingError: None of them is here; the hint says how to get one.
    """
    if card.model is None:
        raise MissingError(
            f"the card '{card.name}' has no robot model, which poses and pictures need",
            hint="name one in a card of your own: motus add-embodiment NAME --model FILE",
        )
    return _find(card.model, card.name)


def model_files(card: Card) -> list[Path]:
    """The card's model file, then those of what it attaches.

    Raises:
        MissingError: One of them is not here.
    """
    attached = card.model.attach if card.model else ()
    return [find_model(card), *(_find(part.model, card.name) for part in attached)]


def _find(model: RobotModel, name: str) -> Path:
    tried: list[str] = []
    for path in (_own(model), _packaged(model), _menagerie(model)):
        if path is not None and path.is_file():
            return path
        if path is not None:
            tried.append(str(path))
    looked = f" (looked at {', '.join(tried)})" if tried else ""
    raise MissingError(f"no robot model for '{name}' is here{looked}", hint=_how_to_get(model))


def _own(model: RobotModel) -> Path | None:
    return None if model.file is None else Path(model.file)


def _packaged(model: RobotModel) -> Path | None:
    """The file of an installed package, found without importing the package.

    Packages keep their models inside, or in the environment's `share` folder.
    """
    if model.package is None or model.path is None:
        return None
    spec = importlib.util.find_spec(model.package)
    if spec is None:
        return None
    inside = Path(next(iter(spec.submodule_search_locations or ()), "")) / model.path
    share = Path(sys.prefix) / "share" / model.package / model.path
    return share if share.is_file() and not inside.is_file() else inside


def _menagerie(model: RobotModel) -> Path | None:
    """The file under MENAGERIE_ROOT, or what the package mujoco-menagerie has downloaded."""
    if model.menagerie is None:
        return None
    if root := os.environ.get(MENAGERIE):
        return Path(root) / model.menagerie
    try:
        package = importlib.import_module("mujoco_menagerie")
    except ImportError:
        return None
    name, _, file = model.menagerie.partition("/")
    if name not in package.names():
        return None
    robot, cache = package.get(name), package.Cache()
    return Path(cache.model_path(robot)) / file if cache.is_cached(robot) else None


def _how_to_get(model: RobotModel) -> str:
    ways = []
    if model.package:
        name = f"'motus-cli[{model.extra}]'" if model.extra else model.package
        ways.append(f"pip install {name}")
    if model.menagerie:
        name = model.menagerie.partition("/")[0]
        ways.append(
            f"pip install mujoco-menagerie && mujoco-menagerie prefetch {name} (it downloads), or "
            f"point {MENAGERIE} at a copy of MuJoCo Menagerie"
        )
    if model.file:
        ways.append(f"put the model back at {model.file}")
    return ", or ".join(ways)


def packaged(given: str | Path) -> RobotModel | None:
    """The model that PACKAGE:PATH means; None where the text has not that form."""
    package, _, inside = str(given).partition(":")
    if not (package.isidentifier() and inside):
        return None
    return RobotModel(package=package, path=inside)


def model_file(given: str | Path) -> Path:
    """The model file a user means by a file, a folder, PACKAGE:PATH, or a Menagerie name.

    PACKAGE:PATH is a file of an installed pip package; a Menagerie name is such as `panda/x.xml`.

    Raises:
        UsageError: Nothing there, or a folder with several models.
    """
    path = Path(given)
    root = os.environ.get(MENAGERIE)
    if not path.exists() and root and (Path(root) / path).exists():
        path = Path(root) / path
    inside = packaged(given)
    if not path.exists() and inside is not None:
        path = _packaged(inside) or path
    if not path.exists():
        raise UsageError(
            f"no robot model at {given}",
            hint="give an MJCF or URDF file, PACKAGE:PATH for one of an installed package, or set "
            f"{MENAGERIE} for MuJoCo Menagerie's names",
        )
    if path.is_file():
        return path.resolve()
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in (".xml", ".urdf"))
    scenes = [file for file in files if file.name == "scene.xml"]
    if len(scenes or files) != 1:
        names = ", ".join(file.name for file in files) or "no .xml and no .urdf"
        raise UsageError(f"{path} holds {names}", hint="name the one file that is the robot")
    return (scenes or files)[0].resolve()


def load_spec(path: Path) -> mujoco.MjSpec:
    """Parse an MJCF or URDF file; links of a URDF keep their frames.

    Raises:
        DataError: The file is not a robot model that MuJoCo reads.
    """
    try:
        if path.suffix.lower() in (".urdf", ".xacro"):
            return urdf_spec(path)
        return mujoco.MjSpec.from_file(str(path))
    except (ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def load_card_spec(card: Card) -> mujoco.MjSpec:
    """Parse the model of a card, with what the card attaches to it.

    Raises:
        MissingError: The model, or one that is attached, is not here.
        DataError: One of them cannot be read, or has no site of the card's name.
    """
    path, *parts = model_files(card)
    spec = load_spec(path)
    assert card.model is not None
    for attachment, part in zip(card.model.attach, parts, strict=True):
        site = spec.site(attachment.site)
        if site is None:
            raise DataError(
                f"the card '{card.name}' names the site '{attachment.site}', which {path} does "
                "not have",
                hint=f"it has: {', '.join(s.name for s in spec.sites if s.name) or 'none'}",
                where=str(path),
            )
        try:
            spec.attach(load_spec(part), prefix=attachment.prefix, site=site)
        except (ValueError, RuntimeError) as error:
            raise _unreadable(part, error) from error
    return spec


def compile_spec(spec: mujoco.MjSpec, path: Path) -> mujoco.MjModel:
    """Compile a parsed model, with the missing mesh or texture named if there is one.

    Raises:
        DataError: MuJoCo cannot compile it.
    """
    try:
        return spec.compile()
    except (ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error


def load_model(path: Path) -> mujoco.MjModel:
    """Load an MJCF or URDF file.

    Raises:
        DataError: MuJoCo cannot read it; a missing mesh is named.
    """
    return compile_spec(load_spec(path), path)


def load_card_model(card: Card) -> mujoco.MjModel:
    """Load the model of a card, with what it attaches."""
    return compile_spec(load_card_spec(card), find_model(card))


def _unreadable(path: Path, error: Exception) -> DataError:
    text = " ".join(str(error).split())
    lost = re.search(r"(?:opening|open|find|resource) (?:file )?'([^']+)'", text)
    if lost and not Path(lost[1]).is_file():
        return DataError(
            f"the robot model {path} needs {lost[1]}, which is not there",
            hint="fetch the model's folder whole, meshes included",
            where=str(path),
        )
    return DataError(
        f"cannot load the robot model {path}: {text}",
        hint="give an MJCF or URDF file that MuJoCo loads",
        where=str(path),
    )
