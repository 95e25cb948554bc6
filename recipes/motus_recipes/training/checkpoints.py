"""Checkpoints: safetensors and JSON, written whole or not at all, loaded strictly."""

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from motus_embodiments import DataError
from motus_recipes.training.averaging import Average
from motus_recipes.training.engine import Engine

Weights = dict[str, Tensor]
Shape = tuple[int, ...]
SHOWN = 12  # differences that a refusal lists


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


def step_folder(step: int) -> str:
    """Name of the checkpoint after so many steps; names sort as steps do."""
    return f"step-{step:08d}"


def copy_folder(folder: Path, out: Path) -> None:
    """Copy a checkpoint, whole or not at all, over an older one."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)


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
    _commit(partial, folder)


def read_weights(path: Path) -> Weights:
    """Tensors of a safetensors file.

    Raises:
        DataError: When it is missing, truncated, or no safetensors file (a pickle, say).
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> DataError:
    """The refusal of a file that holds no tensors that can be read."""
    return DataError(
        f"cannot read weights {path}: {error}",
        hint="only safetensors files are loaded",
        where=str(path),
    )


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


@dataclass(frozen=True)
class Training:
    """What a step changes: weights, the optimizer's moments, the average."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: Average

    def tensors(self) -> Weights:
        """Everything by name; sharded where the module is."""
        named = {f"model.{key}": value for key, value in self.module.state_dict().items()}
        named |= {f"average.{key}": value for key, value in self.average.weights.items()}
        for name, parameter in self.module.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                named[f"optimizer.{name}.{key}"] = value
        return named

    def load(self, tensors: Weights) -> None:
        """Take over what `blank` named and a checkpoint filled."""
        self.module.load_state_dict(_part(tensors, "model."), strict=True)
        self.average.weights = _part(tensors, "average.")
        for name, parameter in self.module.named_parameters():
            state = _part(tensors, f"optimizer.{name}.")
            if state:
                self.optimizer.state[parameter] = state

    def blank(self, found: Mapping[str, Shape], where: Path) -> Weights:
        """Room for a checkpoint's tensors.

        Raises:
            DataError: With a table of those that are missing, unexpected, or of another shape.
        """
        room = self.tensors()
        parameters = dict(self.module.named_parameters())
        for name in found:
            owner, _, key = name.removeprefix("optimizer.").rpartition(".")
            if name.startswith("optimizer.") and owner in parameters:
                like = parameters[owner].detach()
                # A fused optimizer wants its count of steps where the weights are.
                is_count = key == "step"
                room[name] = (
                    torch.zeros((), device=like.device) if is_count else torch.zeros_like(like)
                )
        own = {name: tuple(value.shape) for name, value in room.items()}
        differing = [n for n in sorted({*own, *found}) if own.get(n) != found.get(n)]
        if differing:
            table = [("tensor", "checkpoint", "model")]
            table += [(n, _shown(found.get(n)), _shown(own.get(n))) for n in differing[:SHOWN]]
            width = max(len(name) for name, _, _ in table)
            rows = [f"  {n:{width}}  {a:12}  {b}" for n, a, b in table]
            more = len(differing) - SHOWN
            raise DataError(
                f"{where} is of another model: {len(differing)} tensors differ\n"
                + "\n".join([*rows, f"  and {more} more"] if more > 0 else rows),
                hint="resume with the recipe that the run was started with",
                where=str(where),
            )
        return room


def _shown(shape: Shape | None) -> str:
    return "-" if shape is None else " x ".join(map(str, shape)) or "a number"


def _shapes(reader: HuggingFaceStorageReader) -> dict[str, Shape]:
    """The tensors of a checkpoint."""
    found = reader.read_metadata().state_dict_metadata
    return {n: tuple(t.size) for n, t in found.items() if isinstance(t, TensorStorageMetadata)}


def save_checkpoint(
    folder: Path, training: Training, state: dict[str, Any], engine: Engine
) -> None:
    """Write a checkpoint, each process its part; whole or not at all.

    The tensors are a torch distributed checkpoint in safetensors files (no pickle).
    """
    partial = folder.with_name(f".{folder.name}.partial")
    if engine.main:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        partial.mkdir(parents=True)
    engine.wait()
    with engine.watching(), _quiet():
        save(
            dict(training.tensors()),
            storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True),
            no_dist=engine.world == 1,
        )
    engine.wait()
    if engine.main:
        (partial / "state.json").write_text(json.dumps(state))
        _commit(partial, folder)
    engine.wait()


def load_checkpoint(folder: Path, training: Training, engine: Engine) -> dict[str, Any]:
    """Fill a training from a checkpoint, whatever number of processes wrote it; its state.

    Raises:
        DataError: When a file is missing or damaged, or of another model.
    """
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text())
        with engine.watching(), _quiet():
            reader = HuggingFaceStorageReader(str(folder))
            room = training.blank(_shapes(reader), folder)
            load(
                dict(room),
                storage_reader=HuggingFaceStorageReader(str(folder)),
                no_dist=engine.world == 1,
            )
    except (OSError, ValueError, SafetensorError, CheckpointException) as error:
        raise DataError(
            f"cannot read checkpoint {folder}: {str(error)[:300]}",
            hint="delete that folder; --resume then takes the one before, or starts the stage anew",
            where=str(folder),
        ) from error
    training.load(room)
    return state


def whole(weights: Mapping[str, Tensor]) -> Weights:
    """Weights gathered from all processes, on the CPU."""
    return {
        key: (value.full_tensor() if isinstance(value, DTensor) else value).detach().cpu()
        for key, value in weights.items()
    }


def _part(tensors: Weights, prefix: str) -> Weights:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _commit(partial: Path, folder: Path) -> None:
    """Put a finished folder on disk and in its place."""
    for file in partial.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    partial.rename(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remark that a single process is one."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield
