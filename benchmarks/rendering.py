"""Image-action pairs per CPU-second: `Renderer` against MuJoCo's own with its default settings.

A pair is one state and the pictures of all the robot's cameras. Both sides draw the same random
states from the same cameras; the best of alternating rounds counts on each side. The last column
is how far the pictures of the two are apart without shadows and reflections, in dB.

    python benchmarks/rendering.py
"""

import argparse
import os
import time
from collections.abc import Callable

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LP_NUM_THREADS": "0"}

import numpy as np

from motus_embodiments import Card, Renderer, load_card
from motus_embodiments.physics import mujoco
from motus_embodiments.pictures.rendering import _with_cameras
from motus_embodiments.poses.workspace import random_states, with_margin


class Default:
    """What `mujoco.Renderer(model, height, width)` does when nothing is set."""

    def __init__(self, card: Card, width: int, height: int, *, plain: bool = False) -> None:
        self.model = _with_cameras(card)
        if plain:
            self.model.vis.quality.shadowsize = self.model.vis.quality.offsamples = 0
        limits = self.model.vis.global_
        limits.offwidth, limits.offheight = (
            max(width, limits.offwidth),
            max(height, limits.offheight),
        )
        self.data = mujoco.MjData(self.model)
        self.renderer = mujoco.Renderer(self.model, height, width)
        if plain:
            for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
                self.renderer.scene.flags[flag] = 0
        self.cameras = [c.model_camera or c.name for c in card.cameras]

    def render(self, qpos: np.ndarray) -> list[np.ndarray]:
        """One picture a camera."""
        self.data.qpos[:] = qpos
        mujoco.mj_forward(self.model, self.data)
        views = []
        for camera in self.cameras:
            self.renderer.update_scene(self.data, camera=camera)
            views.append(self.renderer.render())
        return views


def rate(work: Callable[[np.ndarray], object], rows: np.ndarray) -> float:
    start = time.process_time()
    for row in rows:
        work(row)
    return len(rows) / (time.process_time() - start)


def compare(card: Card, width: int, height: int, count: int, rounds: int) -> str:
    with Renderer(card, width, height) as ours:
        kinematics = ours._kinematics
        with_margin(kinematics)
        states = random_states(kinematics, np.random.default_rng(0), count)
        qpos = kinematics.qpos(states)
        default = Default(card, width, height)
        best = {"default": 0.0, "ours": 0.0}
        for _ in range(rounds):
            best["default"] = max(best["default"], rate(default.render, qpos[: count // 4]))
            best["ours"] = max(best["ours"], rate(ours.render, states))
        default.renderer.close()
        plain = Default(card, width, height, plain=True)
        errors = [
            np.square(a.astype(float) - b).mean()
            for state, row in zip(states[:10], qpos, strict=False)
            for a, b in zip(ours.render(state).values(), plain.render(row), strict=True)
        ]
        plain.renderer.close()
    decibels = 10 * np.log10(255**2 / np.maximum(errors, 1e-9))
    return (
        f"{card.name:8} {len(ours.cameras):7} {f'{width}x{height}':>9} {best['default']:10.1f} "
        f"{best['ours']:9.1f} {best['ours'] / best['default']:7.1f} {np.median(decibels):6.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(
        f"{'':8} {'cameras':>7} {'size':>9} {'default/s':>10} {'motus/s':>9} {'ratio':>7} {'dB':>6}"
    )
    for name in ("aloha", "franka"):
        for width, height in ((128, 128), (320, 240)):
            print(
                compare(load_card(name), width, height, options.count, options.rounds), flush=True
            )


if __name__ == "__main__":
    main()
