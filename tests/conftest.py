"""What all tests share: the command line in this process, and the team's sample data."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Shapes and types of the network are checked at run time, whoever imports it: the hook works on
# modules that are not imported yet, so it stands before all tests.
install_import_hook("motus_model", "beartype.beartype")

# How long an example takes depends on the machine and on what else it does.
settings.register_profile("motus", deadline=None)
settings.load_profile("motus")

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ran:
    """How one command line ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)


Motus = Callable[..., Ran]


@pytest.fixture
def motus(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Motus:
    """Run `motus ARGUMENTS` in this process, in an empty folder."""
    from motus_cli.app import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def need_simulator() -> Callable[[str], None]:
    """Skip where a simulator is not installed."""
    from motus_adapters import environment_state, families

    def check(name: str) -> None:
        key = name.partition(":")[0]
        family = families()[key]
        if family.host is None and not family.is_importable:
            pytest.skip(f"{family.package} is not installed")
        if family.host is not None and environment_state(key, family) != "installed":
            pytest.skip(f"needs `motus sim install {key}`")

    return check


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The team's real sample recordings, which lie beside the checkout and not in it."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the sample recordings in {folder}")
    return folder
