"""A tiny planar dataset that a recipe can be run on in seconds."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from motus_adapters import (
    ActionSpace,
    BundleConfig,
    EpisodeData,
    Header,
    Layout,
    Normalizer,
    Source,
    describe_state,
    layout_for,
    write_bundle,
    write_dataset,
)
from motus_adapters.bundle import model_config
from motus_embodiments import ActionAdapter, load_card
from motus_model import MotusModel, Window

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


def write_squares(out: Path, *, episodes: int = 4, level: int = 6, card: str = "pusht") -> Path:
    """A finished unified dataset for the shipped card `pusht`, or one like it."""
    header = Header(
        card=load_card(card),
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


def write_untrained(
    folder: Path,
    card: str,
    sizes: Mapping[str, tuple[int, int]],
    *,
    rate: float | None = None,
    mode: str = "vla",
    force: bool = False,
) -> Path:
    """A bundle with random weights: whatever it says, it says it of what it sees."""
    robot = load_card(card)
    home = describe_state(ActionAdapter(robot), np.asarray(robot.home())[None])[0]
    count = len(robot.action_channels)
    space = ActionSpace(
        robot,
        Normalizer(home.astype(np.float32), np.full(len(home), 0.3, np.float32)),
        Normalizer(np.full(count, 0.2, np.float32), np.full(count, 0.05, np.float32)),
    )
    own = rate or robot.rate
    config = BundleConfig(
        size="tiny",
        window=Window(2, own / 4, 8, own),
        layout=layout_for(sizes),
        rate=robot.rate,
        mode=mode,
        steps=2,
        instruction="push the block",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MotusModel(model_config(config, space))
        weights = {
            key: value + 0.05 * torch.randn_like(value) if value.is_floating_point() else value
            for key, value in model.state_dict().items()
        }
    weights |= {key: value for key, value in model.state_dict().items() if key.endswith(".std")}
    write_bundle(folder, weights, config, space, "# A test\n", force=force)
    return folder


@pytest.fixture(scope="session")
def untrained() -> Callable[..., Path]:
    return write_untrained
