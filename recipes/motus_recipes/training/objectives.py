"""What a stage can train: what every objective leaves behind, the frame autoencoder, and Motus."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from motus_adapters import Normalizer
from motus_embodiments import DataError
from motus_model import (
    Batch,
    Encoders,
    FrameAutoencoder,
    LatentActionCodec,
    ModelConfig,
    MotusModel,
    Noise,
    TimeSampler,
    draw_normal,
)
from motus_model.encoders import WordEncoder, split_words
from motus_recipes.data.cache import Cached, spread
from motus_recipes.data.frozen import FrozenOutputs, images, stack
from motus_recipes.data.latents import latents_of
from motus_recipes.data.mixture import ChosenMixture, Mixture, Row, Source
from motus_recipes.schema import Stage
from motus_recipes.training.checkpoints import Transfer
from motus_recipes.training.engine import Objective

_log = logging.getLogger(__name__)


class Split(NamedTuple):
    """Windows of a stage: those to train on by step, those never trained on by source."""

    train: Mixture
    heldout: Mapping[str, Sequence[int]]


class Left(NamedTuple):
    """What a stage leaves beside its weights.

    Attributes:
        figures: For its report.
        state: What one has to know to use the weights.
    """

    figures: Mapping[str, Any] = MappingProxyType({})
    state: Mapping[str, Any] = MappingProxyType({})


class StageObjective(Objective, Protocol):
    """What a stage trains, on what, and what it leaves behind."""

    def windows(self, seed: int) -> Split:
        """What is trained on, and what is held out."""

    def finish(self, folder: Path | None) -> Left:
        """Settle what is open once the weights stand.

        Args:
            folder: Of the stage, from the process that writes; None from the others.
        """


class FramesObjective:
    """Single frames through the small autoencoder."""

    def __init__(
        self, data: Mapping[str, Cached], model: ModelConfig, stage: Stage, device: torch.device
    ) -> None:
        assert model.frames is not None
        self.data, self.stage, self.device = data, stage, device
        self.module = FrameAutoencoder(model.frames).to(device)

    def inputs(self, rows: Sequence[Row], *, train: bool) -> tuple[Tensor, Tensor]:
        """Pictures in [-1, 1], and noise for their latents."""
        canvas = np.stack([self.data[row.source].canvas[row.window] for row in rows])
        pictures = images(canvas, self.device) * 2 - 1
        noise = draw_normal(generators(rows), *self.module.noise_shape(pictures))
        return pictures, noise.to(self.device)

    @staticmethod
    def times(inputs: tuple[Tensor, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Nothing here has a noise time."""
        return {}

    def windows(self, seed: int) -> Split:
        """The last episodes are held out."""
        return split_windows(self.data, self.stage, seed)

    def finish(self, folder: Path | None) -> Left:
        """Normalise the latents, by pictures that it trained on."""
        sample = [cached.canvas[spread(cached.split()[0], 256)] for cached in self.data.values()]
        self.module.fit_statistics(images(np.concatenate(sample), self.device) * 2 - 1)
        return Left()


