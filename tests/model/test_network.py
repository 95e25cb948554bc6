"""What reaches what in the network, its size, and its gradients."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from motus_model import SIZES, Motus, MotusConfig
from motus_model.layers import layer_norm, modulate
from motus_model.network import Velocity
from tests.model.toys import SMALLEST, make_network, prepare, velocity


def same(a: Velocity, b: Velocity, atol: float = 1e-6) -> None:
    torch.testing.assert_close(a.video, b.video, atol=atol, rtol=0)
    torch.testing.assert_close(a.action, b.action, atol=atol, rtol=0)


def differs(a: Tensor, b: Tensor) -> bool:
    return float((a - b).detach().abs().max()) > 1e-4


def test_hidden_tokens_change_nothing(network, inputs):
    other = replace(
        inputs,
        text=torch.where(inputs.text_mask[..., None], inputs.text, 9.0),
        features=torch.where(inputs.feature_mask[..., None], inputs.features, -9.0),
    )
    same(velocity(network, inputs), velocity(network, other))
    unmasked = velocity(network, inputs, masked=False), velocity(network, other, masked=False)
    assert differs(unmasked[0].video, unmasked[1].video)


def test_without_masks_padding_is_attended_as_in_the_official_code(network, inputs):
    short = replace(inputs, text=inputs.text[:, :4])
    padded = replace(inputs, text=torch.cat([inputs.text[:, :4], torch.zeros(2, 2, 10)], dim=1))
    same(velocity(network, short, masked=False), velocity(network, padded, masked=False))
    cut = replace(padded, text_mask=torch.arange(6)[None].expand(2, -1) < 4)
    assert differs(velocity(network, cut).video, velocity(network, short, masked=False).video)


def test_one_key_stands_for_all_equal_rows_of_padding(inputs):
    """Texts of 4 and 2 rows: as if each was filled up to 6 rows with zeros, gradients too."""
    network = make_network(replace(SMALLEST, attend_text_padding=True))
    mask = torch.arange(6)[None] < torch.tensor([4, 2])[:, None]
    cut = replace(inputs, text=inputs.text * mask[..., None], text_mask=mask)
    full = replace(cut, text_mask=torch.ones(2, 6, dtype=torch.bool))
    assert prepare(network, cut).text[0].k.shape[1] == 4 + 1
    assert prepare(network, full).text[0].k.shape[1] == 6 + 1  # weighs nothing
    same(velocity(network, cut), velocity(network, full))
    few, all_rows = gradients(network, cut), gradients(network, full)
    for name, gradient in all_rows.items():
        if gradient is not None:
            torch.testing.assert_close(few[name], gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["text", "features", "state", "video", "actions"])
def test_everything_given_reaches_both_outputs(network, inputs, name):
    other = replace(inputs, **{name: getattr(inputs, name) + 0.5})
    before, after = velocity(network, inputs), velocity(network, other)
    assert differs(before.video, after.video)
    assert differs(before.action, after.action)


@pytest.mark.parametrize("name", ["video_time", "action_time"])
def test_both_times_reach_both_outputs(network, inputs, name):
    before, after = (
        velocity(network, inputs),
        velocity(network, replace(inputs, **{name: torch.tensor([0.4, 0.5])})),
    )
    assert differs(before.video, after.video)
    assert differs(before.action, after.action)


def test_samples_of_a_batch_do_not_meet(network, inputs):
    both = velocity(network, inputs)
    for row in range(2):
        alone = replace(inputs, **{k: v[row : row + 1] for k, v in vars(inputs).items()})
        one = velocity(network, alone)
        torch.testing.assert_close(one.video, both.video[row : row + 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(one.action, both.action[row : row + 1], atol=1e-5, rtol=0)


def test_the_clean_first_frame_is_an_option(network, inputs):
    clean = make_network(replace(SMALLEST, clean_first_frame=True))
    assert differs(velocity(network, inputs).video, velocity(clean, inputs).video)
    at_zero = replace(inputs, video_time=torch.zeros(2))  # all frames are at 0 then, in both
    same(velocity(network, at_zero), velocity(clean, at_zero))


def test_skipping_the_video_head_leaves_the_actions_alone(network, inputs):
    context = prepare(network, inputs)
    arguments = (context, inputs.video, inputs.video_time, inputs.actions, inputs.action_time)
    skipped = network(*arguments, solve_video=False)
    assert torch.equal(skipped.action, network(*arguments).action)
    assert skipped.video is inputs.video


def test_a_prepared_context_serves_every_step(network, inputs):
    context = prepare(network, inputs)
    arguments = (inputs.video, inputs.video_time, inputs.actions, inputs.action_time)
    same(network(context, *arguments), network(prepare(network, inputs), *arguments))
    same(network(context, *arguments), network(context, *arguments), atol=0)


def test_actions_alone_equal_the_whole_where_nothing_changed(network, inputs):
    for masked in (True, False):
        context, memory = prepare(network, inputs, masked=masked), []
        whole = network(
            context,
            inputs.video,
            inputs.video_time,
            inputs.actions,
            inputs.action_time,
            memory=memory,
        )
        assert len(memory) == SMALLEST.video.layers
        alone = network.act(context, memory, inputs.actions, inputs.action_time)
        torch.testing.assert_close(alone, whole.action, atol=1e-6, rtol=0)


def gradients(network: Motus, inputs) -> dict[str, Tensor | None]:
    network.zero_grad()
    out = velocity(network, inputs)
    (out.video.square().mean() + out.action.square().mean()).backward()
    return {name: p.grad for name, p in network.named_parameters()}


def test_checkpointing_gives_equal_gradients(network, inputs):
    network.train()
    plain = gradients(network, inputs)
    network.checkpointing = True
    again = gradients(network, inputs)
    assert {k for k, v in plain.items() if v is None} == {k for k, v in again.items() if v is None}
    for name, gradient in plain.items():
        if gradient is not None:
            torch.testing.assert_close(again[name], gradient, atol=1e-6, rtol=0)


def test_dead_gradients_of_the_last_understanding_layer(network, inputs):
    dead = {name for name, gradient in gradients(network, inputs).items() if gradient is None}
    last = f"understanding.blocks.{SMALLEST.video.layers - 1}."
    assert dead == {
        last + n for n in ("o.weight", "ffn.0.weight", "ffn.0.bias", "ffn.2.weight", "ffn.2.bias")
    }
    # Its queries ask for an answer that nobody reads: a gradient, but of zeros.
    named = dict(network.named_parameters())
    assert float(named[last + "qkv"].grad[0].abs().max()) == 0
    assert float(named[last + "qkv"].grad[1].abs().max()) > 0


def count(module: torch.nn.Module | None) -> int:
    return 0 if module is None else sum(p.numel() for p in module.parameters())


def on_meta(config: MotusConfig) -> Motus:
    with torch.device("meta"):
        return Motus(config)


def test_motus_8b_has_the_parameters_of_the_paper():
    network = on_meta(SIZES["motus-8b"].network)
    assert count(network.video) == 4_999_787_712
    assert count(network.action) == 641_527_822
    assert count(network.understanding) == 253_493_760


def test_the_pretraining_form_of_the_action_expert():
    config = SIZES["motus-8b"].network
    bare = replace(config, action=replace(config.action, state_dim=0, registers=0))
    assert count(on_meta(bare).action) == 639_409_166


def test_eps_of_the_paper_in_every_size():
    for model in SIZES.values():
        network = on_meta(model.network)
        assert network.action.block(0).norm_q.eps == network.action.block(0).norm_k.eps == 1e-5
        assert network.understanding.block(0).norm_q.eps == 1e-5
        assert network.video.block(0).self_attn.norm_q.eps == 1e-6
        assert network.video.block(0).cross_attn.norm_k.eps == 1e-6


@pytest.mark.parametrize("shape", [(3, 4, 6), (2, 6, 4), (5, 4, 4)])
def test_any_number_of_frames_and_any_canvas(network, inputs, shape):
    video = torch.randn(2, 4, *shape)
    assert velocity(network, replace(inputs, video=video)).video.shape == video.shape


@pytest.mark.parametrize(("action_dim", "state_dim", "steps"), [(1, 2, 3), (28, 40, 9), (7, 0, 4)])
def test_any_action_width_and_chunk(inputs, action_dim, state_dim, steps):
    action = replace(SMALLEST.action, action_dim=action_dim, state_dim=state_dim, steps=steps)
    network = make_network(replace(SMALLEST, action=action))
    given = replace(
        inputs, actions=torch.randn(2, steps, action_dim), state=torch.randn(2, state_dim)
    )
    assert velocity(network, given).action.shape == (2, steps, action_dim)


COMPILED = """
import torch
from toys import make_inputs, make_network, prepare
network, given = make_network(), make_inputs()
context = prepare(network, given)
arguments = (context, given.video, given.video_time, given.actions, given.action_time)
whole = torch.compile(network, fullgraph=True, backend="eager")
out, expected = whole(*arguments), network(*arguments)
torch.testing.assert_close(out.video, expected.video)
torch.testing.assert_close(out.action, expected.action)
out.action.sum().backward()
"""


def test_the_network_compiles_without_a_graph_break():
    # In a process of its own: the run-time checks of shapes can't be compiled.
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + COMPILED
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_bfloat16_stays_near(network, inputs):
    wide = velocity(network, inputs)
    halved = {
        k: v.bfloat16() if v.is_floating_point() and "time" not in k else v
        for k, v in vars(inputs).items()
    }
    narrow = velocity(network.bfloat16(), replace(inputs, **halved))
    assert narrow.video.dtype == torch.bfloat16
    assert float((narrow.video - wide.video).detach().abs().max()) < 0.1
    assert float((narrow.action - wide.action).detach().abs().max()) < 0.1


def test_times_and_norms_are_float32_islands_under_autocast(network):
    """What the official code keeps in float32: the times' way in, norms, modulation."""
    times, x = torch.rand(2, 3), torch.randn(2, 3, 64).bfloat16()
    shift, scale = torch.randn(2, 2, 3, 64)
    for expert in (network.video, network.action):
        wide = expert.embed_time(times)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = expert.embed_time(times)
            assert expert.time_embedding(wide[0].new_zeros(2, expert.frequency_width)).dtype == (
                torch.bfloat16
            )
        assert all(torch.equal(a, b) for a, b in zip(wide, narrow, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        normed, modulated = layer_norm(x, 1e-6), modulate(x.float(), shift, scale, 1e-6)
    assert torch.equal(normed, layer_norm(x.float(), 1e-6))
    assert torch.equal(modulated, modulate(x.float(), shift, scale, 1e-6))
