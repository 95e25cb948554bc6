"""Closed loop: how often a policy solves a task in a simulator."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError

from motus_adapters import (
    ImageSize,
    Simulator,
    SimulatorError,
    check_free,
    end_pool,
    open_simulator,
    write_json,
)
from motus_adapters.devices import torch_device
from motus_adapters.files import check_writable
from motus_embodiments import DataError, MismatchError, MissingError, MotusError, UsageError
from motus_recipes.evaluation.driving import (
    Driver,
    Episode,
    PolicyDriver,
    Solving,
    Stopwatch,
    driven_by,
    make_driver,
    run_episode,
)
from motus_recipes.evaluation.intervals import wilson
from motus_recipes.evaluation.protocol_card import ProtocolCard, describe_protocol
from motus_recipes.evaluation.sheet import Sheet, sheet_for
from motus_recipes.reports.films import write_film

FIRST_SEED = 1_000_000  # far from the seeds that recordings use
DIED = "the simulator's process died"
# Such an error would come again in every episode, or says that a comparison makes no sense.
FATAL = (MismatchError, MissingError, UsageError)
Progress = Callable[[int, int, str], None]
Result = tuple[Episode, list[float], Mapping[str, int]]


@dataclass(frozen=True)
class Latency:
    """How long the driver took to answer, ms.

    Attributes:
        calls: How often it was asked.
    """

    median: float
    p95: float
    p99: float
    worst: float
    calls: int


@dataclass(frozen=True)
class EvalReport:
    """Success in closed loop, with its 95 % Wilson interval and the protocol that made it.

    Attributes:
        crashed: Episodes that could not be carried out; they count as failures.
        partial: Mean share of the sheet's sub-goals that were reached; None without a sheet.
        mean_steps: Of the solved episodes; None without any.
        time_to_success: The same in s of the robot's time.
        counts: What the policy met, as `motus_adapters.Counts` names it.
        weights: SHA-256 of the policy's weights, by which `motus export` knows them again.
        solving: How it was solved; None for a baseline and for LeRobot's.
    """

    policy: str
    env: str
    rate: float
    low: float
    high: float
    episodes: int
    successes: int
    crashed: int
    partial: float | None
    mean_steps: float | None
    time_to_success: float | None
    counts: Mapping[str, int]
    latency: Latency | None
    results: tuple[Episode, ...]
    film: Path | None
    weights: str | None
    protocol: ProtocolCard
    solving: Solving | None = None


@dataclass(frozen=True)
class _Begun:
    """What is about to be measured, told before the first episode."""

    protocol: ProtocolCard
    weights: str | None
    solving: Solving | None


@dataclass(frozen=True)
class Setup:
    """What a worker process needs to begin.

    Attributes:
        policy: A bundle's folder, or a word that `evaluate` knows.
        sheet: The sub-goals.
        opener: Starts a simulator by name.
    """

    policy: str
    env: str
    device: str
    instruction: str | None
    sheet: Sheet | None = None
    opener: Callable[[str], Simulator] = open_simulator


def evaluate(
    policy: Path | str,
    env: str,
    episodes: int = 50,
    seed: int = 0,
    *,
    instruction: str | None = None,
    sheet: Path | None = None,
    image_size: ImageSize | None = None,
    device: str = "cpu",
    workers: int = 1,
    film: Path | None = None,
    out: Path | None = None,
    force: bool = False,
    opener: Callable[[str], Simulator] = open_simulator,
    on_progress: Progress | None = None,
) -> EvalReport:
    """Run a policy or a baseline over unseen episodes.

    Same seed, same result, whatever the number of workers: each computes in one thread.

    Args:
        policy: A bundle's folder, `lerobot:FOLDER`, `expert`, `random`, or `replay:DATASET`.
        env: Simulator and task.
        episodes: How many; episode i starts from seed 1,000,000 + 10,000 `seed` + i.
        seed: Which block of episodes.
        instruction: Said to the policy in place of the simulator's own words.
        sheet: YAML with the sub-goals; the shipped one for this task if left out.
        image_size: Of the pictures, by `open_simulator`; its usual one if left out.
        device: For the policy.
        workers: Processes.
        film: Where to write a film of the first episode.
        out: Where to write the result, for `compare` and `report`.
        force: Replace `out` and `film`.
        opener: Starts a simulator by name.
        on_progress: Called after each episode.

    Raises:
        OSError: The folder of either cannot be written to; told before the first episode.
        UsageError: `out` or `film` is there already, or the sheet does not fit the simulator.
        MismatchError: When the policy is for another robot than the simulator's.
    """
    for file in (out, film):
        if file is not None:
            check_free(file, force=force)
    first = FIRST_SEED + 10_000 * seed
    seeds = range(first, first + episodes)
    if image_size is not None:
        opener = partial(open_simulator, image_size=image_size)
    goals = sheet_for(env, sheet)
    setup = Setup(str(policy), env, str(torch_device(device)), instruction, goals, opener)
    found: list[Result] = []
    with _one_thread():
        runner = (
            _alone(setup, seeds, film) if workers <= 1 else _pooled(setup, seeds, film, workers)
        )
        begun = next(runner)
        assert isinstance(begun, _Begun)
        for file in (out, film):
            if file is not None:
                check_writable(file.parent)
        for result in runner:
            assert not isinstance(result, _Begun)
            found.append(result)
            if on_progress:
                solved = sum(episode.success for episode, _, _ in found)
                on_progress(len(found), episodes, f"{solved} solved")
    report = summarize(
        str(policy), found, begun.protocol, film, weights=begun.weights, solving=begun.solving
    )
    if out is not None:
        write_evaluation(out, report)
    return report


def write_evaluation(path: Path, report: EvalReport) -> None:
    """Write a result as JSON, whole or not at all."""
    write_json(path, TypeAdapter(EvalReport).dump_python(report, mode="json"))


def read_evaluation_file(path: Path) -> EvalReport:
    """What `motus eval --out` wrote, or `motus eval --json` printed.

    Raises:
        DataError: It is something else.
    """
    try:
        return TypeAdapter(EvalReport).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        told = error.errors()[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, told['loc']))}: {told['msg']}" if told else str(error)
        raise DataError(
            f"{path} is no evaluation of this release: {why}",
            hint="motus eval POLICY --env ENV --out FILE makes one",
            where=str(path),
        ) from error


def summarize(
    policy: str,
    found: Sequence[Result],
    protocol: ProtocolCard,
    film: Path | None = None,
    *,
    weights: str | None = None,
    solving: Solving | None = None,
) -> EvalReport:
    """One result of many episodes."""
    results = tuple(sorted((episode for episode, _, _ in found), key=lambda e: e.seed))
    solved = [episode.steps for episode in results if episode.success]
    times = [ms for _, own, _ in found for ms in own]
    counts = {name: sum(c.get(name, 0) for _, _, c in found) for _, _, c in found for name in c}
    low, high = wilson(len(solved), len(results))
    steps = float(np.mean(solved)) if solved else None
    goals = protocol.subgoals
    shares = [len(episode.reached) / len(goals) for episode in results] if goals else []
    return EvalReport(
        policy=policy,
        env=protocol.env,
        rate=len(solved) / len(results),
        low=low,
        high=high,
        episodes=len(results),
        successes=len(solved),
        crashed=sum(episode.crash is not None for episode in results),
        partial=float(np.mean(shares)) if goals else None,
        mean_steps=steps,
        time_to_success=None if steps is None else steps / protocol.rate,
        counts=counts,
        latency=_latency(times) if times else None,
        results=results,
        film=film if film is not None and film.is_file() else None,
        weights=weights,
        protocol=protocol,
        solving=solving,
    )


def _latency(times: Sequence[float]) -> Latency:
    median, p95, p99 = (round(float(v), 3) for v in np.percentile(times, (50, 95, 99)))
    return Latency(median, p95, p99, round(max(times), 3), len(times))


def _alone(setup: Setup, seeds: range, film: Path | None) -> Iterator[_Begun | Result]:
    """What begins, then each episode, in this process."""
    _start_worker(setup)
    try:
        yield _describe(seeds)
        for seed in seeds:
            yield _work(seed, film if seed == seeds[0] else None)
    finally:
        _stop_worker()


def _pooled(
    setup: Setup, seeds: range, film: Path | None, workers: int
) -> Iterator[_Begun | Result]:
    """The same in processes of their own; one that dies takes only its own episode with it."""
    waiting = list(seeds)
    described = False
    while waiting:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_pooled, (setup,))
        try:
            if not described:
                yield pool.submit(_describe, seeds).result()
                described = True
            jobs = [pool.submit(_work, s, film if s == seeds[0] else None) for s in waiting]
            for job in jobs:
                yield job.result()
                waiting.pop(0)
        except BrokenProcessPool:
            if not described:
                raise MotusError(f"{DIED} when {setup.env} was started") from None
            if workers == 1:  # in order, so it was the first one that is not done
                yield Episode(waiting.pop(0), False, 0, crash=DIED), [], {}
            workers = 1  # which episode it was shows when they run one by one
        finally:
            end_pool(pool)  # at once: an episode that is stopped leaves nothing behind


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums come out the same, however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _Running:
    setup: Setup
    simulator: Simulator
    driver: Driver


# One per worker process; an error waits there for the first episode, since what an initializer
# raises would only break the pool.
_running: _Running | Exception | None = None


def _start_pooled(setup: Setup) -> None:
    # Ctrl-C reaches all processes; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _start_worker(setup)


def _start_worker(setup: Setup) -> None:
    global _running
    torch.set_num_threads(1)
    simulator = None
    try:
        simulator = setup.opener(setup.env)
        driver = make_driver(setup.policy, simulator, setup.device, setup.instruction)
        _running = _Running(setup, simulator, driver)
    except Exception as error:
        if simulator is not None:
            simulator.close()
        _running = error


def _stop_worker() -> None:
    global _running
    if isinstance(_running, _Running):
        _running.simulator.close()
    _running = None


def _ready() -> _Running:
    if isinstance(_running, Exception):
        raise _running
    assert _running is not None
    return _running


def _describe(seeds: range) -> _Begun:
    running = _ready()
    setup, driver = running.setup, running.driver
    protocol = describe_protocol(running.simulator, driver, seeds, setup.instruction, setup.sheet)
    return _Begun(protocol, *driven_by(driver))


def _work(seed: int, film: Path | None) -> Result:
    running = _ready()
    watch = Stopwatch(running.driver)
    try:
        episode, frames = run_episode(
            running.simulator, watch, seed, running.setup.sheet, filmed=film is not None
        )
    except FATAL:
        raise
    except Exception as error:
        episode, frames = Episode(seed, False, 0, crash=_told(error)), None
        if not isinstance(error, SimulatorError):  # after one of those it starts anew by itself
            with suppress(Exception):
                running.simulator.close()
            running.simulator = running.setup.opener(running.setup.env)
    if film is not None and frames is not None:
        film.parent.mkdir(parents=True, exist_ok=True)
        write_film(film, frames, running.simulator.rate)
    if not isinstance(running.driver, PolicyDriver):
        return episode, watch.times, {}
    counts = asdict(running.driver.policy.counts)
    del counts["calls"]
    return replace(episode, clipped=counts["clipped"], slowed=counts["slowed"]), watch.times, counts


def _told(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
