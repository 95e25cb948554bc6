"""Closed loop: what our loop costs beside the bare simulator.

    python benchmarks/rollout.py --env metaworld:reach-v3

A policy that costs nothing stands still. The peer is the same simulator's own `step`, called in a
bare loop for as many steps from the same seeds. CPU time, children included; the two take turns.
A policy looks once in `--execute` steps, as a bundle does; what its look costs (pictures) is told
apart, since a bare loop has none.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from motus_adapters import Simulator, open_simulator
from motus_embodiments import ActionAdapter, load_card
from motus_recipes.evaluation.driving import run_episode


class Idle:
    """Says where the robot is already, `execute` rows at a time, whatever it sees."""

    looks = True

    def __init__(self, simulator: Simulator, execute: int) -> None:
        adapter = ActionAdapter(load_card(simulator.card))
        simulator.reset(0)
        state = adapter.encode_state(simulator.observe().state)
        still = adapter.decode_action(adapter.command(state[None]), state)
        self.rows = np.repeat(still, execute, axis=0)

    def reset(self, seed: int) -> None:
        """Nothing to begin."""

    def actions(self, simulator: Simulator, observation: object) -> np.ndarray:
        """The same rows."""
        return self.rows


class Blind:
    """A simulator whose pictures are not drawn: what is left is the loop."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def __getattr__(self, name: str) -> object:
        return getattr(self._simulator, name)

    def observe(self) -> None:
        """Nothing."""


def cpu() -> float:
    return time.process_time() + children()


def children() -> float:
    """CPU seconds of running children, of which the system tells in steps of 10 ms."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for task in os.listdir(f"/proc/{os.getpid()}/task"):
        for child in Path(f"/proc/{os.getpid()}/task/{task}/children").read_text().split():
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def bare(simulator: Simulator, row: np.ndarray, seeds: range) -> int:
    steps = 0
    for seed in seeds:
        simulator.reset(seed)
        for _ in range(simulator.max_steps):
            simulator.step(row)
            steps += 1
    return steps


def ours(simulator: Simulator, driver: Idle, seeds: range) -> int:
    return sum(run_episode(simulator, driver, seed)[0].steps for seed in seeds)


def timed(work: object, *arguments: object) -> tuple[int, float]:
    before = cpu()
    steps = work(*arguments)
    return steps, cpu() - before


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--env", default="metaworld:reach-v3")
    parser.add_argument("--episodes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--execute", type=int, default=8)
    options = parser.parse_args()
    simulator = open_simulator(options.env, 64)
    driver = Idle(simulator, options.execute)
    kinds = {
        "bare": lambda seeds: bare(simulator, driver.rows[0], seeds),
        "loop": lambda seeds: ours(Blind(simulator), driver, seeds),
        "loop that looks": lambda seeds: ours(simulator, driver, seeds),
    }
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(options.rounds):
        first = 1000 + number * options.episodes
        for kind, work in kinds.items():
            steps, seconds = timed(work, range(first, first + options.episodes))
            rates[kind].append(steps / seconds)
    best = {kind: max(values) for kind, values in rates.items()}
    for kind, rate in best.items():
        print(f"{kind:16} {rate:8.0f} steps per CPU-second  {rate / best['bare']:.2f}x")
    simulator.close()


if __name__ == "__main__":
    main()
