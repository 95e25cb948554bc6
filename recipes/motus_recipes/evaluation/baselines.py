"""Inverse dynamics by a picture network and an MLP: what the idm mode is held against.

One network sees each frame of a window, the condition frame and the future ones; the features of
all, and the robot's state, go through an MLP that gives the whole action chunk. These are the two
baselines of the paper's table, ResNet18 + MLP, which trains, and DINOv2 + MLP, which is frozen.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from motus_adapters import ActionSpace, Header, Normalizer
from motus_embodiments import DataError, MismatchError
from motus_model import ModelConfig, draw_normal
from motus_recipes.data.cache import Cached
from motus_recipes.data.frozen import images
from motus_recipes.data.mixture import Row
from motus_recipes.evaluation.backbones import Backbone, open_backbone
from motus_recipes.schema import BackboneSpec, Stage
from motus_recipes.training.checkpoints import read_weights
from motus_recipes.training.objectives import (
    Left,
    Split,
    augment,
    generators,
    split_windows,
)

HIDDEN = 512
AT_ONCE = 64  # frames


class IdmLosses(NamedTuple):
    """Mean squared error of each sample's normalised chunk."""

    total: Float[Tensor, " b"]


class InverseDynamics(nn.Module):
    """An MLP over the features of a window's frames and the state.

    Args:
        eye: Sees the frames; None where their features are given.
        features: Of each frame.
        frames: Of a window, the condition frame among them.
        state: Numbers of a described state.
        chunk: Steps and channels of the actions.
    """

    def __init__(
        self, eye: Backbone | None, features: int, frames: int, state: int, chunk: tuple[int, int]
    ) -> None:
        super().__init__()
        self.eye, self.chunk = eye, chunk
        self.scale = nn.LayerNorm(features)
        self.head = nn.Sequential(
            nn.Linear(frames * features + state, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, chunk[0] * chunk[1]),
        )

    def solve(
        self, seen: Float[Tensor, "b f ..."], state: Float[Tensor, "b s"]
    ) -> Float[Tensor, "b t a"]:
        """Normalised actions from frames in [0, 1], or from their features."""
        features = seen if self.eye is None else self.eye(seen.flatten(0, 1))
        features = self.scale(features).view(len(state), -1)
        actions: Tensor = self.head(torch.cat([features, state], dim=1))
        return actions.unflatten(1, self.chunk)

    def forward(
        self,
        seen: Float[Tensor, "b f ..."],
        state: Float[Tensor, "b s"],
        actions: Float[Tensor, "b t a"],
    ) -> IdmLosses:
        """How far the solution is from the recorded actions."""
        return IdmLosses((self.solve(seen, state) - actions).square().mean((1, 2)))


class IdmObjective:
    """Windows of one robot through a baseline.

    Args:
        data: By the recipe's names.
        model: Of the recipe: canvas and window.
        stage: With a backbone.
        device: Where it trains.

    Raises:
        DataError: A dataset has no actions, or the robots differ.
    """

    def __init__(
        self, data: Mapping[str, Cached], model: ModelConfig, stage: Stage, device: torch.device
    ) -> None:
        assert stage.backbone is not None
        self.data, self.stage, self.device, self.model = data, stage, device, model
        self.normalizers = _fit_normalizers(data, stage.name)
        spec = stage.backbone
        eye = open_backbone(spec.kind, None if spec.weights is None else Path(spec.weights))
        self.module = _network(eye, spec, self.normalizers, model).to(device)
        frozen = eye.to(device).eval() if spec.frozen else None
        self.features = {
            name: None if frozen is None else _features(cached, frozen, device)
            for name, cached in data.items()
        }

    def inputs(self, rows: Sequence[Row], *, train: bool) -> tuple[Tensor, Tensor, Tensor]:
        """What is seen of each window, its normalised state and actions."""
        window, seen, states, actions = self.model.window, [], [], []
        for name, index, _, _ in rows:
            cached, features = self.data[name], self.features[name]
            frames = cached.future(
                np.array([index]), window.video_frames + 1, window.video_rate, 0
            )[0]
            seen.append(
                images(cached.canvas[frames], self.device)
                if features is None
                else torch.from_numpy(features[frames]).to(self.device)
            )
            states.append(self.normalizers["state"].normalize(cached.state[index]))
            actions.append(self.normalizers["action"].normalize(cached.actions[index]))
        shown, (state, chunk) = torch.stack(seen), map(self._tensor, (states, actions))
        if train and self.stage.augment:
            sources = generators(rows)
            if not self.stage.backbone or not self.stage.backbone.frozen:
                shown = augment(shown, sources)
            state = state + 0.02 * draw_normal(sources, *state.shape[1:]).to(state)
        return shown, state, chunk

    @staticmethod
    def times(inputs: tuple[Tensor, ...]) -> dict[str, tuple[Tensor, Tensor]]:
        """Nothing here has a noise time."""
        return {}

    def windows(self, seed: int) -> Split:
        """The last episodes are held out."""
        return split_windows(self.data, self.stage, seed)

    def finish(self, folder: Path | None) -> Left:
        """What `read_baselines` has to find again."""
        fitted = {name: normalizer.to_dict() for name, normalizer in self.normalizers.items()}
        shape = {"canvas": list(self.model.canvas), "window": asdict(self.model.window)}
        return Left(state={"statistics": fitted, **shape})

    def _tensor(self, rows: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(rows)).to(self.device)


