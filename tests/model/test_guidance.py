"""Real-time chunking: the weights, the pull, and the hook in the sampler."""

import math

import pytest
import torch

from motus_model import MODES, PrefixGuide, SamplerConfig, prefix_weights
from motus_model.network import Velocity
from motus_model.sampler import sample
from tests.model.toys import make_inputs, make_network, prepare


@pytest.fixture
def inputs():
    return make_inputs()


@pytest.fixture
def network():
    return make_network()


def run(network, inputs, guide=None, mode="vla", **config):
    return sample(
        network,
        prepare(network, inputs),
        MODES[mode],
        inputs.video[:, :, :1],
        inputs.video.shape[2],
        config=SamplerConfig(**{"action_steps": 5, "video_steps": 5} | config),
        generator=torch.Generator().manual_seed(0),
        guide=guide,
    )


def test_weights_are_the_papers():
    weights = prefix_weights(8, delay=2, overlap=6)
    assert weights[:2].tolist() == [1, 1]
    assert weights[6:].tolist() == [0, 0]
    for row in range(2, 6):
        c = (6 - row) / (6 - 2 + 1)
        assert weights[row] == pytest.approx(c * math.expm1(c) / math.expm1(1), rel=1e-5)
    assert (weights.diff() <= 0).all()


@pytest.mark.parametrize(("delay", "overlap"), [(0, 0), (0, 8), (8, 8), (3, 3), (1, 20)])
def test_weights_at_the_edges(delay, overlap):
    weights = prefix_weights(8, delay, overlap)
    assert weights.shape == (8,)
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (weights[:delay] == 1).all()
    assert (weights[overlap:] == 0).all()


@pytest.mark.parametrize("mode", ["vla", "joint"])
def test_without_weights_nothing_changes(network, inputs, mode):
    nothing = PrefixGuide(torch.zeros_like(inputs.actions), torch.zeros(4))
    free, guided = run(network, inputs, mode=mode), run(network, inputs, nothing, mode=mode)
    torch.testing.assert_close(free.actions, guided.actions)
    torch.testing.assert_close(free.video, guided.video)
    assert not guided.actions.requires_grad


def test_the_prefix_is_followed_and_the_far_end_is_free(network, inputs):
    free = run(network, inputs).actions
    previous = free + 1.5
    guided = run(network, inputs, PrefixGuide(previous, prefix_weights(4, 2, 3))).actions
    before = (previous - free).abs().mean((0, 2))
    after = (previous - guided).abs().mean((0, 2))
    assert (after[:2] < 0.15 * before[:2]).all()
    assert after[2] < before[2]
    assert after[3] > after[2]


@pytest.mark.parametrize("solver", ["euler", "unipc"])
@pytest.mark.parametrize("once", [False, True])
def test_every_way_of_sampling_takes_a_guide(network, inputs, solver, once):
    guide = PrefixGuide(inputs.actions, prefix_weights(4, 4, 4))
    free = run(network, inputs, solver=solver, video_once=once).actions
    guided = run(network, inputs, guide, solver=solver, video_once=once).actions
    near, far = ((inputs.actions - found).abs().mean() for found in (guided, free))
    assert near < 0.3 * far


def test_the_pull_is_a_vector_jacobian_product():
    matrix = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    x = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(1))
    previous, weights, time = torch.ones(1, 4, 3), prefix_weights(4, 1, 3), 0.6
    guide = PrefixGuide(previous, weights)
    found = guide(lambda a: Velocity(torch.zeros(1), a @ matrix), x, time).action
    clean = x - time * x @ matrix
    jacobian = torch.eye(3) - time * matrix
    pull = (previous - clean) * weights[:, None] @ jacobian.T
    scale = (0.4**2 + 0.6**2) / (0.6 * 0.4)
    torch.testing.assert_close(found, x @ matrix - scale * pull)


def test_the_pull_is_bounded_in_pure_noise():
    x = torch.zeros(1, 4, 3)
    guide = PrefixGuide(torch.ones(1, 4, 3), torch.ones(4), strength=2.0)
    found = guide(lambda a: Velocity(torch.zeros(1), 0 * a), x, 1.0).action
    torch.testing.assert_close(found, torch.full_like(x, -2.0))
