"""One sampler, five modes."""

import pytest
import torch
from torch import Tensor

from motus_model import MODES, Role, Sample, SamplerConfig
from motus_model.modes import Mode
from motus_model.sampler import Given, sample
from motus_model.solvers import SOLVERS
from tests.model.toys import SMALLEST, Inputs, make_network, prepare


def run(network, given: Inputs, mode: Mode, seed: int = 0, **options) -> Sample:
    return sample(
        network,
        prepare(network, given),
        mode,
        given.video[:, :, :1],
        frames=3,
        given=options.pop("clean", Given(given.video, given.actions)),
        config=SamplerConfig(**({"video_steps": 3, "action_steps": 3} | options)),
        generator=torch.Generator().manual_seed(seed),
    )


def distance(one: Sample, other: Sample) -> float:
    """Largest difference of any number of two samples."""
    pairs = zip(one, other, strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def smooth_in_time(network) -> None:
    """Keep the slowest waves of the time embedding: random weights on the others are no flow."""
    with torch.no_grad():
        for expert in (network.video, network.action):
            first = expert.time_embedding[0].weight
            half = first.shape[1] // 2
            first[:, [i for i in range(2 * half) if i % half < half - 1]] = 0


def noise(given: Inputs, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The noise that the sampler draws where both modalities need some."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(given.video.shape, generator=generator)
    video[:, :, :1] = given.video[:, :, :1]
    return video, torch.randn(given.actions.shape, generator=generator)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
class TestModes:
    def test_what_is_clean_or_noise_stays_bit_for_bit(self, network, inputs, mode, solver):
        result = run(network, inputs, mode, solver=solver)
        video, actions = noise(inputs)
        if mode.video is Role.CLEAN:
            assert torch.equal(result.video, inputs.video)
        if mode.video is Role.NOISE:
            assert torch.equal(result.video, video)
        if mode.action is Role.CLEAN:
            assert torch.equal(result.actions, inputs.actions)
        if mode.action is Role.NOISE:
            assert torch.equal(result.actions, actions)
        if mode.video is Role.SOLVE:
            assert not torch.equal(result.video, video)
        if mode.action is Role.SOLVE:
            assert not torch.equal(result.actions, actions)

    def test_the_condition_frame_is_kept(self, network, inputs, mode, solver):
        result = run(network, inputs, mode, solver=solver)
        assert torch.equal(result.video[:, :, :1], inputs.video[:, :, :1])

    def test_same_seed_same_bytes(self, network, inputs, mode, solver):
        first, again = (run(network, inputs, mode, seed=4, solver=solver) for _ in range(2))
        assert torch.equal(first.video, again.video)
        assert torch.equal(first.actions, again.actions)

    def test_what_was_given_is_not_written_to(self, network, inputs, mode, solver):
        before = inputs.video.clone(), inputs.actions.clone()
        run(network, inputs, mode, solver=solver)
        assert torch.equal(before[0], inputs.video)
        assert torch.equal(before[1], inputs.actions)

    def test_as_many_calls_as_steps(self, network, inputs, mode, solver, monkeypatch):
        calls = []
        forward = network.forward
        monkeypatch.setattr(network, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
        run(network, inputs, mode, video_steps=2, action_steps=5, solver=solver)
        steps = {"video": 2, "action": 5}
        assert len(calls) == max(n for k, n in steps.items() if getattr(mode, k) is Role.SOLVE)

    def test_one_step_is_the_same_in_both_solvers(self, network, inputs, mode, solver):
        one = {"video_steps": 1, "action_steps": 1}
        euler, other = (run(network, inputs, mode, solver=s, **one) for s in ("euler", solver))
        torch.testing.assert_close(other.video, euler.video, atol=1e-4, rtol=0)
        torch.testing.assert_close(other.actions, euler.actions, atol=1e-4, rtol=0)


QUICK = ("joint", "idm")


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(mode, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, mode in MODES.items()
    ],
)
def test_few_steps_of_higher_order_come_near_many_euler_steps(network, inputs, mode):
    smooth_in_time(network)
    many, few = ({"video_steps": n, "action_steps": n} for n in (160, 8))
    exact = run(network, inputs, mode, **many)
    near = distance(run(network, inputs, mode, solver="unipc", **few), exact)
    assert near < 0.5 * distance(run(network, inputs, mode, **few), exact)


@pytest.mark.parametrize(("mode", "missing"), [("wm", "action"), ("idm", "video")])
def test_a_missing_clean_modality_is_named(network, inputs, mode, missing):
    with pytest.raises(ValueError, match=f"mode {mode} needs the clean {missing}"):
        run(network, inputs, MODES[mode], clean=Given())


def test_another_seed_another_sample(network, inputs):
    first, other = (run(network, inputs, MODES["joint"], seed=s) for s in (0, 1))
    assert not torch.equal(first.actions, other.actions)


def test_one_step_is_one_euler_step(network, inputs):
    result = run(network, inputs, MODES["joint"], video_steps=1, action_steps=1)
    video, actions = noise(inputs)
    with torch.no_grad():
        velocity = network(prepare(network, inputs), video, torch.ones(2), actions, torch.ones(2))
    torch.testing.assert_close(result.actions, actions - velocity.action)
    torch.testing.assert_close(result.video[:, :, 1:], (video - velocity.video)[:, :, 1:])


def test_each_modality_has_its_own_steps_and_shift_with_either_solver(network, inputs):
    """More steps or a shift for the actions alone leave the first video move as it was."""
    for solver in SOLVERS:
        plain = run(network, inputs, MODES["joint"], solver=solver, video_steps=1, action_steps=1)
        other = run(
            network,
            inputs,
            MODES["joint"],
            solver=solver,
            video_steps=1,
            action_steps=4,
            action_shift=3.0,
        )
        assert not torch.allclose(plain.actions, other.actions, atol=1e-3)
        assert other.video.isfinite().all()
        assert other.actions.isfinite().all()


def test_an_unknown_solver_is_named():
    with pytest.raises(ValueError, match="no solver 'heun'; solvers are euler, unipc"):
        SamplerConfig(solver="heun")


@pytest.mark.parametrize("mode", ["vla", "idm"])
def test_the_video_runs_once(network, inputs, mode, monkeypatch):
    calls = []
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    fast = run(network, inputs, MODES[mode], action_steps=5, video_once=True)
    assert len(calls) == 1
    slow = run(network, inputs, MODES[mode], action_steps=5)
    assert torch.equal(fast.video, slow.video)
    assert not torch.equal(fast.actions, slow.actions)  # the price
    torch.testing.assert_close(fast.actions, slow.actions, atol=0.2, rtol=0)
    one = {"video_steps": 1, "action_steps": 1}
    exact = (run(network, inputs, MODES[mode], video_once=once, **one) for once in (True, False))
    first, second = exact
    assert torch.equal(first.actions, second.actions)


@pytest.mark.parametrize("mode", ["vgm", "wm", "joint"])
def test_asking_for_video_runs_it_every_time(network, inputs, mode):
    once = run(network, inputs, MODES[mode], video_once=True)
    every = run(network, inputs, MODES[mode])
    assert torch.equal(once.video, every.video)
    assert torch.equal(once.actions, every.actions)


def test_video_alone_without_an_action_expert(inputs):
    from dataclasses import replace

    network = make_network(replace(SMALLEST, action=None, understanding=None))
    result = run(network, inputs, MODES["vgm"])
    assert result.actions is None
    assert result.video.shape == inputs.video.shape
