"""A recipe in full: its file, `--set` changes, and where every value comes from."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from motus_embodiments import UsageError, nearest
from motus_model import SIZES, ModelConfig, Motus, Window, vlm_parameters
from motus_recipes.catalogue import list_recipes, read_table
from motus_recipes.schema import RecipeSpec


@dataclass(frozen=True)
class Recipe:
    """A recipe and where its values come from.

    Attributes:
        origins: Of the values that are no defaults, by dotted key: a file, or `--set`.
    """

    spec: RecipeSpec
    path: Path
    origins: Mapping[str, str]

    @property
    def model(self) -> ModelConfig:
        """The model of the recipe's size with the recipe's window."""
        return replace(SIZES[self.spec.size], window=Window(**self.spec.window.model_dump()))

    def resolved(self) -> dict[str, dict[str, Any]]:
        """Every value by its dotted key, with its origin."""
        return {
            key: {"value": value, "origin": self.origins.get(key, "default")}
            for key, value in _flatten(self.spec.model_dump(mode="json")).items()
        }


def load_recipe(name: str, size: str = "tiny", overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name and size, or by path.

    Args:
        name: As listed, or the path of a YAML file.
        size: One of the model sizes.
        overrides: `a.b=c`; list items are named by their `name` or number.

    Raises:
        UsageError: For an unknown name, size, key or value.
    """
    stage = None
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"no recipe file '{path}'", where=str(path))
    else:
        rows = list_recipes()
        sizes = {row.size: row for row in rows if row.name == name}
        if not sizes:
            raise UsageError(
                f"no recipe named '{name}'", hint=nearest(name, {row.name for row in rows})
            )
        info = sizes.get(None) or sizes.get(size)  # what is not valid is refused below
        if info is None:
            known = filter(None, sizes)
            raise UsageError(f"recipe '{name}' has no size '{size}'", hint=nearest(size, known))
        path, stage = info.path, info.stage
    data = read_table(path)
    if stage is not None:
        data = _alone(data, _validate(data, path), stage)
    written = _flatten(data)
    for change in overrides:
        _apply(data, change)
    spec = _validate(data, path)
    origins = {
        key: str(path) if key in written and written[key] == value else "--set"
        for key, value in _flatten(data).items()
    }
    return Recipe(spec, path, origins)


def describe(recipe: Recipe) -> dict[str, Any]:
    """Stages, datasets and parameter counts, without allocating any weight."""
    import torch

    model = recipe.model
    with torch.device("meta"):
        network = Motus(model.network)
    counts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in network.named_children()
    }
    if model.encoders is None:
        counts["vlm"] = vlm_parameters()
    return {
        "name": recipe.spec.name,
        "title": recipe.spec.title,
        "size": recipe.spec.size,
        "path": str(recipe.path),
        "parameters": counts,
        "window": recipe.spec.window.model_dump(),
        "datasets": [
            {"name": name, **dataset.model_dump()} for name, dataset in recipe.spec.datasets.items()
        ],
        "stages": [
            {
                "name": stage.name,
                "objective": stage.objective,
                "experts": list(stage.experts),
                "action": stage.action,
                "sources": stage.sources,
                "steps": stage.steps,
                "batch": stage.batch,
                "learning_rate": stage.optimizer.learning_rate,
            }
            for stage in recipe.spec.stages
        ],
    }


def _alone(data: dict[str, Any], spec: RecipeSpec, stage: str) -> dict[str, Any]:
    """A recipe of one stage of another, with the datasets that it names."""
    stages = [entry for entry in data["stages"] if entry["name"] == stage]
    named = next(entry.datasets for entry in spec.stages if entry.name == stage)
    datasets = {name: data["datasets"][name] for name in data["datasets"] if name in named}
    return {**data, "name": stage, "datasets": datasets, "stages": stages}


def _validate(data: dict[str, Any], path: Path) -> RecipeSpec:
    if str(data.get("size")) not in SIZES:
        raise UsageError(
            f"recipe {path} has size '{data.get('size')}'",
            hint=nearest(str(data.get("size")), SIZES),
            where=str(path),
        )
    try:
        return RecipeSpec.model_validate(data)
    except ValidationError as error:
        # A name that was misspelt may also be missing where it belongs: say the first of these.
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        place = [str(part) for part in first["loc"] if part != "[key]"]
        key = _by_name(place, data)
        if first["type"] == "extra_forbidden":
            raise UsageError(
                f"unknown key '{key}' in {path}",
                hint=nearest(place[-1], _siblings(place)),
                where=str(path),
            ) from error
        value, told = first.get("input"), first["msg"].removeprefix("Value error, ")
        if isinstance(value, str | int | float) and first["type"] != "missing":
            told = f"{told} (value {value!r})"
        raise UsageError(
            f"{path}: {key or 'recipe'}: {told}", hint=_alternative(first), where=str(path)
        ) from error


def _alternative(error: Any) -> str | None:
    """The nearest of the values or names that an error says are allowed."""
    context = error.get("ctx", {})
    match error["type"]:
        case "literal_error":
            return nearest(str(error["input"]), re.findall(r"'([^']+)'", context["expected"]))
        case "unknown_name":
            return nearest(context["wrong"], context["allowed"])
    return None


def _siblings(place: Sequence[str]) -> list[str]:
    """The keys that are allowed beside an unknown one."""
    model: type[BaseModel] = RecipeSpec
    for part in place[:-1]:
        if part in model.model_fields:
            model = _model_of(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The table that a field holds: alone, in a list, by name, or perhaps."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_of, get_args(annotation))), None)


def _apply(data: dict[str, Any], change: str) -> None:
    """Set one dotted key; the last part may be new only where a default stands."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {change} is not KEY=VALUE", hint="for example: seed=1")
    parts = key.split(".")
    target: Any = data
    for part in parts[:-1]:
        target = _child(target, part, key)
    if not isinstance(target, dict):
        raise UsageError(f"--set {key}: '{parts[-2]}' has no keys of its own")
    try:
        target[parts[-1]] = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(
            f"--set {key}: '{text}' is no value in YAML",
            hint="for example: 1, word, [a, b], {a: 1}, 'any text'",
        ) from error


def _child(parent: Any, part: str, key: str) -> Any:
    if isinstance(parent, list):
        names = _names(parent)
        if part.isdecimal() and int(part) < len(parent):
            return parent[int(part)]
        if part in names:
            return names[part]
        raise UsageError(f"--set {key}: nothing named '{part}'", hint=nearest(part, names))
    if not isinstance(parent, dict):
        raise UsageError(f"--set {key}: nothing has the key '{part}'")
    # A table that the file leaves out stands at its defaults; unknown ones are refused later.
    return parent.setdefault(part, {})


def _names(items: list[Any]) -> dict[str, Any]:
    """The items of a list by name, or by number where they have none."""
    are_tables = all(isinstance(item, dict) for item in items)
    return {
        str(item.get("name", index) if are_tables else index): item
        for index, item in enumerate(items)
    }


def _by_name(place: Sequence[str], value: Any) -> str:
    """A dotted key, with list items by name where an error has their numbers."""
    parts = []
    for part in place:
        if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
            part = str(value.get("name", part)) if isinstance(value, dict) else part
        else:
            value = value.get(part) if isinstance(value, dict) else None
        parts.append(part)
    return ".".join(parts)


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        items = _names(value).items()
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat
