"""Checkpoints: safetensors and JSON, written whole or not at all, loaded strictly."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from motus_embodiments import DataError

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Transfer:
    """What became of each key when weights of one model went into another.

    Attributes:
        loaded: Keys taken over.
        fresh: Keys of the new model that keep their initial values.
        unused: Keys of the old weights that the new model doesn't have, or in another shape.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def write_folder(folder: Path, tensors: dict[str, Weights], state: dict[str, Any]) -> None:
    """Write one safetensors file per entry and `state.json`, then rename into place.

    Raises:
        FileExistsError: When the folder is there already.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, weights in tensors.items():
        save_file({k: v.contiguous() for k, v in weights.items()}, partial / f"{name}.safetensors")
    (partial / "state.json").write_text(json.dumps(state))
    for file in partial.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    partial.rename(folder)


def read_weights(path: Path) -> Weights:
    """Tensors of a safetensors file.

    Raises:
        DataError: When it is missing, truncated, or no safetensors file (a pickle, say).
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"cannot read weights {path}: {error}",
            hint="only safetensors files are loaded",
            where=str(path),
        ) from error


def load_strictly(module: nn.Module, weights: Weights, where: Path) -> None:
    """Load weights that must fit key for key.

    Raises:
        DataError: Naming the keys that are missing, unexpected or of another shape.
    """
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise DataError(f"{where} does not fit the model: {error}", where=str(where)) from error


def transfer(weights: Weights, module: nn.Module, fresh: tuple[str, ...] = ()) -> Transfer:
    """Take over every key that fits; `fresh` names prefixes that must start anew.

    The report names every key, so that nothing is loaded or left out in silence.
    """
    own = module.state_dict()
    taken = {
        key: value
        for key, value in weights.items()
        if key in own and own[key].shape == value.shape and not key.startswith(fresh)
    }
    module.load_state_dict({**own, **taken}, strict=True)
    return Transfer(
        loaded=tuple(sorted(taken)),
        fresh=tuple(sorted(set(own) - set(taken))),
        unused=tuple(sorted(set(weights) - set(taken))),
    )


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Weights:
    """AdamW's moments as named tensors, without a pickle."""
    return {
        f"{index}.{key}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Weights) -> None:
    """Put back what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
