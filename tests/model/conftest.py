"""The golden numbers, and the smallest network with its inputs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from torch import Tensor

    from motus_model import Motus
    from tests.model.toys import Inputs

GOLDEN = Path(__file__).parents[2] / ".." / "shared" / "golden"


@dataclass(frozen=True)
class Golden:
    """Numbers of the official code (data alone), see ../shared/golden/README.md."""

    meta: dict[str, Any]

    def read(self, name: str) -> "dict[str, Tensor]":
        from safetensors.torch import load_file

        return load_file(GOLDEN / f"{name}.safetensors")

    def official_weights(self, form: str) -> "dict[str, Tensor]":
        state = self.read("tiny_finetune.weights")
        if form == "pretrain":
            state |= self.read("tiny_pretrain.weights_diff")
            state = {k: v for k, v in state.items() if k not in self.meta["pretrain_absent_keys"]}
        return state


@pytest.fixture(scope="session")
def golden() -> Golden:
    if not GOLDEN.is_dir():
        pytest.skip(f"needs the golden numbers in {GOLDEN.resolve()}")
    return Golden(json.loads((GOLDEN / "meta.json").read_text()))


@pytest.fixture
def inputs() -> "Inputs":
    from tests.model.toys import make_inputs

    return make_inputs()


@pytest.fixture
def network() -> "Motus":
    from tests.model.toys import make_network

    return make_network()
