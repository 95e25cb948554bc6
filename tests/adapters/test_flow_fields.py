"""Chaining, checking and freeing flow, against affine motion, where all has a closed form."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from motus_adapters import (
    ConsistentFlow,
    DisFlow,
    chain_canvases,
    chain_fields,
    consistent_pixels,
    layout_for,
    remove_camera_motion,
)
from tests.adapters.pictures import texture

turns = st.tuples(*[st.floats(-0.03, 0.03)] * 4).map(lambda v: np.reshape(v, (2, 2)))
shifts = st.tuples(*[st.floats(-1.5, 1.5)] * 2).map(np.array)


def places(height, width):
    """(right, down) of every pixel: [h, w, 2]."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)


def affine(turn, shift, at):
    """Flow of the map x -> x + turn x + shift."""
    return (at @ turn.T + shift).astype(np.float32)


@given(turns, shifts, turns, shifts)
def test_chained_maps_are_the_map_of_both(turn, shift, turn_2, shift_2):
    at = places(40, 50) - (25, 20)
    first, second = affine(turn, shift, at), affine(turn_2, shift_2, at)
    both = chain_fields(first[None], second[None])[0]
    wanted = first + affine(turn_2, shift_2, at + first)
    np.testing.assert_allclose(both[6:-6, 6:-6], wanted[6:-6, 6:-6], atol=0.01)


@given(turns, shifts, turns, shifts)
def test_chained_canvases_do_the_same_in_percent_of_each_view(turn, shift, turn_2, shift_2):
    """A square head view, whose cells are not square, and a wrist view of its own width."""
    layout = layout_for({"head": (128, 128), "left_wrist": (96, 128)})
    flows = np.zeros((2, 2, 72, 64), np.float32)
    wanted = {}
    for role, part, (rows, columns) in (
        ("head", np.s_[:, :48], (48, 64)),
        ("left_wrist", np.s_[:, 48:, :32], (24, 32)),
    ):
        _, _, w, h = layout.boxes[role]
        at = (places(rows, columns) + 0.5) * (100 / columns, 100 / rows * h / w) - 50
        first, second = affine(turn, shift, at), affine(turn_2, shift_2, at)
        flows[0][part], flows[1][part] = first.transpose(2, 0, 1), second.transpose(2, 0, 1)
        wanted[part] = (first + affine(turn_2, shift_2, at + first)).transpose(2, 0, 1)
    both = chain_canvases(flows[:1], flows[1:], layout)[0]
    for part, goal in wanted.items():
        np.testing.assert_allclose(both[part][:, 4:-4, 4:-4], goal[:, 4:-4, 4:-4], atol=0.02)
    assert not both[:, 48:, 32:].any()


def test_a_chain_follows_what_moves_and_a_sum_does_not():
    """A block that moves five cells each time: only where it was before has it moved by ten."""
    flows = np.zeros((2, 2, 72, 64), np.float32)
    cell = 100 / 64
    flows[0, 0, 10:20, 10:20] = 5 * cell
    flows[1, 0, 10:20, 15:25] = 5 * cell
    layout = layout_for({"head": (48, 64)})
    both = chain_canvases(flows[:1], flows[1:], layout)[0, 0]
    np.testing.assert_allclose(both[10:20, 10:20], 10 * cell)
    np.testing.assert_allclose(flows.sum(0)[0, 10:20, 10:15], 5 * cell)


def test_only_a_round_trip_that_ends_where_it_began_is_consistent():
    forward = np.full((1, 20, 30, 2), (4.0, 0.0), np.float32)
    backward = -forward
    backward[0, 10:] = 0
    known = consistent_pixels(forward, backward)[0]
    assert known[:10, :26].all()
    assert not known[10:].any()
    assert not known[:, 26:].any()  # leads out of the picture


def test_what_is_hidden_in_the_second_picture_is_unknown():
    ground, block = texture(120, 160), texture(240, 320)[150:190, 200:240]
    pictures = []
    for left in (40, 52):
        picture = ground.copy()
        picture[40:80, left : left + 40] = block
        pictures.append(picture[None])
    flow = ConsistentFlow(DisFlow("fine")).flow(*pictures)[0]
    unknown = np.isnan(flow[..., 0])
    assert unknown[44:76, 82:90].mean() > 0.8  # the block goes there
    assert unknown[44:76, 46:74].mean() < 0.1
    assert unknown[:, 120:].mean() < 0.1
    assert ConsistentFlow(DisFlow()).name == "dis-medium-orb-rest-256+consistent"


@settings(max_examples=30)
@given(turns, shifts, st.integers(0, 2**32 - 1))
def test_the_cameras_motion_goes_and_the_hands_stay(turn, shift, seed):
    rng = np.random.default_rng(seed)
    at = (places(48, 64) + 0.5) * (100 / 64) - (50, 37.5)
    camera = affine(turn, shift, at).transpose(2, 0, 1)
    hands = np.zeros((2, 48, 64), np.float32)
    hands[:, 20:45, 5:25], hands[:, 25:40, 40:60] = 2.5, -2.0
    flow = np.zeros((1, 2, 72, 64), np.float32)
    flow[0, :, :48] = camera + hands + rng.normal(0, 0.02, camera.shape)
    flow[0, :, 48:] = 3.0
    left = remove_camera_motion(flow)
    np.testing.assert_allclose(left[0, :, :48], hands, atol=0.15)
    assert np.abs(left[0, :, :48] - hands).mean() < 0.05
    np.testing.assert_array_equal(left[0, :, 48:], 3.0)


def test_where_nothing_agrees_nothing_is_removed():
    flow = np.random.default_rng(0).normal(0, 3, (2, 2, 72, 64)).astype(np.float32)
    np.testing.assert_array_equal(remove_camera_motion(flow), flow)