class PolicyObjective:
    """Windows through the three experts, with the actions that the stage names."""

    def __init__(
        self,
        data: Mapping[str, Cached],
        model: ModelConfig,
        stage: Stage,
        frames: Mapping[str, Tensor] | None,
        device: torch.device,
        codec: LatentActionCodec | None = None,
        *,
        encoders: Encoders | None = None,
        begin: Callable[[nn.Module], Transfer] | None = None,
        keep: int = 0,
    ) -> None:
        """A model for the stage's data, with its initial weights.

        Args:
            data: By the recipe's names.
            model: Of the recipe; the stage's actions shape it further.
            stage: What trains, and on what.
            frames: Weights of the small frame autoencoder; None where `encoders` has another.
            device: Where it trains.
            codec: Labels latent actions; None takes the labels of the data.
            encoders: Pretrained ones; None for small ones, which train along.
            begin: Gives the model another stage's weights, before anything is encoded with them.
            keep: Bytes beside each dataset for what frozen encoders make of it.
        """
        self.data, self.stage, self.device = data, stage, device
        self._window = model.window
        self.sampler = TimeSampler(stage.times, tuple(stage.modes.items()))
        self.actions = {name: self._actions(cached, model, codec) for name, cached in data.items()}
        self.normalizers = self._fit_normalizers()
        self.model = self._shape(model)
        self.module = MotusModel(self.model, encoders).to(device)
        if frames is not None:
            self.module.frames.load_state_dict(frames)
        self.moved = None if begin is None else begin(self.module)
        self._choose_trainable()
        if isinstance(self.module.text, WordEncoder):
            tell_same_words(self.module.text, data)
        given = Encoders(self.module.frames, self.module.text, self.module.perception)
        self.frozen = {
            name: FrozenOutputs(cached, given, model.window, keep, device)
            for name, cached in data.items()
        }

    def inputs(self, rows: Sequence[Row], *, train: bool) -> tuple[Batch, Noise]:
        """The windows of some rows, and the noise that each is learnt at."""
        sources = generators(rows)
        batch = self._batch(rows, sources, augmented=train and self.stage.augment)
        return batch, Noise.draw(batch, self.sampler, sources)

    @staticmethod
    def times(inputs: tuple[Batch, Noise]) -> dict[str, tuple[Tensor, Tensor]]:
        """Noise time and weight of each modality."""
        drawn = inputs[1].times
        return {
            "video": (drawn.video, drawn.video_weight),
            "action": (drawn.action, drawn.action_weight),
        }

    def windows(self, seed: int) -> Split:
        """The last episodes are held out."""
        return split_windows(self.data, self.stage, seed)

    def finish(self, folder: Path | None) -> Left:
        """The network's sizes, and the statistics of what it reads and gives."""
        fitted = {name: normalizer.to_dict() for name, normalizer in self.normalizers.items()}
        return Left(state={"statistics": fitted, "network": asdict(self.model.network)})

    def _batch(
        self, rows: Sequence[Row], sources: Sequence[Generator], *, augmented: bool
    ) -> Batch:
        pictures, texts, states, actions = [], [], [], []
        for name, index, _, _ in rows:
            cached = self.data[name]
            pictures.append(cached.canvas[index])
            texts.append(cached.tasks[index])
            if "state" in self.normalizers:
                states.append(self.normalizers["state"].normalize(cached.state[index]))
            if self.stage.action != "none":
                actions.append(self.normalizers["action"].normalize(self._chunk(name, index)))
        seen = images(np.stack(pictures), self.device)
        state = torch.from_numpy(np.stack(states)).to(self.device) if states else None
        if augmented:
            seen = augment(seen, sources)
            if state is not None:
                state = state + 0.02 * draw_normal(sources, *state.shape[1:]).to(state)
        outputs = [(self.frozen[row.source], row.window) for row in rows]
        is_seen = self.module.network.understanding is not None and not augmented
        return Batch(
            images=seen,
            latents=torch.stack([frozen.latents(index) for frozen, index in outputs]),
            texts=texts,
            state=state,
            actions=torch.from_numpy(np.stack(actions)).to(self.device) if actions else None,
            words=stack([frozen.words(index) for frozen, index in outputs]),
            seen=stack([frozen.seen(index) for frozen, index in outputs]) if is_seen else None,
        )

    def _chunk(self, name: str, index: int) -> Float[np.ndarray, "t a"]:
        if self.stage.action == "native":
            return self.actions[name][index]
        window, cached = self._window, self.data[name]
        return cached.changes(self.actions[name], index, window.action_steps, window.action_rate)

    def _frames_a_step(self, name: str) -> float:
        """By how much an action of the window is larger than a row of the dataset."""
        latent = self.stage.action == "latent"
        return self.data[name].rate / self._window.action_rate if latent else 1.0

    def _actions(
        self, cached: Cached, model: ModelConfig, codec: LatentActionCodec | None
    ) -> Float[np.ndarray, "n ..."]:
        match self.stage.action:
            case "none":
                return np.zeros((len(cached.first), 0), np.float32)
            case "native":
                if not cached.actions.shape[-1]:
                    raise DataError(
                        f"dataset '{cached.name}' has no actions, and stage '{self.stage.name}' "
                        "learns the robot's own",
                        hint="give it to stages with action: none or latent",
                    )
                return cached.actions
            case "latent":
                if codec is not None:
                    return latents_of(codec, cached)
                if not cached.latent.shape[-1]:
                    raise DataError(
                        f"dataset '{cached.name}' has no latent actions",
                        hint="motus label writes them, or put a codec stage first",
                    )
                return np.asarray(cached.latent)

    def _fit_normalizers(self) -> dict[str, Normalizer]:
        fitted = {}
        if self.stage.action != "none":
            rows = [
                values[self.data[n].split()[0]] * self._frames_a_step(n)
                for n, values in self.actions.items()
            ]
            fitted["action"] = Normalizer.fit(
                np.concatenate([r.reshape(-1, r.shape[-1]) for r in rows])
            )
        if self.stage.action == "native":
            states = [cached.state[cached.split()[0]] for cached in self.data.values()]
            fitted["state"] = Normalizer.fit(np.concatenate(states))
        return fitted

    def _shape(self, model: ModelConfig) -> ModelConfig:
        """The model's experts and channels for this stage's actions."""
        if self.stage.action == "none":
            return replace(model, network=replace(model.network, action=None, understanding=None))
        state = len(self.normalizers["state"].mean) if "state" in self.normalizers else 0
        return model.for_robot(state_dim=state, action_dim=len(self.normalizers["action"].mean))

    def _choose_trainable(self) -> None:
        self.module.requires_grad_(False)
        self.module.text.requires_grad_(True)
        for expert in self.stage.experts:
            part: nn.Module | None = getattr(self.module.network, expert)
            assert part is not None
            part.requires_grad_(True)
        if "understanding" in self.stage.experts:
            # The small eye and words have no pretraining to protect, unlike a frozen VLM.
            self.module.perception.requires_grad_(True)


