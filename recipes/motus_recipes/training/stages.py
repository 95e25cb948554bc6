"""One stage of a run: its data, its objective, the loop, its result folder."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from motus_adapters import UnifiedDataset, open_encoders
from motus_embodiments import DataError, MissingError
from motus_model import LatentActionCodec, ModelConfig, MotusConfig, load_codec, shipped_frames
from motus_recipes.data.cache import Cached, open_cached
from motus_recipes.evaluation.baselines import IdmObjective
from motus_recipes.library import Recipe
from motus_recipes.schema import EncodersSpec, Stage
from motus_recipes.training.checkpoints import (
    Transfer,
    Weights,
    read_weights,
    transfer,
    whole,
    write_folder,
)
from motus_recipes.training.codec_training import CodecObjective
from motus_recipes.training.engine import Engine
from motus_recipes.training.lora import add_lora, merge_lora
from motus_recipes.training.objectives import (
    FramesObjective,
    PolicyObjective,
    StageObjective,
)
from motus_recipes.training.starting import (
    imported_sizes,
    imported_weights,
    stage_weights,
    start_folder,
)
from motus_recipes.training.step_note import Progress
from motus_recipes.training.trainer import Fit, Loop, fit

# Between stages the meaning of the action numbers changes, so their way in and out starts anew
# (the official code does the same from stage 2 to 3).
FRESH = (
    "network.action.action_encoder",
    "network.action.state_encoder",
    "network.action.head",
)


@dataclass(frozen=True)
class StageReport:
    """One row of `motus train`; without losses before it ran."""

    name: str
    steps: int
    first_loss: float | None
    loss: float | None
    heldout_loss: float | None
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """What later stages take over from earlier ones."""

    frames: Weights | None = None
    codec: LatentActionCodec | None = None
    policy: Weights | None = None
    network: MotusConfig | None = None


class StageRunner:
    """One stage: its data, its objective, the loop, its result folder."""

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage,
        folder: Path,
        paths: Mapping[str, Path],
        seed: int,
        engine: Engine,
        earlier: Results,
    ) -> None:
        self.recipe, self.stage, self.folder = recipe, stage, folder
        self.seed, self.engine, self.earlier = seed, engine, earlier
        self.start = start_folder(stage.start)
        self.paths = {name: paths[name] for name in stage.datasets if name in paths}
        if not any(name in paths for name in stage.sources):
            raise DataError(
                f"stage '{stage.name}' has none of its datasets ({', '.join(stage.sources)})",
                hint="name one with --data NAME=PATH, or put datasets under ./data",
            )
        self.weights: Weights | None = None

    def run(self, on_progress: Progress | None) -> StageReport:
        """Train the stage, or read its result when it was finished before."""
        result = self.folder / "result"
        if not result.is_dir():
            with self.engine.first():  # the main process builds what is cached
                limit, flow = int(self.recipe.spec.engine.cache * 1e9), self.recipe.spec.flow
                data = {
                    name: open_cached(
                        name, path, self.recipe.model, on_progress, flow=flow, limit=limit
                    )
                    for name, path in self.paths.items()
                }
                torch.manual_seed(self.seed)
                objective, moved = self._objective(data)
            done = fit(objective, self._loop(objective, data), self.engine, on_progress)
            self._write(objective, data, done, moved)
        self.weights = read_weights(result / "weights.safetensors")
        return StageReport(**json.loads((result / "state.json").read_text())["report"])

    def _write(
        self,
        objective: StageObjective,
        data: Mapping[str, Cached],
        done: Fit,
        moved: Transfer | None,
    ) -> None:
        """The stage's result folder, from the main process."""
        left = objective.finish(self.folder if self.engine.main else None)
        details = {
            "losses": done.loss,
            "heldout": done.heldout,
            "shares": done.shares,
            "levels": self._by_level(done.shares),
            **left.figures,
        }
        if moved is not None:
            details["transfer"] = {
                "loaded": len(moved.loaded),
                "fresh": list(moved.fresh),
                "unused": list(moved.unused),
            }
        weights = whole(objective.module.state_dict())
        if self.stage.lora is not None:
            weights = merge_lora(weights, self.stage.lora)
        held = [losses["loss"] for losses in done.heldout.values()]
        report = StageReport(
            name=self.stage.name,
            steps=done.steps,
            first_loss=done.first_loss["loss"],
            loss=done.loss["loss"],
            heldout_loss=sum(held) / len(held) if held else None,
            seconds=done.seconds,
            details=details,
        )
        dataset = UnifiedDataset(next(iter(self.paths.values())))
        state = {
            "report": asdict(report),
            "robot": dataset.meta.to_dict(),
            "instruction": dataset.episodes[0].task,
            **left.state,
        }
        if self.recipe.model.encoders is None:
            state["encoders"] = self._encoders()
        if self.engine.main:
            write_folder(self.folder / "result", {"weights": weights}, state)
            shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        self.engine.wait()

    def results(self) -> Results:
        """What this stage and the ones before it leave to the next."""
        assert self.weights is not None
        earlier = self.earlier
        match self.stage.objective:
            case "frames":
                return replace(earlier, frames=self.weights)
            case "codec":
                return replace(earlier, codec=load_codec(self.folder / "codec"))
            case "motus":
                return replace(earlier, policy=self.weights, network=self._network())
            case "idm":
                return earlier

    def _network(self) -> MotusConfig:
        """Sizes of the network, before a stage's actions shape it."""
        usual = self.earlier.network or self.recipe.model.network
        if self.start is None or stage_weights(self.start) is not None:
            return usual
        return imported_sizes(self.start, usual)

    def _encoders(self) -> dict[str, Any]:
        """Which pretrained encoders a size without own ones has."""
        return (self.recipe.spec.encoders or EncodersSpec()).model_dump()

    def _objective(self, data: Mapping[str, Cached]) -> tuple[StageObjective, Transfer | None]:
        model, stage, device = self.recipe.model, self.stage, self.engine.device
        match stage.objective:
            case "frames":
                return FramesObjective(data, model, stage, device), None
            case "codec":
                about = {
                    "recipe": self.recipe.spec.name,
                    "data": {n: _told(UnifiedDataset(path)) for n, path in self.paths.items()},
                }
                return CodecObjective(data, stage, device, about), None
            case "idm":
                return IdmObjective(data, model, stage, device), None
            case "motus":
                return self._policy(data)

    def _policy(self, data: Mapping[str, Cached]) -> tuple[StageObjective, Transfer | None]:
        """Motus with the weights of the stage before it, or of another run."""
        model = replace(self.recipe.model, network=self._network())
        has_own = model.encoders is not None
        begin = None
        if self.start is None:
            if self.earlier.policy is not None:
                begin = partial(transfer, self.earlier.policy, fresh=FRESH)
        elif (before := stage_weights(self.start)) is not None:
            begin = partial(transfer, before, fresh=FRESH)
        else:  # `motus import` has begun anew what has to
            begin = partial(transfer, imported_weights(self.start))
        objective = PolicyObjective(
            data,
            model,
            self.stage,
            (self.earlier.frames or _shipped_frames(model)) if has_own else None,
            self.engine.device,
            self.earlier.codec,
            encoders=None if has_own else open_encoders(self._encoders(), model.network),
            begin=begin,
            keep=int(self.recipe.spec.engine.encoder_cache * 1e9),
        )
        if self.stage.lora is not None:
            add_lora(objective.module.network, self.stage.lora)
        return objective, objective.moved

    def _loop(self, objective: StageObjective, data: Mapping[str, Cached]) -> Loop:
        mixture, heldout = objective.windows(self.seed)
        return Loop(
            folder=self.folder,
            steps=self.stage.steps,
            mixture=mixture,
            heldout=heldout,
            optimizer=self.stage.optimizer,
            locate=lambda row: data[row.source].locate(row.window),
        )

    def _by_level(self, shares: Mapping[str, float]) -> dict[int, float]:
        """Realised shares of the levels of the data pyramid."""
        levels = {name: self.recipe.spec.datasets[name].level for name in shares}
        return {
            level: sum(share for name, share in shares.items() if levels[name] == level)
            for level in sorted(set(levels.values()))
        }


def _told(dataset: UnifiedDataset) -> dict[str, Any]:
    """What a codec says of a dataset that it was trained on."""
    meta = dataset.meta
    return {
        "robot": meta.card.name,
        "level": meta.level,
        "frames": dataset.num_frames,
        "source": meta.source.name,
        "hash": meta.source.hash,
    }


def _shipped_frames(model: ModelConfig) -> dict[str, Tensor]:
    path = shipped_frames(model.frames) if model.frames else None
    if path is None:
        raise MissingError(
            f"no frame autoencoder is shipped for the shape that size '{model.size}' has",
            hint="put a stage with objective: frames first",
        )
    return {key: value.float() for key, value in read_weights(path).items()}
