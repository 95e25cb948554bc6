"""How smoothly a policy moves a robot when its answers come late, by how chunks are joined.

An answer to what was seen at step k is there at step k + d, d = ceil(latency x control rate). In
between the robot does one of these:

    wait     stands still, then carries out the new chunk from its start
    switch   goes on with the previous chunk, then takes the new one as it is
    blend    the same, but fades over from the one to the other
    guide    the same, but the new chunk was drawn to continue the previous one (real-time chunking)

Latency is counted in control steps and not waited for, so that a busy machine changes nothing.

    python benchmarks/latency.py policies/franka --env gym-hil:PandaPickCube --episodes 50
    python benchmarks/latency.py policies/panda --env robosuite:Lift-Panda --horizon 80

For each row: success, steps of solved episodes; `gap`, how far apart the two chunks are at the step
where the new one takes over; `acceleration` and `jerk`, root mean square of the commanded motion's
second and third difference. Lengths are of the commanded hand (m) or of the joints (rad).
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from motus_adapters import Observation, Overlap, Policy, Simulator, open_simulator
from motus_recipes import wilson
from motus_recipes.evaluation.closed_loop import FIRST_SEED
from motus_recipes.evaluation.driving import run_episode

METHODS = ("wait", "switch", "blend", "guide")


@dataclass
class LateDriver:
    """Drives as a robot does whose policy answers `delay` steps after it was asked.

    Attributes:
        policy: What answers.
        method: One of METHODS.
        delay: Control steps.
        execute: Steps between two questions.
        rows: Everything that was commanded.
        gaps: Where a chunk took over: how far it was from the one before.
    """

    looks = True

    policy: Policy
    method: str
    delay: int
    execute: int
    rows: list[np.ndarray] = field(default_factory=list)
    gaps: list[np.ndarray] = field(default_factory=list)

    def reset(self, seed: int) -> None:
        """Begin an episode."""
        self.policy.reset()
        self._seed, self._left = seed, None
        self.rows, self.gaps = [], []

    def actions(self, simulator: Simulator, observation: Observation) -> np.ndarray:
        """What is commanded from this observation to the next."""
        self._seed += 1
        left = self._left
        chunk = self.policy.act(
            observation.images,
            observation.state,
            simulator.instruction,
            self._seed,
            overlap=self._overlap(left),
        )
        if left is None:  # the robot stands and waits for its first chunk
            commanded = chunk[: self.execute]
        elif self.method == "wait":
            still = np.repeat(self.rows[-1][None], self.delay, axis=0)
            commanded = np.concatenate([still, chunk[: self.execute]])
            self.gaps.append(chunk[0] - self.rows[-1])
        else:
            commanded = np.concatenate([left[: self.delay], chunk[self.delay : self.execute]])
            self.gaps.append(chunk[self.delay] - left[self.delay])
        self._left = chunk[self.execute :]
        self.rows.extend(commanded)
        return commanded

    def _overlap(self, left: np.ndarray | None) -> Overlap | None:
        if left is None or self.method in ("wait", "switch"):
            return None
        return Overlap(left, self.delay, "guide" if self.method == "guide" else "blend")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    method: str
    latency: float
    delay: int
    successes: int
    episodes: int
    low: float
    high: float
    steps: float
    gap: float
    acceleration: float
    jerk: float


def positions(policy: Policy) -> list[int]:
    """Columns of native actions that are places or joints."""
    card = policy.card
    kinds = {channel.name: channel.kind for channel in card.action_channels}
    order = card.action_order or tuple(kinds)
    return [i for i, name in enumerate(order) if kinds[name] in ("position", "joint")]


def measure(
    driver: LateDriver, simulator: Simulator, latency: float, seeds: range, columns: list[int]
) -> Row:
    """All episodes of one line."""
    solved, gaps, differences = [], [], {2: [], 3: []}
    for seed in seeds:
        episode, _ = run_episode(simulator, driver, seed)
        if episode.success:
            solved.append(episode.steps)
        path = np.stack(driver.rows)[: episode.steps, columns]
        gaps += [np.linalg.norm(gap[columns]) for gap in driver.gaps]
        for order, found in differences.items():
            found.append(np.diff(path, order, axis=0) * simulator.rate**order)
    low, high = wilson(len(solved), len(seeds))
    rms = {
        order: float(np.sqrt((np.concatenate(found) ** 2).sum(1).mean()))
        for order, found in differences.items()
    }
    return Row(
        method=driver.method,
        latency=latency,
        delay=driver.delay,
        successes=len(solved),
        episodes=len(seeds),
        low=low,
        high=high,
        steps=float(np.mean(solved)) if solved else math.nan,
        gap=float(np.mean(gaps)),
        acceleration=rms[2],
        jerk=rms[3],
    )


def rows(options: argparse.Namespace) -> Iterator[Row]:
    policy = Policy.load(options.policy)
    simulator = open_simulator(options.env, options.image_size)
    simulator.max_steps = min(simulator.max_steps, options.horizon or simulator.max_steps)
    seeds = range(FIRST_SEED, FIRST_SEED + options.episodes)
    columns = positions(policy)
    execute = options.execute or policy.config.execute
    delays = {ms: math.ceil(ms / 1000 * simulator.rate - 1e-9) for ms in options.latency}
    if max(delays.values()) + execute > policy.rows:
        raise SystemExit(f"a chunk of {policy.rows} rows is too short for {max(delays)} ms")
    done = set()
    for latency, delay in delays.items():
        if delay in done:
            same = next(ms for ms, steps in delays.items() if steps == delay)
            print(f"{latency:g} ms is {delay} steps too, as {same:g} ms: the same rows")
            continue
        done.add(delay)
        for method in options.methods if delay else ("switch",):
            driver = LateDriver(policy, method, delay, max(execute, delay))
            yield measure(driver, simulator, latency, seeds, columns)
    simulator.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("policy", type=Path)
    parser.add_argument("--env", default="gym-hil:PandaPickCube")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--latency", type=float, nargs="+", default=[0, 50, 100, 200], help="ms")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--image-size", type=int, default=128, help="pixels; see the policy's card")
    parser.add_argument("--horizon", type=int, help="steps of an episode; the simulator's own")
    parser.add_argument("--execute", type=int, help="steps between questions; the policy's own")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'latency':>8} {'delay':>5}  {'method':8} {'success':>8} {'95 %':>10} {'steps':>6} "
        f"{'gap':>8} {'accel.':>8} {'jerk':>8}"
    )
    found = []
    for row in rows(options):
        found.append(row)
        print(
            f"{row.latency:5.0f} ms {row.delay:5d}  {row.method:8} "
            f"{row.successes:4d}/{row.episodes:<3d} {row.low:5.2f}-{row.high:4.2f} "
            f"{row.steps:6.1f} {row.gap:8.4f} {row.acceleration:8.3f} {row.jerk:8.2f}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