def tell_same_words(text: WordEncoder, data: Mapping[str, Cached]) -> None:
    """Warn of instructions that give the same tokens, and so are one to the network."""
    tasks: dict[tuple[int, ...], str] = {}
    pairs = []
    for task in sorted({task for cached in data.values() for task in cached.tasks}):
        rows, mask = text.look_up([task])
        other = tasks.setdefault(tuple(rows[mask].tolist()), task)
        if split_words(other) != split_words(task):
            pairs.append((other, task))
    if pairs:
        _log.warning(
            "the network takes instructions of the data for one, '%s' and '%s' for example (%d in "
            "all): it reads %d words of each. Say what differs earlier, or take a larger --size",
            *pairs[0],
            len(pairs),
            text.config.text_tokens,
        )


def generators(rows: Sequence[Row]) -> list[Generator]:
    """A source of noise for each row, the same wherever the row is computed."""
    return [Generator().manual_seed(row.seed) for row in rows]


def augment(
    pictures: Float[Tensor, "b *f 3 H W"], sources: Sequence[Generator]
) -> Float[Tensor, "b *f 3 H W"]:
    """A little contrast and brightness per sample; places stay, since actions depend on them."""
    ones = (1,) * (pictures.dim() - 1)
    contrast = 1 + 0.1 * draw_normal(sources, *ones).to(pictures)
    brightness = 0.05 * draw_normal(sources, *ones).to(pictures)
    return (pictures * contrast + brightness).clamp(0, 1)


def split_windows(data: Mapping[str, Cached], stage: Stage, seed: int) -> Split:
    """A stage's windows; those of each source's last episodes are held out."""
    splits = {name: cached.split() for name, cached in data.items()}
    windows = {name: train for name, (train, _) in splits.items()}
    sources = tuple(Source(name, len(rows), stage.sources[name]) for name, rows in windows.items())
    held = {name: rows.tolist() for name, (_, rows) in splits.items()}
    return Split(ChosenMixture(sources, stage.batch, seed, windows), held)
