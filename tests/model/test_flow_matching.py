"""Laws of the flow: where it begins, where it ends, and what may move."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from motus_model import MODES, Role, TimeSampler
from motus_model.flow_matching import (
    interpolate,
    logit_normal,
    schedule,
    shift_times,
    shifted_uniform,
    target_velocity,
)

DATA, NOISE = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
SHIFTS = st.floats(1.0, 10.0)


def test_data_at_zero_and_noise_at_one():
    assert torch.equal(interpolate(DATA, NOISE, torch.zeros(2)), DATA)
    assert torch.equal(interpolate(DATA, NOISE, torch.ones(2)), NOISE)


def test_each_sample_has_its_own_time():
    mixed = interpolate(DATA, NOISE, torch.tensor([0.0, 1.0]))
    assert torch.equal(mixed[0], DATA[0])
    assert torch.equal(mixed[1], NOISE[1])


def test_the_velocity_leads_back_from_every_time():
    times = torch.tensor([0.3, 0.8])
    here = interpolate(DATA, NOISE, times)
    back = here - times.view(2, 1, 1, 1) * target_velocity(DATA, NOISE)
    torch.testing.assert_close(back, DATA)


@given(shift=SHIFTS, time=st.floats(0, 1))
def test_shift_keeps_the_ends_and_moves_towards_noise(shift, time):
    ends = shift_times(torch.tensor([0.0, 1.0]), shift)
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0]))
    assert float(shift_times(torch.tensor(time), shift)) >= time - 1e-6


@settings(max_examples=60)
@given(
    mode=st.sampled_from(sorted(MODES)),
    video_steps=st.integers(1, 12),
    action_steps=st.integers(1, 12),
    video_shift=SHIFTS,
    action_shift=SHIFTS,
)
def test_only_what_is_to_be_solved_moves(
    mode, video_steps, action_steps, video_shift, action_shift
):
    roles = {"video": MODES[mode].video, "action": MODES[mode].action}
    steps = list(
        schedule(
            MODES[mode],
            video_steps=video_steps,
            action_steps=action_steps,
            video_shift=video_shift,
            action_shift=action_shift,
        )
    )
    for name, role in roles.items():
        times = [getattr(step, name) for step in steps]
        deltas = [getattr(step, f"{name}_delta") for step in steps]
        if role is Role.SOLVE:  # from noise to data, whatever the other's number of steps
            assert torch.tensor(times[0]) == 1  # in the float32 that the network gets
            assert sum(deltas) == pytest.approx(-1, abs=1e-6)
            assert all(d <= 0 for d in deltas)
            for at, (time, delta) in enumerate(zip(times, deltas, strict=True)):
                if delta and at + 1 < len(times):
                    assert times[at + 1] == pytest.approx(time + delta, abs=1e-6)
        else:
            assert set(deltas) == {0.0}
            assert set(times) == {0.0 if role is Role.CLEAN else 1.0}
    solved = [n for n, r in roles.items() if r is Role.SOLVE]
    counts = {"video": video_steps, "action": action_steps}
    assert len(steps) == max(counts[name] for name in solved)
    for name in solved:  # as many moves as steps were asked for, the last one at the end
        moves = [getattr(step, f"{name}_delta") != 0 for step in steps]
        assert sum(moves) == counts[name]
        assert moves[-1]


def test_times_of_the_paper_and_of_the_official_code():
    generator = torch.Generator().manual_seed(0)
    paper = logit_normal(20_000, generator)
    assert float(paper.mean()) == pytest.approx(0.5, abs=0.01)
    assert float((paper.logit()).std()) == pytest.approx(1.0, abs=0.02)
    official = shifted_uniform(20_000, generator)  # figures measured on the official scheduler
    assert float(official.min()) >= 0.00497
    assert float(official.mean()) == pytest.approx(0.748, abs=0.01)
    assert float(official.median()) == pytest.approx(0.833, abs=0.01)
    assert float((official < 0.1).float().mean()) == pytest.approx(0.021, abs=0.005)


def test_modes_are_practised_in_their_shares():
    shares = {"joint": 0.5, "vla": 0.3, "idm": 0.1, "wm": 0.1}
    sampler = TimeSampler("logit_normal", tuple(shares.items()))
    drawn = sampler.draw([torch.Generator().manual_seed(0)] * 20_000)

    def role(time: float, weight: float) -> str:
        return "solve" if weight else "clean" if time == 0 else "noise"

    seen = Counter(
        (role(v, vw), role(a, aw))
        for v, a, vw, aw in zip(*(column.tolist() for column in drawn), strict=True)
    )
    for name, share in shares.items():
        pair = (MODES[name].video.value, MODES[name].action.value)
        assert seen.pop(pair) / 20_000 == pytest.approx(share, abs=0.015)
    assert not seen
    # Weights make the plain mean the mean over the solved ones.
    assert float(drawn.video_weight.mean()) == pytest.approx(1, abs=0.03)
    assert float(drawn.action_weight.mean()) == pytest.approx(1, abs=0.03)


def test_noise_at_the_very_end_still_counts():
    drawn = TimeSampler("shifted_uniform").draw([torch.Generator().manual_seed(0)] * 5000)
    assert float(drawn.video.max()) == 1  # the first of the official code's 1000 steps
    assert float(drawn.video_weight.min()) == 1


def test_a_sample_is_drawn_alike_in_any_batch():
    generators = [torch.Generator().manual_seed(i) for i in range(6)]
    sampler = TimeSampler("shifted_uniform", (("joint", 0.5), ("idm", 0.5)))
    whole = sampler.draw(generators)
    parts = [sampler.draw([torch.Generator().manual_seed(i)]) for i in range(6)]
    assert all(
        torch.equal(a, torch.cat(b)) for a, b in zip(whole, zip(*parts, strict=True), strict=True)
    )


def test_joint_times_are_independent_and_repeatable():
    sampler = TimeSampler("logit_normal")
    first = sampler.draw([torch.Generator().manual_seed(3)] * 5000)
    again = sampler.draw([torch.Generator().manual_seed(3)] * 5000)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert abs(float(torch.corrcoef(torch.stack(first[:2]))[0, 1])) < 0.05
