"""Latent actions of episodes: optical flow of each step, encoded to 14 numbers by a codec."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray

from motus_adapters.conversion.canvas import Layout
from motus_adapters.flow.canvases import FLOW_SHAPE, flow_canvas
from motus_adapters.flow.choice import STILL, FlowMethod, open_flow
from motus_adapters.flow.fields import chain_runs, remove_camera_motion
from motus_embodiments import DataError, MismatchError, MissingError, UsageError

SHIPPED = Path(__file__).parent / "assets" / "codec"

_BATCH = 64  # pairs followed and encoded at once


@dataclass(frozen=True)
class Labeler:
    """Writes latent actions with the codec of a folder; cheap to send to a worker process.

    Attributes:
        folder: What `motus_model.load_codec` reads.
        choice: How flow is estimated, as `open_flow` takes it.
        device: Where networks run: auto, cpu, cuda or cuda:N.
    """

    folder: Path
    choice: str = "dis"
    device: str = "cpu"

    @property
    def codec(self) -> str:
        """The codec's hash."""
        hash_: str = _codec(self.folder, self.device).hash
        return hash_

    @property
    def flow(self) -> str:
        """Name of the flow estimator."""
        return _method(self.choice, self.device).name

    def track(self, layout: Layout, rate: float, steps: Mapping[str, int]) -> "LatentTrack":
        """Begin an episode.

        Args:
            layout: Of its canvases.
            rate: Frames a second.
            steps: Feature -> frames that each of its latent actions spans.
        """
        codec, method = _codec(self.folder, self.device), _method(self.choice, self.device)
        return LatentTrack(codec, method, layout, rate, steps)


class LatentTrack:
    """The latent actions of one episode, fed canvas by canvas; holds 65 canvases at most."""

    def __init__(
        self,
        codec: Any,
        method: FlowMethod,
        layout: Layout,
        rate: float,
        steps: Mapping[str, int],
    ) -> None:
        self._codec, self._method, self._layout, self._rate = codec, method, layout, rate
        self._steps = dict(steps)
        self._length = 0
        self._canvases: list[np.ndarray] = []
        # Flows of latents that are not whole yet.
        self._pending = dict.fromkeys(steps, np.zeros((0, *FLOW_SHAPE), np.float32))
        self._rows: dict[str, list[np.ndarray]] = {name: [] for name in steps}

    def push(self, canvas: UInt8[ndarray, "h w 3"]) -> None:
        """The next frame."""
        self._length += 1
        self._canvases.append(canvas)
        if len(self._canvases) > _BATCH:
            self._follow()

    def result(self) -> dict[str, Float[ndarray, "t 14"]]:
        """Feature -> float32: row i is encoded from the flow from frame i to i + steps.

        A codec that smooths averages it with the rows around it (`LatentActionCodec.smooth`).
        Rows that would end beyond the episode repeat the last whole one. An episode that is
        shorter than a step has the motion of its whole length, a single frame none: zeros.
        """
        if len(self._canvases) > 1:
            self._follow()
        out = {}
        for name, rows in self._rows.items():
            pending = self._pending[name]
            if not rows and len(pending):
                rows = [self._encode(pending, len(pending))]
            whole = np.concatenate(rows) if rows else np.zeros((1, 14), np.float32)
            whole = self._codec.smooth(whole, self._rate, self._steps[name])
            rest = np.repeat(whole[-1:], self._length - len(whole), axis=0)
            out[name] = np.concatenate([whole, rest]).astype(np.float32)
        return out

    def _follow(self) -> None:
        """Flow of the canvases at hand, and the latents that are whole by then."""
        canvases = np.stack(self._canvases)
        self._canvases = self._canvases[-1:]
        flows = flow_canvas(canvases[:-1], canvases[1:], self._layout, self._method.estimator)
        for name, steps in self._steps.items():
            pending = np.concatenate([self._pending[name], flows])
            whole = len(pending) - steps + 1
            if whole > 0:
                self._rows[name].append(self._encode(pending, steps))
                pending = pending[whole:]
            self._pending[name] = pending

    def _encode(
        self, flows: Float[ndarray, "n 2 72 64"], steps: int
    ) -> Float[ndarray, "n-steps+1 14"]:
        """Latents of every run of `steps` flows."""
        from motus_adapters.devices import one_thread

        spanned = chain_runs(flows, steps, self._layout)
        if self._method.still:
            spanned = remove_camera_motion(spanned)
        with one_thread():
            latents: Float[ndarray, "n 14"] = self._codec.encode_flow(spanned)
        return latents


