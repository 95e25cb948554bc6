"""The recipes that there are, by name and size. Needs no torch: a shell completes names with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from motus_embodiments import UsageError

LIBRARY = Path(__file__).parent / "library"
WHOLE = "full"  # the recipe whose stages can be run alone
OWN = Path("recipes")  # a user's own recipes win over the shipped ones

# PyYAML's own parser is slow; libyaml came with most of its builds.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class RecipeInfo:
    """One line of `motus recipes list`; a stage of `full` is a recipe, too, by its own name."""

    name: str
    size: str
    title: str
    path: Path
    stage: str | None = None


def list_recipes() -> list[RecipeInfo]:
    """Recipes of ./recipes and of the package, the user's own first."""
    rows: dict[tuple[str, str], RecipeInfo] = {}
    for path in (*sorted(LIBRARY.glob("*.yaml")), *sorted(OWN.glob("*.yaml"))):
        data = read_table(path)
        name, size = str(data.get("name")), str(data.get("size"))
        if name == WHOLE:
            for stage in data.get("stages", ()):
                title = f"{stage['name']} of {WHOLE} alone"
                rows.setdefault(
                    (stage["name"], size),
                    RecipeInfo(stage["name"], size, title, path, stage["name"]),
                )
        rows[name, size] = RecipeInfo(name, size, str(data.get("title", "")), path)
    return sorted(rows.values(), key=lambda row: (row.name, row.size))


def read_table(path: Path) -> dict[str, Any]:
    """What a recipe's file says, as it stands there.

    Raises:
        UsageError: It cannot be read, or is no table of keys and values.
    """
    try:
        data = yaml.load(path.read_text(), Loader=_Loader)
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read recipe {path}: {error}", where=str(path)) from error
    if not isinstance(data, dict):
        raise UsageError(f"recipe {path} is no table of keys and values", where=str(path))
    return data