@dataclass(frozen=True)
class Baseline:
    """A trained baseline.

    Attributes:
        name: Of its stage.
        space: Its robot and its statistics.
        canvas: Height and width of the pictures that it was trained on.
    """

    name: str
    space: ActionSpace
    canvas: tuple[int, int]
    network: InverseDynamics
    eye: Backbone | None

    @torch.no_grad()
    def solve(
        self, frames: UInt8[np.ndarray, "n f H W 3"], state: Float[np.ndarray, "n s"]
    ) -> Float[np.ndarray, "n t a"]:
        """Canonical actions from the frames of windows and canonical states."""
        found = []
        for at in range(0, len(frames), AT_ONCE // frames.shape[1]):
            part = slice(at, at + AT_ONCE // frames.shape[1])
            seen = torch.from_numpy(np.ascontiguousarray(frames[part])).movedim(-1, 2).float() / 255
            if self.eye is not None:
                seen = self.eye(seen.flatten(0, 1)).unflatten(0, seen.shape[:2])
            own = torch.from_numpy(self.space.encode_state(state[part]))
            found.append(self.network.solve(seen, own).numpy())
        return self.space.decode_actions(np.concatenate(found), state)


def read_baselines(run: Path, card: str, model: ModelConfig) -> list[Baseline]:
    """The baselines of a run, to be held against a policy.

    Args:
        run: Of the recipe `idm`.
        card: The policy's robot.
        model: The policy's canvas and window.

    Raises:
        DataError: The folder is no run, or a stage is not finished.
        MismatchError: It has no baselines, or they are for another robot, canvas or window.
    """
    file = run / "data.json"
    if not file.is_file():
        raise DataError(
            f"{run} is no run: there is no data.json",
            hint="motus train --recipe idm makes one",
            where=str(run),
        )
    stages = json.loads(file.read_text())["recipe"]["stages"]
    found = [
        _read(run / f"{number:02d}-{stage['name']}", stage, card, model)
        for number, stage in enumerate(stages, 1)
        if stage["objective"] == "idm"
    ]
    if not found:
        raise MismatchError(
            f"{run} has no baselines of inverse dynamics", hint="motus train --recipe idm"
        )
    return found


def _read(folder: Path, stage: Mapping[str, object], card: str, model: ModelConfig) -> Baseline:
    file = folder / "result" / "state.json"
    if not file.is_file():
        raise DataError(
            f"stage '{stage['name']}' of {folder.parent} is not finished",
            hint=f"motus train --recipe idm --run {folder.parent} --resume",
            where=str(folder),
        )
    state = json.loads(file.read_text())
    meta = Header.from_dict(state["robot"], file)
    space = ActionSpace.from_dict(meta.card, state["statistics"])
    for what, own, wanted in (
        ("robot", meta.card.name, card),
        ("canvas", state["canvas"], list(model.canvas)),
        ("window", state["window"], asdict(model.window)),
    ):
        if own != wanted:
            raise MismatchError(
                f"{folder} has the {what} {own}, the policy {wanted}",
                hint="train the baselines on the policy's robot, at its size and window",
            )
    spec = BackboneSpec.model_validate(stage["backbone"])
    # What trained is in the run; a frozen network comes from where it came from.
    given = Path(spec.weights) if spec.weights and spec.frozen else None
    eye = open_backbone(spec.kind, given).eval()
    normalizers = {"state": space.state, "action": space.action}
    network = _network(eye, spec, normalizers, model).eval()
    network.load_state_dict(read_weights(folder / "result" / "weights.safetensors"))
    return Baseline(str(stage["name"]), space, model.canvas, network, eye if spec.frozen else None)


def _network(
    eye: Backbone, spec: BackboneSpec, normalizers: Mapping[str, Normalizer], model: ModelConfig
) -> InverseDynamics:
    window = model.window
    return InverseDynamics(
        None if spec.frozen else eye,
        eye.num_features,
        window.video_frames + 1,
        len(normalizers["state"].mean),
        (window.action_steps, len(normalizers["action"].mean)),
    )


def _fit_normalizers(data: Mapping[str, Cached], stage: str) -> dict[str, Normalizer]:
    """Statistics of the training windows, as those of a policy's stage 3."""
    for name, cached in data.items():
        if not cached.actions.shape[-1]:
            raise DataError(
                f"dataset '{name}' has no actions, and stage '{stage}' learns them",
                hint="give it data of levels 3 to 6",
            )
    robots = {cached.card.name for cached in data.values()}
    if len(robots) > 1:
        raise DataError(
            f"stage '{stage}' mixes robots: {', '.join(sorted(robots))}", hint="one at a time"
        )
    parts = [(cached, cached.split()[0]) for cached in data.values()]
    width = parts[0][0].actions.shape[-1]
    actions = [np.asarray(cached.actions[rows]).reshape(-1, width) for cached, rows in parts]
    states = [cached.state[rows] for cached, rows in parts]
    return {
        "action": Normalizer.fit(np.concatenate(actions)),
        "state": Normalizer.fit(np.concatenate(states)),
    }


@torch.no_grad()
def _features(cached: Cached, eye: Backbone, device: torch.device) -> Float[np.ndarray, "n c"]:
    """What a frozen network sees in each frame of a dataset, computed once."""
    weights = b"".join(value.cpu().numpy().tobytes() for value in eye.state_dict().values())
    name = f"{cached.key}-{hashlib.sha256(weights).hexdigest()[:16]}"

    def look(folder: Path) -> None:
        parts = [
            eye(images(cached.canvas[at : at + AT_ONCE], device)).cpu().numpy()
            for at in range(0, len(cached.canvas), AT_ONCE)
        ]
        np.save(folder / "features.npy", np.concatenate(parts))

    size = 4 * len(cached.canvas) * eye.num_features
    folder = cached.folders.get(name, size, look, in_use=[cached.key])
    found: np.ndarray = np.load(folder / "features.npy")
    return found
