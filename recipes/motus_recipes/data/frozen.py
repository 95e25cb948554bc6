"""What frozen encoders make of a dataset: computed once and kept beside it, or on the fly.

Every sample is encoded on its own, so that nothing depends on the batch or process that came
first, and is kept in the precision that its encoder computes in: losses are the same with what
was kept, with what was lost, and with nothing kept at all.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from motus_model import Encoded, Encoders, FrameAutoencoder, Frozen, Window
from motus_recipes.data.cache import Cached
from motus_recipes.data.store import TensorStore

FRAMES_AT_ONCE = 64
ENTRIES_A_FOLDER = 1000


def images(canvas: UInt8[np.ndarray, "n H W 3"], device: torch.device) -> Float[Tensor, "n 3 H W"]:
    """Frames as float images in [0, 1]."""
    return torch.from_numpy(np.array(canvas)).to(device).permute(0, 3, 1, 2).float() / 255


class FrozenOutputs:
    """Latents, words and features of one dataset's windows.

    Args:
        cached: The dataset.
        encoders: Of the model; those that train along give None here.
        window: Frames of one sample.
        limit: Bytes to keep; 0 computes on the fly.
        device: Where the encoders are and the results go.
    """

    def __init__(
        self,
        cached: Cached,
        encoders: Encoders,
        window: Window,
        limit: int,
        device: torch.device,
    ) -> None:
        self.cached, self.encoders, self.window, self.device = cached, encoders, window, device
        self.store = TensorStore(cached.folders.root.with_name("encoded"), limit)
        self._names = {
            kind: f"{kind}-{encoder.fingerprint()}"
            for kind, encoder in encoders._asdict().items()
            if isinstance(encoder, Frozen)
        }
        self._by_frame = self._frame_latents() if limit else None

    def latents(self, index: int) -> Float[Tensor, "c f h w"]:
        """Latents of the condition frame and the future frames of a window."""
        frames = self.encoders.frames
        rows = self.cached.future(
            np.array([index]), self.window.video_frames + 1, self.window.video_rate, 0
        )[0]
        if self._by_frame is not None:
            return torch.from_numpy(self._by_frame[rows]).to(self.device).float().transpose(0, 1)
        if isinstance(frames, FrameAutoencoder):
            return _each_frame(frames, self._pictures(rows)).float().transpose(0, 1)

        def encode() -> dict[str, Tensor]:
            clip = self._pictures(rows).transpose(0, 1)[None]
            return {"latents": frames.encode(clip)[0].cpu()}

        return self._kept("frames", _number(index), encode)["latents"].to(self.device)

    def words(self, index: int) -> Encoded | None:
        """Text features of a window's instruction; None where the text encoder trains."""
        task = self.cached.tasks[index]
        name = hashlib.sha256(task.encode()).hexdigest()[:16]
        return self._encoded("text", name, lambda: self.encoders.text([task]))

    def seen(self, index: int) -> Encoded | None:
        """Features of a window's condition frame and instruction; None where perception trains."""

        def look() -> Encoded:
            picture = images(self.cached.canvas[index][None], self.device)
            return self.encoders.perception(picture, [self.cached.tasks[index]])

        return self._encoded("perception", _number(index), look)

    def _encoded(self, kind: str, name: str, encode: Callable[[], Encoded]) -> Encoded | None:
        encoder = getattr(self.encoders, kind)
        if not isinstance(encoder, Frozen):
            return None

        def make() -> dict[str, Tensor]:
            tokens, mask = encode()
            return {"tokens": tokens[mask].to(encoder.dtype).cpu()}

        tokens = self._kept(kind, name, make)["tokens"].float().to(self.device)[None]
        return Encoded(tokens, tokens.new_ones(tokens.shape[:2], dtype=torch.bool))

    @torch.no_grad()
    def _kept(
        self, kind: str, name: str, make: Callable[[], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        return self.store.get(f"{self.cached.key}/{self._names[kind]}/{name}", make)

    def _pictures(self, rows: np.ndarray) -> Float[Tensor, "n 3 H W"]:
        """Frames in [-1, 1]."""
        return images(self.cached.canvas[rows], self.device) * 2 - 1

    def _frame_latents(self) -> Float[np.ndarray, "n c h w"] | None:
        """Latents of all frames in one file, where each frame is coded on its own."""
        frames = self.encoders.frames
        if not isinstance(frames, FrameAutoencoder):
            return None
        weights = b"".join(value.cpu().numpy().tobytes() for value in frames.state_dict().values())
        name = f"{self.cached.key}-{hashlib.sha256(weights).hexdigest()[:16]}"
        count, (height, width) = len(self.cached.canvas), self.cached.canvas.shape[1:3]
        stride = frames.config.stride

        def encode(folder: Path) -> None:
            parts = [
                _each_frame(frames, self._pictures(np.arange(at, min(at + FRAMES_AT_ONCE, count))))
                for at in range(0, count, FRAMES_AT_ONCE)
            ]
            np.save(folder / "latents.npy", torch.cat(parts).cpu().numpy())

        size = 2 * count * frames.channels * (height // stride) * (width // stride)
        folder = self.cached.folders.get(name, size, encode, in_use=[self.cached.key])
        found: np.ndarray = np.load(folder / "latents.npy", mmap_mode="r")
        return found


def stack(samples: Sequence[Encoded | None]) -> Encoded | None:
    """Samples as one batch, zeros after the end of the shorter ones; None if there are none."""
    given = [sample for sample in samples if sample is not None]
    if not given:
        return None
    tokens, mask = (
        pad_sequence([getattr(sample, name)[0] for sample in given], batch_first=True)
        for name in ("tokens", "mask")
    )
    return Encoded(tokens, mask)


@torch.no_grad()
def _each_frame(
    frames: FrameAutoencoder, pictures: Float[Tensor, "n 3 H W"]
) -> Float[Tensor, "n c h w"]:
    """Latents of single frames, rounded to half precision."""
    return frames.encode(pictures[:, :, None])[:, :, 0].half()


def _number(index: int) -> str:
    """Name of a window's entry: a folder for each thousand."""
    return f"{index // ENTRIES_A_FOLDER}/{index % ENTRIES_A_FOLDER}"
