"""A tiny planar dataset that a recipe can be run on in seconds."""

import shutil
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
from motus_adapters.deployment.bundle import model_config
from motus_embodiments import ActionAdapter, load_card
from motus_model import MotusModel, Window
from motus_recipes import evaluate, load_recipe, sample_all, train

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


def write_squares(
    out: Path, *, episodes: int = 4, frames: int = 10, level: int = 6, card: str = "pusht"
) -> Path:
    """A finished unified dataset for the shipped card `pusht`, or one like it."""
    header = Header(
        card=load_card(card),
        rate=10.0,
        level=level,
        source=Source("test", "squares", f"hash-{episodes}"),
        layout=Layout(SIDE, SIDE, {"head": (0, 0, SIDE, SIDE)}),
        motion_mask=(True, True, *(False,) * 12),
    )
    jobs = [Square(f"square-{i}", frames + i, i) for i in range(episodes)]
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
    execute: int = 2,
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
        execute=execute,
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


@pytest.fixture(scope="session")
def tiny_run(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages of the recipe `full`, three steps each; its name is hard on HTML."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs") / "a <b> & 'c'"
    changes = [
        f"stages.{stage}.{key}={value}"
        for stage in ("codec", "stage1", "stage2", "stage3")
        for key, value in (("steps", 3), ("batch", 4))
    ]
    train(load_recipe("full", overrides=changes), run=folder, data={"target": squares})
    return folder


@pytest.fixture(scope="session")
def shown_run(tiny_run: Path, squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a result and samples, moved from where they were made."""
    folder = tmp_path_factory.mktemp("shown")
    made = folder / "made"
    shutil.copytree(tiny_run, made)
    policy = write_untrained(folder / "policy", "pusht", {"head": (48, 48)})
    out = made / "evaluations" / "expert.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        import toy_sim

        evaluate("expert", "toy:Slide", 3, opener=toy_sim.crashing, out=out)
    sample_all(policy, squares, 0, made / "samples", steps=1)
    return made.rename(folder / "moved")


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch):
    """The toy simulator, importable by worker processes too."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    import toy_sim

    return toy_sim
