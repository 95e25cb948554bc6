"""What the tests of this room share: small recordings in every known layout."""
# ruff: noqa: E402

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Test files share the contract of the readers and the writers of layouts.
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("reader_contract")

from layouts.act import write_act
from layouts.lerobot import write_lerobot_v2, write_lerobot_v3
from layouts.replay_buffer import write_zarr
from layouts.robomimic import write_robomimic
from layouts.truth import Truth, make_truth

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def shared() -> Path:
    """The folder of real recordings; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no real recordings: {SHARED} is absent")
    return SHARED


@pytest.fixture
def pusht_source(tmp_path: Path) -> Path:
    """Five recordings that the card `pusht` fits: two channels in pixels, one camera."""
    episodes = [_in_pixels(make_truth(i, ("img",), (2, 2))) for i in range(5)]
    return write_zarr(tmp_path / "source.zarr", episodes)


def _in_pixels(truth: Truth) -> Truth:
    return Truth(truth.frames, 200 + truth.state, 200 + truth.action, truth.task, truth.rate)


def tree(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True)
class Layouts:
    """Writers of the layouts that tests of conversion and datasets start from."""

    truth: Callable[..., Truth] = make_truth
    act: Callable[..., Path] = write_act
    robomimic: Callable[..., Path] = write_robomimic
    zarr: Callable[..., Path] = write_zarr
    lerobot_v2: Callable[..., Path] = write_lerobot_v2
    lerobot_v3: Callable[..., Path] = write_lerobot_v3
    tree: Callable[[Path], dict[str, bytes]] = tree


@pytest.fixture
def layouts() -> Layouts:
    """Writers of every layout."""
    return Layouts()
