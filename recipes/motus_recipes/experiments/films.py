"""Robots filmed on random moves, with the flow of each step had in several ways."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from motus_adapters import (
    DisFlow,
    Layout,
    compose,
    flow_canvas,
    layout_for,
    pool_views,
    view_flows,
)
from motus_embodiments import Appearance, Kinematics, Renderer, load_card, make_sampler, true_flow

WIDTH = 256  # pixels of a head view's width, wrist views have half: what `motus anchor` is told
FINE = 2 * WIDTH  # pixels that are drawn; smaller pictures are averaged from them
SPANS = (1, 3, 6)  # frames of a step at 30, 10 and 5 Hz
LOOKS = Appearance(texture=1, light=1, colour=1)

Views = Mapping[str, np.ndarray]  # role -> pictures or fields of each frame


@dataclass(frozen=True)
class Amount:
    """How much is filmed.

    Attributes:
        trajectories: Of each robot.
        frames: Of each trajectory.
        rate: Frames a second.
        seed: Draws the moves.
    """

    trajectories: int = 72
    frames: int = 40
    rate: float = 30.0
    seed: int = 0


class Film:
    """The trajectories of one robot under a folder, each filmed when it is not there yet."""

    def __init__(self, robot: str, folder: Path, amount: Amount) -> None:
        self.card, self.folder, self.amount = load_card(robot), folder / robot, amount
        self.kinematics = Kinematics(self.card)

    def shoot(self) -> Iterator[int]:
        """Film what is lacking, a trajectory at a time; yields its number."""
        lacking = [n for n in range(self.amount.trajectories) if not self._file(n).is_file()]
        if not lacking:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        sampler = make_sampler(self.card, "mujoco", self.amount.seed).sampler
        with (
            Renderer(self.card, FINE, FINE, sampler.kinematics, LOOKS) as painter,
            # The same looks, since they lay a floor where the model has none.
            Renderer(self.card, WIDTH, WIDTH, sampler.kinematics, LOOKS) as surveyor,
        ):
            for number in lacking:
                states = sampler.plan(number, self.amount.frames, self.amount.rate).states
                painter.dress(number)
                found = {**estimated(_pictures(painter, states)), **known(surveyor, states)}
                arrays = {name: flow.astype(np.float16) for name, flow in found.items()}
                new = self._file(number).with_suffix(".partial")
                with new.open("wb") as file:
                    np.savez(file, allow_pickle=False, states=states, **arrays)
                new.replace(self._file(number))
                yield number

    def read(self, name: str) -> list[np.ndarray]:
        """An array of each trajectory, in float32."""
        out = []
        for number in range(self.amount.trajectories):
            with np.load(self._file(number)) as kept:
                out.append(kept[name].astype(np.float32))
        return out

    def motion(self, span: int) -> list[np.ndarray]:
        """`motion` over so many frames from each frame that has so many after it."""
        out = []
        for states in self.read("states"):
            whole = np.zeros((len(states) - span, 14), np.float32)
            for first in range(span):
                part = states[first::span]
                whole[first::span] = self.kinematics.motion(part)[0][:-1]
            out.append(whole)
        return out

    @property
    def mask(self) -> np.ndarray:
        """Which of the 14 numbers of `motion` there are."""
        return np.asarray(self.kinematics.motion(np.array([self.card.home()]))[1])

    @property
    def layout(self) -> Layout:
        """Of the canvases that flow is estimated on."""
        return _layout([c.role for c in self.card.cameras if c.model_camera or c.mount], WIDTH)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:03d}.npz"


def estimated(pictures: Views) -> dict[str, np.ndarray]:
    """Flow canvases by name: the embedded estimator, its other settings, other sizes and spans."""
    dis, out = DisFlow(), {}
    canvases = _canvases(pictures, WIDTH)
    layout = _layout(pictures, WIDTH)
    fields = view_flows(canvases[:-1], canvases[1:], layout, dis)
    out["dis"] = pool_views(fields, len(canvases) - 1)
    out["dis, fine cells"] = pool_views(fields, len(canvases) - 1, finer=2)
    out["dis-fine"] = flow_canvas(canvases[:-1], canvases[1:], layout, DisFlow("fine"))
    out["dis-ultrafast"] = flow_canvas(canvases[:-1], canvases[1:], layout, DisFlow("ultrafast"))
    for span in SPANS[1:]:
        out[f"dis, {span} frames"] = flow_canvas(canvases[:-span], canvases[span:], layout, dis)
    for width in (WIDTH // 2, FINE):
        other = _canvases(pictures, width)
        out[f"dis, {width}"] = flow_canvas(other[:-1], other[1:], _layout(pictures, width), dis)
    return out


def known(surveyor: Renderer, states: np.ndarray) -> dict[str, np.ndarray]:
    """True flow canvases, with finer cells too, and how near things are."""
    surfaces = [surveyor.surfaces(state) for state in states]
    flows: dict[str, np.ndarray] = {}
    near: dict[str, np.ndarray] = {}
    for camera in surveyor.cameras:
        own = [surface[camera.name] for surface in surfaces]
        flows[camera.role] = np.stack([true_flow(a, b).flow for a, b in pairwise(own)])
        # In the units that `pool_views` makes percent of: as it is, in both channels.
        inverse = np.stack([1 / surface.depth for surface in own[:-1]]) * (WIDTH / 100)
        near[camera.role] = np.stack([inverse, inverse], axis=-1).astype(np.float32)
    count = len(states) - 1
    return {
        "true": pool_views(flows, count),
        "true, fine cells": pool_views(flows, count, finer=2),
        "nearness": pool_views(near, count)[:, :1],
    }


def _pictures(painter: Renderer, states: np.ndarray) -> Views:
    shown = [painter.render(state) for state in states]
    return {c.role: np.stack([views[c.name] for views in shown]) for c in painter.cameras}


def _canvases(pictures: Views, width: int) -> np.ndarray:
    layout = _layout(pictures, width)
    frames = zip(*pictures.values(), strict=True)
    return np.stack([compose(dict(zip(pictures, views, strict=True)), layout) for views in frames])


def _layout(roles: Iterable[str], width: int) -> Layout:
    return layout_for(dict.fromkeys(roles, (width, width)), width)
