"""The datasets of a recipe: where they are, and what they are."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motus_adapters import Header, UnifiedDataset, half_written, is_half_written
from motus_embodiments import DataError, MismatchError, UsageError, nearest
from motus_recipes.library import Recipe
from motus_recipes.schema import DatasetSpec

DATA = Path("data")  # where datasets are looked for when none is named


def find_datasets(
    recipe: Recipe, given: Mapping[str, Path]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The path of each dataset of a recipe, and the optional ones that are not there.

    Raises:
        UsageError: For a name that the recipe doesn't have, or where several datasets under ./data
            could be meant.
        DataError: When a required one is missing, or has another level than the recipe says.
        MismatchError: When the latent actions to learn from are not all of one codec and flow, or
            the native ones of a stage not all of one robot.
    """
    specs = recipe.spec.datasets
    for name in given:
        if name not in specs:
            raise UsageError(
                f"recipe '{recipe.spec.name}' has no dataset '{name}'", hint=nearest(name, specs)
            )
    found: dict[str, Path] = {}
    robot = None
    for name, spec in sorted(specs.items(), key=lambda entry: -entry[1].level):
        own = Path(spec.path).expanduser() if spec.path else None
        path = given.get(name) or own or _by_level(name, spec, robot)
        if path is not None and not spec.required and name not in given and not path.exists():
            path = None  # where the recipe would have it
        if path is not None:
            meta = UnifiedDataset(path).meta
            if meta.level != spec.level:
                raise DataError(
                    f"dataset '{name}' must be of level {spec.level}; {path} is of level "
                    f"{meta.level}",
                    hint="motus convert --level sets it",
                    where=str(path),
                )
            found[name], robot = path, robot or meta.card.name
        elif spec.required:
            _refuse_half_written()
            raise DataError(
                f"recipe '{recipe.spec.name}' needs a dataset '{name}' of level {spec.level}, "
                f"and there is none under ./{DATA}",
                hint=f"motus convert SOURCE data/{name} makes one; --data {name}=PATH names one",
            )
    paths = {name: found[name] for name in specs if name in found}
    _refuse_mixed_latents(recipe, paths)
    _refuse_mixed_robots(recipe, paths)
    return paths, tuple(name for name in specs if name not in found)


def _refuse_mixed_latents(recipe: Recipe, paths: Mapping[str, Path]) -> None:
    """The same 14 numbers of two codecs mean two things; a recipe's own codec labels all anew."""
    makers: dict[tuple[str, str | None], str] = {}
    for stage in recipe.spec.stages:
        if stage.objective == "codec":
            return
        for name in stage.sources if stage.action == "latent" else ():
            meta = UnifiedDataset(paths[name]).meta if name in paths else None
            if meta is not None and meta.codec is not None:
                makers.setdefault((meta.codec, meta.flow), name)
    if len(makers) > 1:
        of = ", ".join(f"'{name}' of {codec} ({flow})" for (codec, flow), name in makers.items())
        raise MismatchError(
            f"recipe '{recipe.spec.name}' would mix latent actions of two codecs or flows: {of}",
            hint="motus label DATASET --codec FOLDER --force labels one of them again",
        )


def _refuse_mixed_robots(recipe: Recipe, paths: Mapping[str, Path]) -> None:
    """Native actions have one way in and out of the network, which is one robot's."""
    for stage in recipe.spec.stages:
        if stage.objective != "motus" or stage.action != "native":
            continue
        metas = {name: UnifiedDataset(paths[name]).meta for name in stage.sources if name in paths}
        robots = {name: _numbers(meta) for name, meta in metas.items() if meta.has_action}
        first, *others = robots or [""]
        for other in others:
            for what, own in robots[first].items():
                if robots[other][what] != own:
                    raise MismatchError(
                        f"stage '{stage.name}' learns the native actions of two robots: "
                        f"{what} {own} of '{first}', {robots[other][what]} of '{other}'",
                        hint="one robot for action: native; action: latent for many",
                    )


def _numbers(meta: Header) -> dict[str, Any]:
    """What has to be the same for two datasets to mean the same by states and actions."""
    return {
        "card": meta.card.name,
        "state": meta.channels.get("observation.state"),
        "action": meta.channels.get("action"),
        "representation": meta.card.action.representation,
        "relative": meta.card.action.relative,
    }


def _by_level(name: str, spec: DatasetSpec, robot: str | None) -> Path | None:
    """The dataset of a level under ./data; of several, the one of the target's robot."""
    paths = [manifest.parent.parent for manifest in sorted(DATA.glob("*/meta/motus.json"))]
    metas = {path: UnifiedDataset(path).meta for path in paths if not is_half_written(path)}
    fitting = [path for path, meta in metas.items() if meta.level == spec.level]
    own = [path for path in fitting if metas[path].card.name == robot]
    if len(fitting) > 1 and len(own) != 1:
        raise UsageError(
            f"'{name}' may be any of {', '.join(map(str, own or fitting))}, all of level "
            f"{spec.level}",
            hint=f"say which: --data {shlex.quote(f'{name}={(own or fitting)[0]}')}",
        )
    return next(iter(own or fitting), None)


def _refuse_half_written() -> None:
    """Say so where a dataset would be found if it were finished."""
    for path in sorted(DATA.glob("*")):
        if is_half_written(path):
            raise half_written(path)


def identity(path: Path) -> dict[str, Any]:
    """What a run must find again in a dataset when it is resumed."""
    meta = UnifiedDataset(path).meta
    return {
        "path": str(path),
        "contract": meta.contract,
        "source": meta.source.hash,
        "level": meta.level,
        "card": meta.card.name,
        "codec": meta.codec,
        "flow": meta.flow,
    }


def target_card(paths: Mapping[str, Path]) -> str:
    """Name of the robot of the highest level."""
    datasets = [UnifiedDataset(path).meta for path in paths.values()]
    return max(datasets, key=lambda meta: meta.level).card.name