@dataclass(frozen=True)
class LearntFlow:
    """How the flow was had that a codec learnt from.

    Attributes:
        choice: As `open_flow` takes it.
        name: Of the method, with a hash of a network's weights; None if the codec does not say.
    """

    choice: str = "dis"
    name: str | None = None


def flow_of(folder: Path) -> LearntFlow:
    """How a codec's flow is to be had; `dis` where its folder does not say."""
    try:
        told = json.loads((folder / "config.json").read_text())["about"]["flow"]
        return LearntFlow(str(told["choice"]), str(told["name"]))
    except (OSError, ValueError, KeyError, TypeError):
        return LearntFlow()


def find_codec(name: str | Path) -> Path:
    """The folder of a codec: itself, the one inside a stage or a run, or `shipped`.

    Raises:
        MissingError: There is none.
    """
    path = SHIPPED if str(name) == "shipped" and not Path(name).exists() else Path(name)
    for place in (path, path / "codec", *sorted(path.glob("*/codec"))):
        if (place / "codec.safetensors").is_file():
            return place
    raise MissingError(
        f"no codec at {name}",
        hint="name a run of `motus train`, a codec's folder (RUN/01-codec/codec), or `shipped`",
        where=str(name),
    )


def labeler_for(
    codec: str | Path | None, flow: str | None = None, device: str = "cpu"
) -> Labeler | None:
    """The labeler of a codec, or none.

    Args:
        codec: Which, as `find_codec` takes it.
        flow: How flow is estimated; left out, as the codec learnt it.
        device: Where networks run.

    Raises:
        UsageError: There is no such flow estimator, or one without a codec.
        MismatchError: The codec learnt from flow of another estimator; only the camera's own
            motion may be left in or taken out.
        MissingError: The codec, or what the estimator needs, is not there.
        DataError: The estimator's weights are none.
    """
    if codec is None:
        if flow is not None:
            raise UsageError(
                f"flow '{flow}' is for latent actions, and without a codec there are none",
                hint="name a codec, or leave the flow out",
            )
        return None
    folder = find_codec(codec)
    learnt = flow_of(folder)
    choice = flow or learnt.choice
    method = _method(choice, device)  # what is wrong with it is told before anything is written
    if learnt.name is not None and method.estimator.name != learnt.name.removesuffix(STILL):
        same = choice.removesuffix(STILL) == learnt.choice.removesuffix(STILL)
        back = f"--flow {learnt.choice}"
        if same:  # its code or its weights are others by now
            back = "take the weights or the release that trained it"
        raise MismatchError(
            f"the codec in {folder} learnt from flow of '{learnt.name}', not of '{method.name}'",
            hint=f"{back}; or train one: --set stages.codec.codec.flow={choice}",
            where=str(folder),
        )
    return Labeler(folder.resolve(), choice, device)


@lru_cache(maxsize=2)
def _method(choice: str, device: str) -> FlowMethod:
    return open_flow(choice, device)


@lru_cache(maxsize=2)
def _codec(folder: Path, device: str) -> Any:
    from motus_adapters.devices import torch_device
    from motus_model import load_codec

    try:
        return load_codec(folder).to(torch_device(device))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{folder} holds no codec that can be read: {error}",
            hint="--codec shipped is the one that comes with motus",
            where=str(folder),
        ) from error
