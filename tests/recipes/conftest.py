"""A tiny planar dataset that a recipe can be run on in seconds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from motus_adapters import EpisodeData, Header, Layout, Source, write_dataset
from motus_embodiments import load_card

SIDE = 48  # pixels


@dataclass(frozen=True)
class Square:
    """A bright square that goes where the pusher goes."""

    key: str
    length: int
    seed: int

    def load(self) -> EpisodeData:
        generator = np.random.default_rng(self.seed)
        path = generator.uniform(0.1, 0.4, 2) + np.linspace(0, 0.08, self.length)[:, None]
        state = path.astype(np.float32)
        motion = np.zeros((self.length, 14), np.float32)
        motion[:-1, :2] = np.diff(state, axis=0)

        def frames() -> Iterator[Mapping[str, np.ndarray]]:
            for x, y in (path / 0.512 * SIDE).astype(int):
                picture = np.full((SIDE, SIDE, 3), 40, np.uint8)
                picture[y : y + 6, x : x + 6] = (230, 120, 30)
                yield {"head": picture}

        return EpisodeData(
            frames=frames(),
            num_frames=self.length,
            state=state,
            action=np.concatenate([state[1:], state[-1:]]),
            motion=motion,
            task="push the block",
            source_name=self.key,
        )


def write_squares(out: Path, *, episodes: int = 4, level: int = 6) -> Path:
    """A finished unified dataset for the shipped card `pusht`."""
    header = Header(
        card=load_card("pusht"),
        rate=10.0,
        level=level,
        source=Source("test", "squares", f"hash-{episodes}"),
        layout=Layout(SIDE, SIDE, {"head": (0, 0, SIDE, SIDE)}),
        motion_mask=(True, True, *(False,) * 12),
    )
    jobs = [Square(f"square-{i}", 10 + i, i) for i in range(episodes)]
    write_dataset(out, header, jobs, workers=1, resume=False, force=False)
    return out


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    return write_squares


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squares(tmp_path_factory.mktemp("data") / "squares")
