"""The policy's contract says what its numbers mean, the words around an instruction included."""

import numpy as np
import pytest

from motus_adapters import ActionSpace, BundleConfig, Layout
from motus_adapters.action_space import Normalizer
from motus_adapters.deployment.bundle import contract
from motus_embodiments import load_card
from motus_model import PROMPT, Window


def agreed(size: str) -> dict:
    card = load_card("pusht")
    numbers = Normalizer.fit(np.random.default_rng(0).random((8, 2)))
    space = ActionSpace(card, numbers, numbers)
    window = Window(video_frames=8, video_rate=5.0, action_steps=2, action_rate=10.0)
    layout = Layout(96, 96, {"head": (0, 0, 96, 96)})
    return contract(BundleConfig(size, window, layout, rate=10.0), space)


@pytest.mark.parametrize(("size", "prompt"), [("motus-8b", PROMPT), ("tiny", None)])
def test_the_prompt_belongs_to_the_contract_of_what_reads_it(size, prompt):
    assert agreed(size)["prompt"] == prompt


def test_another_prompt_is_another_contract(monkeypatch):
    before = agreed("motus-8b")
    monkeypatch.setattr("motus_adapters.deployment.bundle.PROMPT", "{instruction}{image}")
    after = agreed("motus-8b")
    assert {key for key in before if before[key] != after[key]} == {"prompt"}
