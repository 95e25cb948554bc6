"""Targets and changes: an action told from a reference, and back."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.numbers.rotations import to_matrix, to_vector
from motus_embodiments.schema import Card

Axes = Literal["base", "tool", "mixed"]


def change_of(
    card: Card, target: Float[ndarray, "... a"], reference: Float[ndarray, "... a"], axes: Axes
) -> Float[ndarray, "... a"]:
    """What leads from one canonical action to another.

    Joints: q - q0. Positions and orientations along the axes of

    - base: p - p0 and R R0^T;
    - tool: R0^T (p - p0) and R0^T R;
    - mixed: p - p0 and R0^T R.

    Grippers stay targets.
    """
    target, reference = np.broadcast_arrays(target, reference)
    out = np.array(target, np.float64)
    joints = _columns(card, "joint")
    out[..., joints] -= reference[..., joints]
    for place, turn in _poses(card):
        step = target[..., place] - reference[..., place]
        if turn is not None:
            start, end = to_matrix(reference[..., turn]), to_matrix(target[..., turn])
            back = np.swapaxes(start, -1, -2)
            out[..., turn] = to_vector(end @ back if axes == "base" else back @ end)
            if axes == "tool":
                step = (back @ step[..., None])[..., 0]
        out[..., place] = step
    return out


def target_of(
    card: Card, change: Float[ndarray, "... a"], reference: Float[ndarray, "... a"], axes: Axes
) -> Float[ndarray, "... a"]:
    """Inverse of `change_of`."""
    change, reference = np.broadcast_arrays(change, reference)
    out = np.array(change, np.float64)
    joints = _columns(card, "joint")
    out[..., joints] += reference[..., joints]
    for place, turn in _poses(card):
        step = change[..., place]
        if turn is not None:
            start, by = to_matrix(reference[..., turn]), to_matrix(change[..., turn])
            out[..., turn] = to_vector(by @ start if axes == "base" else start @ by)
            if axes == "tool":
                step = (start @ step[..., None])[..., 0]
        out[..., place] = reference[..., place] + step
    return out


def chained_targets(
    card: Card, changes: Float[ndarray, "T a"], first: Float[ndarray, " a"], axes: Axes
) -> Float[ndarray, "T a"]:
    """Targets of which each is a change to the one before, the first of them to `first`."""
    targets = np.empty_like(changes)
    before = first
    for t, change in enumerate(changes):
        before = targets[t] = target_of(card, change, before, axes)
    return targets


def chained_changes(
    card: Card, targets: Float[ndarray, "T a"], first: Float[ndarray, " a"], axes: Axes
) -> Float[ndarray, "T a"]:
    """Inverse of `chained_targets`."""
    return change_of(card, targets, np.concatenate([first[None], targets[:-1]]), axes)


def _columns(card: Card, kind: str) -> list[int]:
    return [i for i, channel in enumerate(card.action_channels) if channel.kind == kind]


def _poses(card: Card) -> Iterator[tuple[slice, slice | None]]:
    """Columns of each commanded position, and of its orientation if that is commanded."""
    positions = _columns(card, "position")
    has_turn = card.action.representation == "ee_pose"
    for at in positions[::3]:
        yield slice(at, at + 3), slice(at + 3, at + 6) if has_turn else None
