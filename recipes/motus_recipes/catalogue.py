"""The recipes that there are, by name and size. Needs no torch: a shell completes names with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from motus_embodiments import UsageError
from motus_embodiments.yaml_loader import Loader

LIBRARY = Path(__file__).parent / "library"
WHOLE = "full"  # the recipe whose stages can be run alone
OWN = Path("recipes")  # a user's own recipes win over the shipped ones


@dataclass(frozen=True)
class RecipeInfo:
    """One line of `motus recipes list`; a stage of `full` is a recipe, too, by its own name.

    A file that can't be read, or says no name and size, has no size; `load_recipe` says why.
    """

    name: str
    size: str | None
    title: str
    path: Path
    stage: str | None = None


def list_recipes() -> list[RecipeInfo]:
    """Recipes of ./recipes and of the package; a user's own hides a shipped one."""
    files = (*sorted(LIBRARY.glob("*.yaml")), *sorted(OWN.glob("*.yaml")))
    tables = {path: _read(path) for path in files}
    rows: dict[tuple[str, str | None], RecipeInfo] = {}
    for path, data in tables.items():
        info = _info(path, data)
        rows[info.name, info.size] = info
    for whole in [row for row in rows.values() if row.name == WHOLE]:
        for name in _stage_names(tables[whole.path]):
            alone = RecipeInfo(name, whole.size, f"{name} of {WHOLE} alone", whole.path, name)
            rows.setdefault((name, whole.size), alone)
    return sorted(rows.values(), key=lambda row: (row.name, row.size or ""))


def _read(path: Path) -> dict[str, Any]:
    """What a file says; nothing where it can't be read."""
    try:
        return read_table(path)
    except UsageError:
        return {}


def _info(path: Path, data: dict[str, Any]) -> RecipeInfo:
    name, size = data.get("name"), data.get("size")
    if isinstance(name, str) and isinstance(size, str):
        return RecipeInfo(name, size, str(data.get("title", "")), path)
    name = path.name.partition(".")[0]
    return RecipeInfo(name, None, f"not valid; `motus recipes show {name}` says why", path)


def _stage_names(data: dict[str, Any]) -> list[str]:
    stages = data.get("stages")
    tables = [s for s in stages if isinstance(s, dict)] if isinstance(stages, list) else []
    return [table["name"] for table in tables if isinstance(table.get("name"), str)]


def read_table(path: Path) -> dict[str, Any]:
    """What a recipe's file says, as it stands there.

    Raises:
        UsageError: It cannot be read, or is no table of keys and values.
    """
    try:
        data = yaml.load(path.read_bytes(), Loader=Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        told = str(error).replace("\n", " ")
        raise UsageError(f"cannot read recipe {path}: {told}", where=str(path)) from error
    if not isinstance(data, dict):
        raise UsageError(f"recipe {path} is no table of keys and values", where=str(path))
    return data
