"""The three things a stage can train: frame autoencoder, latent-action codec, Motus."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from motus_adapters.action_space import Normalizer
from motus_embodiments import DataError
from motus_model import (
    Batch,
    CodecConfig,
    FrameAutoencoder,
    LatentActionCodec,
    ModelConfig,
    MotusModel,
    TimeSampler,
)
from motus_recipes.cache import Cached
from motus_recipes.schema import Stage
from motus_recipes.trainer import Rows

SAMPLE = 2048  # frames that statistics are fitted on


def images(canvas: np.ndarray, device: torch.device) -> Float[Tensor, "n 3 H W"]:
    """uint8 frames [n, H, W, 3] as float images in [0, 1]."""
    return torch.from_numpy(np.array(canvas)).to(device).permute(0, 3, 1, 2).float() / 255


def spread(count: int, size: int = SAMPLE) -> np.ndarray:
    """At most `size` indices, evenly over `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, size)).astype(int))


class FramesObjective:
    """Single frames through the small autoencoder."""

    def __init__(
        self, data: Mapping[str, Cached], model: ModelConfig, device: torch.device
    ) -> None:
        assert model.frames is not None
        self.data, self.device = data, device
        self.module = FrameAutoencoder(model.frames).to(device)

    def loss(self, rows: Rows, generator: Generator) -> dict[str, Tensor]:
        """Pixels and edges of the rebuilt frames."""
        canvas = np.stack([self.data[name].canvas[window] for name, window in rows])
        loss, parts = self.module.loss(images(canvas, self.device) * 2 - 1, generator)
        return {"loss": loss, **parts}

    def finish(self) -> None:
        """Normalise the latents once the weights stand."""
        sample = [cached.canvas[spread(len(cached.canvas), 256)] for cached in self.data.values()]
        self.module.fit_statistics(images(np.concatenate(sample), self.device) * 2 - 1)


class CodecObjective:
    """Flow canvases through the codec; a fixed share of each batch shows its true motion."""

    def __init__(self, data: Mapping[str, Cached], stage: Stage, device: torch.device) -> None:
        self.data, self.stage, self.device = data, stage, device
        self.module = LatentActionCodec(CodecConfig()).to(device)
        flow, motion, mask = [], [], []
        for cached in data.values():
            train, _ = cached.split()
            rows = train[spread(len(train))]
            flow.append(np.asarray(cached.flow[rows], np.float32))
            motion.append(cached.motion[rows])
            mask.append(np.broadcast_to(cached.motion_mask, (len(rows), 14)))
        self.module.fit_statistics(
            torch.from_numpy(np.concatenate(flow)).to(device),
            torch.from_numpy(np.concatenate(motion)).to(device),
            torch.from_numpy(np.concatenate(mask)).to(device),
            bands=[(0, 48), (48, 72)],
        )

    def loss(self, rows: Rows, generator: Generator) -> dict[str, Tensor]:
        """The codec's loss, with motion shown to the labelled share."""
        flow = np.stack([self.data[name].flow[window] for name, window in rows])
        motion = np.stack([self.data[name].motion[window] for name, window in rows])
        mask = np.stack([self.data[name].motion_mask for name, _ in rows])
        mask = mask & (np.arange(len(rows)) < round(self.stage.labelled * len(rows)))[:, None]
        parts = self.module.loss(
            torch.from_numpy(flow.astype(np.float32)).to(self.device),
            torch.from_numpy(motion).to(self.device),
            torch.from_numpy(mask).to(self.device),
            generator,
        )
        return {"loss": parts.total, **parts._asdict()} | {"total": parts.total.detach()}


class PolicyObjective:
    """Windows through the three experts, with the actions that the stage names."""

    def __init__(
        self,
        data: Mapping[str, Cached],
        model: ModelConfig,
        stage: Stage,
        frames: Mapping[str, Tensor],
        device: torch.device,
        codec: LatentActionCodec | None = None,
    ) -> None:
        self.data, self.stage, self.device = data, stage, device
        self.times = TimeSampler(stage.times, tuple(stage.modes.items()))
        self.actions = {name: self._actions(cached, model, codec) for name, cached in data.items()}
        self.normalizers = self._fit_normalizers()
        self.model = self._shape(model)
        torch.manual_seed(0)
        self.module = MotusModel(self.model).to(device)
        self.module.frames.load_state_dict(frames)
        self._choose_trainable()
        key = hashlib.sha256(b"".join(v.cpu().numpy().tobytes() for v in frames.values()))
        self.latents = {
            name: self._latents(cached, key.hexdigest()[:16]) for name, cached in data.items()
        }

    def loss(self, rows: Rows, generator: Generator) -> dict[str, Tensor]:
        """Flow matching of video and actions."""
        parts = self.module.loss(self.batch(rows, generator), self.times, generator)
        return {
            "loss": parts.total,
            "video": parts.video.detach(),
            "action": parts.action.detach(),
        }

    def batch(self, rows: Rows, generator: Generator) -> Batch:
        """The windows of some rows, in their order."""
        window = self.model.window
        pictures, latents, texts, states, actions = [], [], [], [], []
        for name, index in rows:
            cached = self.data[name]
            frame = np.array([index])
            future = cached.future(frame, window.video_frames + 1, window.video_rate, 0)[0]
            pictures.append(cached.canvas[index])
            latents.append(self.latents[name][future])
            texts.append(cached.tasks[index])
            if "state" in self.normalizers:
                states.append(self.normalizers["state"].normalize(cached.state[index]))
            if self.stage.action != "none":
                actions.append(self.normalizers["action"].normalize(self._chunk(name, index)))
        seen = images(np.stack(pictures), self.device)
        state = torch.from_numpy(np.stack(states)).to(self.device) if states else None
        if self.stage.augment and self.module.training:
            seen = augment(seen, generator)
            if state is not None:
                noise = torch.randn(state.shape, generator=generator).to(state)
                state = state + 0.02 * noise
        stacked = torch.from_numpy(np.stack(latents).astype(np.float32)).to(self.device)
        return Batch(
            images=seen,
            latents=stacked.transpose(1, 2),
            texts=texts,
            state=state,
            actions=torch.from_numpy(np.stack(actions)).to(self.device) if actions else None,
        )

    def _chunk(self, name: str, index: int) -> Float[np.ndarray, "t a"]:
        if self.stage.action == "native":
            return self.actions[name][index]
        window = self.model.window
        rows = self.data[name].future(
            np.array([index]), window.action_steps, window.action_rate, 0
        )[0]
        return self.actions[name][rows]

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
                    return codec.encode_flow(cached.flow)
                if not cached.latent.shape[-1]:
                    raise DataError(
                        f"dataset '{cached.name}' has no latent actions",
                        hint="motus label writes them, or put a codec stage first",
                    )
                return np.asarray(cached.latent)

    def _fit_normalizers(self) -> dict[str, Normalizer]:
        fitted = {}
        if self.stage.action != "none":
            rows = [values[self.data[n].split()[0]] for n, values in self.actions.items()]
            flat = [r.reshape(-1, r.shape[-1]) for r in rows]
            widths = {r.shape[1] for r in flat}
            if len(widths) > 1:
                names = ", ".join(f"{n}: {v.shape[-1]}" for n, v in self.actions.items())
                raise DataError(
                    f"stage '{self.stage.name}' mixes robots with other actions ({names})",
                    hint="one robot for action: native; latent actions for many",
                )
            fitted["action"] = Normalizer.fit(np.concatenate(flat))
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
            if part is None:
                raise DataError(f"stage '{self.stage.name}' has no {expert} expert to train")
            part.requires_grad_(True)
        if "understanding" in self.stage.experts:
            # The small eye and words have no pretraining to protect, unlike a frozen VLM.
            self.module.perception.requires_grad_(True)

    @torch.no_grad()
    def _latents(self, cached: Cached, key: str) -> Float[np.ndarray, "n c h w"]:
        """Latents of every frame, kept beside the cache."""
        path = cached.folder / f"latents-{key}.npy"
        if not path.exists():
            parts = []
            for at in range(0, len(cached.canvas), 64):
                pixels = images(cached.canvas[at : at + 64], self.device) * 2 - 1
                parts.append(self.module.frames.encode(pixels[:, :, None])[:, :, 0].half().cpu())
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                np.save(file, torch.cat(parts).numpy())
            partial.replace(path)
        return np.load(path, mmap_mode="r")


def augment(pictures: Float[Tensor, "b 3 H W"], generator: Generator) -> Float[Tensor, "b 3 H W"]:
    """A little contrast and brightness per picture; places stay, since actions depend on them."""
    shape = (len(pictures), 1, 1, 1)
    contrast = 1 + 0.1 * torch.randn(shape, generator=generator).to(pictures)
    brightness = 0.05 * torch.randn(shape, generator=generator).to(pictures)
    return (pictures * contrast + brightness).clamp(0, 1)


def shipped_frames(model: ModelConfig) -> Path:
    """Weights of the frame autoencoder that the package carries for a size."""
    import motus_model

    return Path(motus_model.__file__).parent / "assets" / f"frames-{model.size}.safetensors"


def windows_of(data: Mapping[str, Cached]) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
    """Training and held-out windows of each source."""
    train, held = {}, {}
    for name, cached in data.items():
        own, other = cached.split()
        train[name] = [int(i) for i in own]
        held[name] = [int(i) for i in other]
    return train, held
