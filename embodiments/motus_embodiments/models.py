"""Robot model files: find them, load them, say clearly what is missing."""

import importlib.util
import os
import re
from pathlib import Path

from motus_embodiments.errors import DataError, MissingError, UsageError
from motus_embodiments.physics import mujoco
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
    tried: list[str] = []
    for path in (_own(card.model), _packaged(card.model), _menagerie(card.model)):
        if path is not None and path.is_file():
            return path
        if path is not None:
            tried.append(str(path))
    looked = f" (looked at {', '.join(tried)})" if tried else ""
    raise MissingError(
        f"no robot model for '{card.name}' is here{looked}", hint=_how_to_get(card.model)
    )


def _own(model: RobotModel) -> Path | None:
    return None if model.file is None else Path(model.file)


def _packaged(model: RobotModel) -> Path | None:
    """The file inside an installed package, found without importing the package."""
    if model.package is None or model.path is None:
        return None
    spec = importlib.util.find_spec(model.package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / model.path


def _menagerie(model: RobotModel) -> Path | None:
    root = os.environ.get(MENAGERIE)
    return Path(root) / model.menagerie if root and model.menagerie else None


def _how_to_get(model: RobotModel) -> str:
    ways = []
    if model.package:
        name = f"'motus-cli[{model.extra}]'" if model.extra else model.package
        ways.append(f"pip install {name}")
    if model.menagerie:
        ways.append(f"point {MENAGERIE} at a copy of MuJoCo Menagerie")
    if model.file:
        ways.append(f"put the model back at {model.file}")
    return ", or ".join(ways)


def model_file(given: str | Path) -> Path:
    """The model file a user means by a file, a folder, or a Menagerie name such as `panda/x.xml`.

    Raises:
        UsageError: Nothing there, or a folder with several models.
    """
    path = Path(given)
    root = os.environ.get(MENAGERIE)
    if not path.exists() and root and (Path(root) / path).exists():
        path = Path(root) / path
    if not path.exists():
        raise UsageError(
            f"no robot model at {given}",
            hint=f"give an MJCF or URDF file, or set {MENAGERIE} for MuJoCo Menagerie's names",
        )
    if path.is_file():
        return path.resolve()
    files = sorted([*path.glob("*.xml"), *path.glob("*.urdf")])
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
        spec = mujoco.MjSpec.from_file(str(path))
    except (ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error
    if path.suffix == ".urdf":
        spec.compiler.fusestatic = False
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
    """Load the model of a card."""
    return load_model(find_model(card))


def _unreadable(path: Path, error: Exception) -> DataError:
    text = " ".join(str(error).split())
    lost = re.search(r"(?:opening|open|find|resource) (?:file )?'([^']+)'", text)
    if lost and not Path(lost[1]).is_file():
        return DataError(
            f"the robot model {path} needs {lost[1]}, which is not there",
            hint="fetch the model's folder whole, meshes included",
            where=str(path),
        )
    return DataError(f"cannot load the robot model {path}: {text}", where=str(path))
