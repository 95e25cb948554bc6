"""Latent actions of episodes: optical flow of each step, encoded to 14 numbers by a codec."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from motus_adapters.canvas import Layout
from motus_adapters.flow import DisFlow, FlowEstimator, flow_canvas
from motus_embodiments import DataError, MissingError

SHIPPED = Path(__file__).parent / "assets" / "codec"

_BATCH = 64  # pairs encoded at once


@dataclass(frozen=True)
class Labeler:
    """Writes latent actions with the codec of a folder; cheap to send to a worker process.

    Attributes:
        folder: What `motus_model.load_codec` reads.
    """

    folder: Path

    @property
    def codec(self) -> str:
        """The codec's hash."""
        hash_: str = _codec(self.folder).hash
        return hash_

    @property
    def flow(self) -> str:
        """Name of the flow estimator."""
        return DisFlow.name

    def track(self, layout: Layout) -> "LatentTrack":
        """Begin an episode on this canvas."""
        return LatentTrack(_codec(self.folder), DisFlow(), layout)


class LatentTrack:
    """The latent actions of one episode, fed canvas by canvas; keeps one canvas and 64 flows."""

    def __init__(self, codec: Any, estimator: FlowEstimator, layout: Layout) -> None:
        self._codec, self._estimator, self._layout = codec, estimator, layout
        self._previous: np.ndarray | None = None
        self._flows: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []

    def push(self, canvas: np.ndarray) -> None:
        """The next frame, uint8 [height, width, 3]."""
        if self._previous is not None:
            pair = flow_canvas(self._previous, canvas, self._layout, self._estimator)
            self._flows.append(pair)
            if len(self._flows) == _BATCH:
                self._encode()
        self._previous = canvas

    def result(self) -> np.ndarray:
        """float32 [T, 14]: row i is encoded from frames i and i+1; the last repeats its forerunner.

        An episode of one frame has no motion: zeros.
        """
        if self._flows:
            self._encode()
        if not self._rows:
            return np.zeros((1, 14), np.float32)
        rows = np.concatenate(self._rows)
        return np.concatenate([rows, rows[-1:]]).astype(np.float32)

    def _encode(self) -> None:
        import torch

        # One thread, so that the sums are taken in one order whatever the machine.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self._rows.append(self._codec.encode_flow(np.stack(self._flows)))
        finally:
            torch.set_num_threads(threads)
        self._flows = []


def labeler_for(codec: str | Path | None) -> Labeler | None:
    """The labeler of a codec folder, of the shipped codec (`"shipped"`), or none.

    Raises:
        MissingError: The codec is not there.
    """
    if codec is None:
        return None
    folder = SHIPPED if codec == "shipped" else Path(codec)
    if not folder.is_dir() or not any(folder.iterdir()):
        raise MissingError(
            "this installation ships no codec" if codec == "shipped" else f"no codec in {folder}",
            hint="name a codec folder with --codec, or write no latent actions: --codec none",
            where=str(folder),
        )
    return Labeler(folder.resolve())


@lru_cache(maxsize=2)
def _codec(folder: Path) -> Any:
    from motus_model import load_codec

    try:
        return load_codec(folder)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"{folder} holds no codec that can be read: {error}",
            hint="name the folder that `motus train` wrote, such as RUN/codec",
            where=str(folder),
        ) from error
