"""Sampling poses: collision checks against a bare MuJoCo loop, evenness, and whole clips.

checks     collision-checked configurations per CPU-second, and the ratio to a loop that only
           calls mj_kinematics and mj_collision on the same model and configurations
coverage   the stratified sampler against collision-free joint-uniform sampling at the same
           count, two poses for each reachable cell, for every card whose model is here
clips      `motus anchor aloha` from start to end on one worker, scaled to 1,000 clips

python benchmarks/sampling.py                      # checks and coverage: 2 CPU-minutes
python benchmarks/sampling.py --only clips --clips 1000
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "LP_NUM_THREADS": "0"}

import numpy as np

from motus_embodiments import Card, Kinematics, MotusError, MujocoPoseSampler, list_cards, load_card
from motus_embodiments.physics import mujoco
from motus_embodiments.poses.collisions import Collisions
from motus_embodiments.poses.workspace import random_states, with_margin

BOUND = 600.0  # s for 1,000 clips


def checks(card: Card, count: int = 4000, rounds: int = 5) -> str:
    """One line: rates and ratio, the best of several alternating rounds on each side."""
    plain, ours = Kinematics(card), Kinematics(card)
    with_margin(ours)
    states = random_states(ours, np.random.default_rng(0), count)
    collisions = Collisions(ours, states[:256])
    model, data, qpos = plain.model, plain.data, plain.qpos(states)

    def bare() -> None:
        for row in qpos:
            data.qpos[:] = row
            mujoco.mj_kinematics(model, data)
            mujoco.mj_collision(model, data)

    best, free = {"bare": np.inf, "ours": np.inf}, 0.0
    for _ in range(rounds):
        start = time.process_time()
        bare()
        middle = time.process_time()
        free = collisions.free(states).mean()
        end = time.process_time()
        best = {"bare": min(best["bare"], middle - start), "ours": min(best["ours"], end - middle)}
    rates = {name: count / seconds for name, seconds in best.items()}
    return (
        f"{card.name:16} {rates['bare']:10.0f} {rates['ours']:10.0f} "
        f"{rates['ours'] / rates['bare']:7.2f} {free:6.1%}"
    )


def uniform(sampler: MujocoPoseSampler, enough: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Collision-free states with every joint drawn evenly, until there are enough."""
    rng, found = np.random.default_rng(0), np.empty((0, len(sampler.card.state_channels)))
    while not enough(found):
        states = random_states(sampler.kinematics, rng, 2000)
        found = np.concatenate([found, states[sampler.collisions.free(states)]])
    return found


def coverage(card: Card) -> Iterator[str]:
    """Lines for the stratified sampler, for as many uniform poses, for as many within cells."""
    sampler = MujocoPoseSampler(card)
    grids = sampler.survey.grids
    count = 2 * max(map(len, grids))

    def inside(states: np.ndarray) -> list[np.ndarray]:
        """Which states put each end-effector into a reachable cell; its visits one by one."""
        points = sampler.kinematics.poses(states)[:, :, :3, 3]
        cells = [grid.cells(points[:, a]) for a, grid in enumerate(grids)]
        return [c[np.isin(c, grid.reachable)] for c, grid in zip(cells, grids, strict=True)]

    start = time.process_time()
    stratified = inside(sampler.goals(count))
    rate = count / (time.process_time() - start)
    many = inside(uniform(sampler, lambda found: min(map(len, inside(found))) >= count))
    drawn = uniform(sampler, lambda found: len(found) >= count)[:count]
    rows = {
        "stratified": (count, stratified),
        "uniform": (count, inside(drawn)),
        "uniform, in cells": (None, [cells[:count] for cells in many]),
    }
    for name, (poses, cells) in rows.items():
        for a, (arm, grid) in enumerate(zip(card.arms, grids, strict=True)):
            visits = np.bincount(np.searchsorted(grid.reachable, cells[a]), minlength=len(grid))
            found = grid.coverage(visits)
            share = f"{len(cells[a]) / poses:8.1%}" if poses else f"{'':8}"
            yield (
                f"{card.name:16} {arm.side:6} {name:18} {len(cells[a]):8} {share} {found.cells:6} "
                f"{found.share:7.1%} {found.entropy:8.3f} {found.peak:6.1f} "
                + (f"{rate:8.0f}" if name == "stratified" else "")
            ).rstrip()


def clips(count: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "motus_cli.app",
            "anchor",
            "aloha",
            str(Path(folder) / "a"),
        ]
        started = _children()
        subprocess.run([*command, "--episodes", "1", "--workers", "1", "-q"], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        one = _children() - started
        more = ["--episodes", str(count), "--workers", "1", "-q", "--force"]
        subprocess.run([*command, *more], check=True, stdout=subprocess.DEVNULL)
        all_of_them = _children() - started - one
    each = (all_of_them - one) / (count - 1)
    whole = one + 999 * each
    return (
        f"aloha: {count} clips of 60 frames, 3 cameras of 128 x 128: {all_of_them:.0f} CPU-s, "
        f"{each:.3f} a clip; 1,000 clips: {whole:.0f} CPU-s, {whole / BOUND:.2f} of 10 minutes"
    )


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=("checks", "coverage", "clips"))
    parser.add_argument("--clips", type=int, default=100)
    options = parser.parse_args()
    if options.only in (None, "checks"):
        print(f"{'':16} {'bare/s':>10} {'motus/s':>10} {'ratio':>7} {'free':>6}")
        for name in ("franka", "aloha"):
            print(checks(load_card(name)), flush=True)
    if options.only in (None, "coverage"):
        print(f"\n{'':16} {'arm':6} {'':18} {'in cells':>8} {'share':>8} {'cells':>6} {'hit':>7} "
              f"{'entropy':>8} {'peak':>6} {'poses/s':>8}")  # fmt: skip
        for card, _ in list_cards():
            if card.model is None:
                continue
            try:
                for line in coverage(card):
                    print(line, flush=True)
            except MotusError as error:
                print(f"{card.name:16} left out: {error.message}", flush=True)
    if options.only == "clips":
        print(clips(options.clips))


if __name__ == "__main__":
    main()
