"""Unified datasets of any card: smooth pictures of three views, numbers all over the limits."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motus_adapters import EpisodeData, Header, Source, layout_for, write_dataset
from motus_embodiments import load_card

SIZES = {"head": (48, 64), "left_wrist": (48, 64), "right_wrist": (48, 64)}


@dataclass(frozen=True)
class Job:
    """One episode."""

    index: int
    card: str
    length: int

    @property
    def key(self) -> str:
        return f"episode {self.index}"

    def load(self) -> EpisodeData:
        rng, card = np.random.default_rng(self.index), load_card(self.card)
        spread = {}
        for kind in ("state", "action"):
            channels = getattr(card, f"{kind}_channels")
            low = [max(c.low, -2) for c in channels]
            high = [min(c.high, 2) for c in channels]
            spread[kind] = rng.uniform(low, high, (self.length, len(channels)))
        return EpisodeData(
            frames=({role: self.picture(t, role) for role in SIZES} for t in range(self.length)),
            num_frames=self.length,
            state=spread["state"],
            action=spread["action"],
            motion=None,
            task=("push", "pull")[self.index % 2],
            source_name=self.key,
        )

    def picture(self, t: int, role: str) -> np.ndarray:
        x = np.tile(np.arange(64), (48, 1))
        wave = 127 + 80 * np.sin((x + 3 * t) / 8 + self.index)
        shade = np.full_like(wave, 60 * list(SIZES).index(role))
        return np.stack([wave, 2.0 * x, shade], -1).astype(np.uint8)


def write_unified(folder: Path, card: str, lengths: tuple[int, ...]) -> Path:
    """A finished dataset at 10 Hz with an episode of each length."""
    header = Header(
        card=load_card(card),
        rate=10.0,
        level=6,
        source=Source("test", "made", "0"),
        layout=layout_for(SIZES),
    )
    write_dataset(folder, header, [Job(i, card, length) for i, length in enumerate(lengths)])
    return folder
