"""What a stage begins with from outside its run: a network."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from motus_embodiments import DataError
from motus_model import Motus, MotusConfig, WeightsError, read_network, read_sizes
from motus_recipes.library import Recipe
from motus_recipes.training.checkpoints import Weights, read_weights, unreadable


def check_starts(recipe: Recipe) -> None:
    """Refuse what a stage of the recipe cannot start from.

    Raises:
        DataError: When a folder is none to start from, or has no video expert of the network's
            size.
    """
    network = recipe.model.network
    for stage in recipe.spec.stages:
        folder = start_folder(stage.start)
        if folder is None:
            continue
        file = _stage_file(folder)
        if file is None:
            network = imported_sizes(folder, network)
        else:
            _check_fit(file, network, stage.name)


def start_folder(start: str | None) -> Path | None:
    """The folder that a recipe's `start` names."""
    return None if start is None else Path(start).expanduser()


def stage_weights(folder: Path) -> Weights | None:
    """Weights that a stage of another run ended with; None when it is no such folder.

    Raises:
        DataError: When they are damaged.
    """
    file = _stage_file(folder)
    return None if file is None else read_weights(file)


def imported_sizes(folder: Path, usual: MotusConfig) -> MotusConfig:
    """Sizes of a folder that `motus import` wrote; an expert that it lacks keeps its usual ones.

    Raises:
        DataError: When it is no such folder, or damaged.
    """
    try:
        config = read_sizes(folder)
    except WeightsError as error:
        raise _not_imported(folder, error) from error
    return replace(
        config,
        action=config.action or usual.action,
        understanding=config.understanding or usual.understanding,
    )


def imported_weights(folder: Path) -> Weights:
    """Weights of such a folder, under the names that `MotusModel` has for them.

    Raises:
        DataError: When it is no such folder, or damaged.
    """
    try:
        _, weights = read_network(folder)
    except WeightsError as error:
        raise _not_imported(folder, error) from error
    return {f"network.{key}": value for key, value in weights.items()}


def _stage_file(folder: Path) -> Path | None:
    for place in (folder, folder / "result"):
        if (place / "state.json").is_file() and (place / "weights.safetensors").is_file():
            return place / "weights.safetensors"
    return None


def _check_fit(file: Path, network: MotusConfig, stage: str) -> None:
    """Every Motus has a video expert: one that is not there, or of another size, is another's."""
    with torch.device("meta"):
        video = Motus(replace(network, action=None, understanding=None)).video
    wanted = {f"network.video.{name}": list(t.shape) for name, t in video.state_dict().items()}
    try:
        with safe_open(file, "pt") as weights:
            found = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise unreadable(file, error) from error
    fitting = sum(found.get(name) == shape for name, shape in wanted.items())
    if fitting < len(wanted):
        raise DataError(
            f"stage '{stage}' cannot start from {file.parent}: {fitting} of the video expert's "
            f"{len(wanted)} tensors fit{_told(file.parent)}",
            hint="name a stage with objective: motus of the same size",
            where=str(file.parent),
        )


def _told(folder: Path) -> str:
    """What the run of a stage's result says of it, where it stands beside it still."""
    try:
        name = json.loads((folder / "state.json").read_text())["report"]["name"]
        recipe = json.loads((folder.parents[1] / "recipe.json").read_text())
        objective, size = (recipe[k]["value"] for k in (f"stages.{name}.objective", "size"))
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return f"; it is of objective {objective} and size {size}"


def _not_imported(folder: Path, error: WeightsError) -> DataError:
    return DataError(
        f"no stage can start from {folder}: {error}",
        hint=f"motus import CHECKPOINT --out {folder}",
        where=str(folder),
    )
