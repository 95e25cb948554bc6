"""Closed loop: how often a policy solves a task in a simulator."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8

from motus_adapters import Observation, Policy, Simulator, open_simulator, weights_hash
from motus_embodiments import MismatchError, MotusError
from motus_recipes.films import write_film

FIRST_SEED = 1_000_000  # far from the seeds that recordings use
Progress = Callable[[int, int, str], None]
Film = UInt8[np.ndarray, "t h w 3"]


class Driver(Protocol):
    """Anything that can drive a robot through an episode."""

    def reset(self, seed: int) -> None:
        """Begin an episode."""

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """What to do next, one row per control step, to be carried out before asking again."""


class PolicyDriver:
    """A bundle: a few rows of each chunk are carried out, then it is asked again."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._seed = 0

    def reset(self, seed: int) -> None:
        """Begin an episode; its noise follows from the seed."""
        self._seed = seed
        self.policy.guard.reset()

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """The first rows of a new chunk."""
        self._seed += 1
        chunk = self.policy.act(
            observation.images,
            observation.state,
            simulator.instruction,
            seed=self._seed,
            rate=simulator.rate,
        )
        return chunk[: self.policy.config.execute]


class ExpertDriver:
    """The simulator's own scripted expert."""

    def reset(self, seed: int) -> None:
        """Nothing to begin."""
        del seed

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """The expert's next command."""
        del observation
        return simulator.expert()[None]


class RandomDriver:
    """The expert's first command with random offsets: what luck alone would reach."""

    def reset(self, seed: int) -> None:
        """Begin an episode; the offsets follow from the seed."""
        self._generator = np.random.default_rng(seed)

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """The expert's command, 5 cm off, with a random gripper."""
        del observation
        command = simulator.expert()
        offset = self._generator.normal(0, 0.05, 3)
        command[:3] += offset.astype(np.float32)
        command[-1] = self._generator.integers(0, 2)
        return command[None]


@dataclass(frozen=True)
class Episode:
    """One episode of an evaluation."""

    seed: int
    success: bool
    steps: int


@dataclass(frozen=True)
class EvalReport:
    """Success in closed loop, with its 95 % Wilson interval and the protocol that made it.

    Attributes:
        weights: SHA-256 of the policy's weights, by which `motus export` knows them again.
    """

    policy: str
    env: str
    rate: float
    low: float
    high: float
    episodes: int
    successes: int
    mean_steps: float
    clipped: int
    seeds: tuple[int, int]
    results: tuple[Episode, ...]
    film: Path | None
    weights: str | None


def evaluate(
    policy: Path | str,
    env: str,
    episodes: int = 50,
    seed: int = 0,
    *,
    device: str = "cpu",
    workers: int = 1,
    film: Path | None = None,
    on_progress: Progress | None = None,
) -> EvalReport:
    """Run a policy, `expert` or `random` over unseen episodes.

    Args:
        policy: A bundle's folder, or one of the two words.
        env: Simulator and task.
        episodes: How many; episode i starts from seed 1,000,000 + 10,000 `seed` + i.
        seed: Which block of episodes.
        device: For the policy.
        workers: Processes.
        film: Where to write a film of the first episode.
        on_progress: Called after each episode.

    Raises:
        MismatchError: When the policy is for another robot than the simulator's.
    """
    first = FIRST_SEED + 10_000 * seed
    seeds = range(first, first + episodes)
    device = "cpu" if device == "auto" else device
    results: list[Episode] = []
    clipped = 0
    for episode, clips in _episodes(str(policy), env, seeds, device, workers, film):
        results.append(episode)
        clipped += clips
        if on_progress:
            solved = sum(done.success for done in results)
            on_progress(len(results), episodes, f"{solved} solved")
    successes = sum(done.success for done in results)
    low, high = wilson(successes, episodes)
    solved_steps = [done.steps for done in results if done.success]
    return EvalReport(
        policy=str(policy),
        env=env,
        rate=successes / episodes,
        low=low,
        high=high,
        episodes=episodes,
        successes=successes,
        mean_steps=float(np.mean(solved_steps)) if solved_steps else math.nan,
        clipped=clipped,
        seeds=(seeds[0], seeds[-1]),
        results=tuple(results),
        film=film,
        weights=None if policy in ("expert", "random") else weights_hash(Path(policy)),
    )


def wilson(successes: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927)."""
    share = successes / count
    center = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (center - half) / scale), min(1.0, (center + half) / scale)


def run_episode(
    simulator: Simulator, driver: Driver, seed: int, *, filmed: bool = False
) -> tuple[Episode, Film | None]:
    """Drive one episode until it is solved or its time is over."""
    simulator.reset(seed)
    driver.reset(seed)
    frames = []
    steps = 0
    while steps < simulator.max_steps and not simulator.success:
        for action in driver.actions(simulator, simulator.observe()):
            simulator.step(action)
            steps += 1
            if filmed:
                frames.append(next(iter(simulator.observe().images.values())).copy())
            if simulator.success or steps == simulator.max_steps:
                break
    return Episode(seed, simulator.success, steps), np.stack(frames) if frames else None


def make_driver(policy: str, simulator: Simulator, device: str) -> Driver:
    """A driver by name, or of a bundle's folder."""
    if policy == "expert":
        return ExpertDriver()
    if policy == "random":
        return RandomDriver()
    loaded = Policy.load(policy, device)
    if loaded.card.name != simulator.card:
        raise MismatchError(
            f"the policy {policy} is for '{loaded.card.name}', "
            f"{simulator.name} has a '{simulator.card}'",
            hint="evaluate it in a simulator of its own robot",
        )
    return PolicyDriver(loaded)


def _episodes(
    policy: str, env: str, seeds: range, device: str, workers: int, film: Path | None
) -> Iterator[tuple[Episode, int]]:
    if workers <= 1:
        _start_worker(policy, env, device, None)
        try:
            for seed in seeds:
                yield _work(seed, film if seed == seeds[0] else None)
        finally:
            _stop_worker()
        return
    with ProcessPoolExecutor(
        workers, get_context("spawn"), _start_worker, (policy, env, device, 1)
    ) as pool:
        jobs = [pool.submit(_work, s, film if s == seeds[0] else None) for s in seeds]
        try:
            for job in jobs:
                yield job.result()
        finally:
            pool.shutdown(cancel_futures=True)


# One per worker process; an error waits there for the first episode, since what an initializer
# raises would only break the pool.
_running: tuple[Simulator, Driver] | MotusError | None = None


def _start_worker(policy: str, env: str, device: str, threads: int | None) -> None:
    global _running
    if threads:
        torch.set_num_threads(threads)
    try:
        simulator = open_simulator(env)
        _running = (simulator, make_driver(policy, simulator, device))
    except MotusError as error:
        _running = error


def _stop_worker() -> None:
    global _running
    if isinstance(_running, tuple):
        _running[0].close()
    _running = None


def _work(seed: int, film: Path | None) -> tuple[Episode, int]:
    if isinstance(_running, MotusError):
        raise _running
    assert _running is not None
    simulator, driver = _running
    before = driver.policy.clipped if isinstance(driver, PolicyDriver) else 0
    episode, frames = run_episode(simulator, driver, seed, filmed=film is not None)
    if film is not None and frames is not None:
        film.parent.mkdir(parents=True, exist_ok=True)
        write_film(film, frames, simulator.rate)
    after = driver.policy.clipped if isinstance(driver, PolicyDriver) else 0
    return episode, after - before
