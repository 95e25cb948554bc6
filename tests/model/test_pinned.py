"""Today's numbers, pinned: what the smallest network makes of fixed weights and inputs.

After an intended change of the mathematics: `MOTUS_PIN=1 pytest tests/model/test_pinned.py`
writes the file anew, and the commit says why.
"""

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from motus_model import MODES, SamplerConfig
from motus_model.sampler import Given, sample
from tests.model.toys import make_inputs, make_network, prepare, velocity

FILE = Path(__file__).with_name("pinned.safetensors")


def measure(weights: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Weights, inputs and outputs of forward, gradient and five modes."""
    network, given = make_network(), make_inputs()
    if weights is not None:
        network.load_state_dict(
            {k.removeprefix("weights."): v for k, v in weights.items() if k.startswith("weights.")}
        )
    found = {f"weights.{k}": v.detach().clone() for k, v in network.state_dict().items()}
    found |= {f"inputs.{k}": v for k, v in vars(given).items()}
    out = velocity(network, given)
    assert out.action is not None
    found |= {"video": out.video.detach(), "action": out.action.detach()}
    (out.video.square().mean() + out.action.square().mean()).backward()
    gradient = network.video.patch_embedding.weight.grad
    assert gradient is not None
    found["gradient"] = gradient
    context = prepare(network, given)
    for mode in MODES.values():
        result = sample(
            network,
            context,
            mode,
            given.video[:, :, :1],
            frames=3,
            given=Given(given.video, given.actions),
            config=SamplerConfig(video_steps=2, action_steps=4, video_shift=3.0),
            generator=torch.Generator().manual_seed(5),
        )
        assert result.actions is not None
        found |= {f"{mode.name}.video": result.video, f"{mode.name}.actions": result.actions}
    return found


def test_numbers_are_those_of_the_file():
    if os.environ.get("MOTUS_PIN"):
        save_file({k: v.contiguous() for k, v in measure().items()}, FILE)
    pinned = load_file(FILE)
    found = measure(pinned)
    assert set(found) == set(pinned)
    for key, value in pinned.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=0, msg=lambda m, k=key: k + m)


def test_the_file_is_small():
    assert FILE.stat().st_size < 200_000
