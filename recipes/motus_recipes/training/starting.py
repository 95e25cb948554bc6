"""What a stage begins with from outside its run: a network."""

from dataclasses import replace
from pathlib import Path

from motus_embodiments import DataError
from motus_model import MotusConfig, WeightsError, read_network, read_sizes
from motus_recipes.training.checkpoints import Weights, read_weights


def stage_weights(folder: Path) -> Weights | None:
    """Weights that a stage of another run ended with; None when it is no such folder.

    Raises:
        DataError: When they are damaged.
    """
    for place in (folder, folder / "result"):
        if (place / "state.json").is_file() and (place / "weights.safetensors").is_file():
            return read_weights(place / "weights.safetensors")
    return None


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


def _not_imported(folder: Path, error: WeightsError) -> DataError:
    return DataError(
        f"no stage can start from {folder}: {error}",
        hint=f"motus import CHECKPOINT --out {folder}",
        where=str(folder),
    )
