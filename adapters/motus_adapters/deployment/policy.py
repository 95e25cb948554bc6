"""A trained policy for one robot: native values in, native values out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import ceil
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from motus_adapters.action_space import ActionSpace
from motus_adapters.deployment.bundle import BundleConfig, build_model, read_bundle
from motus_adapters.deployment.chunking import Overlap
from motus_adapters.deployment.guard import Guard
from motus_adapters.deployment.latent_decoder import LatentDecoder
from motus_adapters.deployment.limits import Counts, Limits
from motus_adapters.deployment.splice import Splice
from motus_adapters.devices import torch_device
from motus_adapters.exports.runner import at_rows, draw_noise
from motus_adapters.sims.protocol import Observation
from motus_embodiments import Card, DataError, UsageError
from motus_model import MODES, Given, MotusModel, SamplerConfig

DECODER = "decoder."  # prefix of the decoder's weights


class Policy:
    """Runs a bundle; `load` opens one.

    Attributes:
        config: Window, canvas, rates, mode.
        space: Card and statistics.
        guard: What observations are held against, for the one robot that `act` drives.
        counts: What it met since loading or `reset`.
        digest: Names the bundle; empty without one.
        weights_hash: SHA-256 of its weights; empty without one.
    """

    def __init__(
        self,
        model: MotusModel,
        config: BundleConfig,
        space: ActionSpace,
        device: torch.device,
        *,
        decoder: LatentDecoder | None = None,
        digest: str = "",
        weights_hash: str = "",
    ) -> None:
        self.model = model.to(device).eval()
        self.decoder = decoder.to(device).eval() if decoder else None
        self.config, self.space, self.device, self.digest = config, space, device, digest
        self.weights_hash = weights_hash
        self.counts = Counts()
        self.guard = Guard(config, space, self.counts)
        self.limits = Limits(space.card, config.rate)

    @staticmethod
    def load(folder: Path | str, device: str = "cpu") -> "Policy":
        """Open a bundle.

        Raises:
            DataError: When a file is missing, was changed by a bit, or is no safetensors file.
            MismatchError: When the files don't agree with the contract.
            MissingError: When CUDA is asked for and not there.
        """
        bundle = read_bundle(folder)
        model = build_model(bundle.config, bundle.space)
        decoder = make_decoder(bundle.config, bundle.space)
        load_weights(model, decoder, bundle.weights, str(folder))
        return Policy(
            model,
            bundle.config,
            bundle.space,
            torch_device(device),
            decoder=decoder,
            digest=bundle.digest,
            weights_hash=bundle.weights_hash,
        )

    @property
    def card(self) -> Card:
        """The robot that this policy drives."""
        return self.space.card

    def twin(self) -> "Policy":
        """The same network for one more robot, with checks and counts of its own."""
        return Policy(
            self.model,
            self.config,
            self.space,
            self.device,
            decoder=self.decoder,
            digest=self.digest,
            weights_hash=self.weights_hash,
        )

    def reset(self) -> None:
        """Begin a new episode: forget earlier pictures and counts."""
        self.guard.reset()
        for name in vars(self.counts):
            setattr(self.counts, name, 0)

    def act(
        self,
        images: Mapping[str, UInt8[np.ndarray, "h w 3"]],
        state: Float[np.ndarray, " s"],
        instruction: str,
        seed: int = 0,
        *,
        stamps: Mapping[str, float] | None = None,
        rate: float | None = None,
        overlap: Overlap | None = None,
    ) -> Float[np.ndarray, "t a"]:
        """The next actions, one row per control step.

        Args:
            images: Camera name (of the card) to RGB picture.
            state: Robot state, native order and units.
            instruction: What to do.
            seed: Of the noise; the same seed and input give the same actions.
            stamps: When each part was captured, in s on one clock; checked for stale parts.
            rate: Control rate of the calling loop, Hz; must be the policy's.
            overlap: What is left of the chunk that the robot is carrying out.

        Raises:
            DataError: When a camera is missing or its picture has the wrong type, size or shape,
                the state has another width or is beyond the card's limits, or a part is stale.
            MismatchError: When the loop runs at another rate.
        """
        guard = self.guard
        if rate is not None:
            guard.rate(rate)
        if stamps:
            guard.stamps(stamps)
        canonical = guard.state(state)
        canvas = guard.canvas(images)
        guard.remember(canonical, stamps)
        solved = self.solve(canvas[None], canonical[None], [instruction], [seed], overlap)
        return self.native(solved, canonical[None])[0]

    def act_batch(
        self,
        observations: Sequence[Observation],
        instructions: Sequence[str],
        seeds: Sequence[int],
    ) -> Float[np.ndarray, "b t a"]:
        """`act` for several robots of the same kind at once; rows don't know of each other.

        Raises:
            DataError: As `act`; or the three lists differ in length.
        """
        if not len(observations) == len(instructions) == len(seeds) > 0:
            raise DataError(
                f"a batch has one of each: {len(observations)} observations, "
                f"{len(instructions)} instructions, {len(seeds)} seeds"
            )
        pairs = [(Guard(self.config, self.space, self.counts), one) for one in observations]
        state = np.stack([guard.state(one.state) for guard, one in pairs])
        canvases = np.stack([guard.canvas(one.images) for guard, one in pairs])
        return self.native(self.solve(canvases, state, instructions, seeds), state)

    def solve(
        self,
        canvases: UInt8[np.ndarray, "b H W 3"],
        state: Float[np.ndarray, "b s"],
        instructions: Sequence[str],
        seeds: Sequence[int],
        overlap: Overlap | None = None,
    ) -> Float[np.ndarray, "b t a"]:
        """Canonical actions inside the limits, of canvases and canonical states that were checked.

        Args:
            canvases: At the model's size.
            state: Canonical.
            instructions: One a row.
            seeds: Of each row's noise.
            overlap: With the previous chunk, for a batch of one.
        """
        self.counts.calls += len(canvases)
        splice = self._splice(overlap, state) if overlap else None
        numbers = self.denoise(canvases, state, instructions, self.noise(seeds), splice)
        actions = self.space.decode_actions(at_rows(numbers, self.places), state)
        return self.limits(actions, state, self.counts)

    def denoise(
        self,
        canvases: UInt8[np.ndarray, "b H W 3"],
        state: Float[np.ndarray, "b s"],
        instructions: Sequence[str],
        noise: Given,
        splice: Splice | None = None,
    ) -> Float[np.ndarray, "b t a"]:
        """The network alone: normalised actions at the window's rate."""
        pictures = torch.from_numpy(np.ascontiguousarray(canvases)).permute(0, 3, 1, 2)
        seen = torch.from_numpy(self.space.encode_state(state)).to(self.device)
        solved = self.model.sample(
            MODES[self.config.mode],
            pictures.to(self.device).float() / 255,
            list(instructions),
            None if self.decoder else seen,
            config=SamplerConfig(self.config.steps, self.config.steps),
            noise=noise,
            guide=splice.guide(self.device) if splice else None,
        ).actions
        assert solved is not None
        if self.decoder:
            with torch.no_grad():
                solved = self.decoder(solved, seen)
        return (splice.finish(solved) if splice else solved).cpu().numpy()

    def noise(self, seeds: Sequence[int]) -> Given:
        """What denoising starts from; each row's follows from its seed alone."""
        video, actions = draw_noise(seeds, *self.noise_shapes)
        return Given(torch.from_numpy(video), torch.from_numpy(actions))

    def native(
        self, actions: Float[np.ndarray, "b t a"], state: Float[np.ndarray, "b s"]
    ) -> Float[np.ndarray, "b t a"]:
        """Canonical actions in the robot's own order and units, at canonical states."""
        decode = self.space.adapter.decode_action
        return np.stack([decode(rows, now) for rows, now in zip(actions, state, strict=True)])

    @cached_property
    def noise_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of one row's latent frames and action chunk."""
        model, action = self.model, self.model.network.action
        assert action is not None
        with torch.no_grad():
            blank = torch.zeros(1, 3, 1, *model.config.canvas, device=self.device)
            _, channels, _, *size = model.frames.encode(blank).shape
        frames = model.frames.latent_frames(1 + self.config.window.video_frames)
        return (channels, frames, *size), (action.config.steps, action.config.action_dim)

    @property
    def rows(self) -> int:
        """Control steps of a chunk."""
        return self.config.rows

    @property
    def places(self) -> Float[np.ndarray, " t"]:
        """Where the control steps of a chunk lie between the rows that the network gives."""
        return np.arange(self.rows) * self.config.window.action_rate / self.config.rate

    def _splice(self, overlap: Overlap, state: Float[np.ndarray, "1 s"]) -> Splice:
        """The overlap in the network's numbers, at the window's rate."""
        if self.decoder and overlap.method == "guide":
            raise UsageError(
                "this policy solves for latent actions, which real ones cannot guide",
                hint="take the method 'blend'",
            )
        canonical = self.space.adapter.encode_action(overlap.actions, state[0])[None]
        numbers = self.space.action.normalize(self.space.adapter.relative(canonical, state))
        stride = self.config.rate / self.config.window.action_rate
        kept = at_rows(numbers, np.arange(0, len(overlap.actions), stride))[0]
        delay = min(len(kept), ceil(overlap.delay / stride))
        return Splice(kept, replace(overlap, delay=delay), self.config.window.action_steps)


def make_decoder(config: BundleConfig, space: ActionSpace) -> LatentDecoder | None:
    """The decoder of a policy of latent actions, without its weights."""
    if config.decoder is None:
        return None
    return LatentDecoder(
        config.window.action_steps,
        len(space.state.mean),
        len(space.action.mean),
        config.decoder.hidden,
    )


def load_weights(
    model: MotusModel,
    decoder: LatentDecoder | None,
    weights: Mapping[str, Tensor],
    where: str,
) -> None:
    """Put a bundle's weights into its network and its decoder.

    Raises:
        DataError: They don't fit key for key.
    """
    own = {key: value for key, value in weights.items() if not key.startswith(DECODER)}
    rest = {k.removeprefix(DECODER): v for k, v in weights.items() if k.startswith(DECODER)}
    try:
        model.load_state_dict(own, strict=True)
        if decoder or rest:
            (decoder or torch.nn.Module()).load_state_dict(rest, strict=True)
    except RuntimeError as error:
        raise DataError(f"the weights of {where} do not fit: {error}", where=where) from error
