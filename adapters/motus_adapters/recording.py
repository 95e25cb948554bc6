"""Scripted experts, recorded the way a user's own recorder would write them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from motus_adapters.files import appearing, check_free
from motus_adapters.recorders import RECORDERS, Demonstration
from motus_adapters.sims import Simulator, SimulatorError, find_entry, open_simulator
from motus_embodiments import DataError, MotusError, UsageError, nearest

AFTER_SUCCESS = 3  # steps recorded beyond success, so that the end is part of the data
HDF5_SUFFIXES = (".hdf5", ".h5")  # by which `motus convert` finds them
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class RecordReport:
    """What `record` wrote.

    Attributes:
        out: File or folder.
        episodes: Episodes in it, all of them solved.
        frames: Frames in it.
        attempts: Episodes that were tried.
        crashed: Seed and cause of each attempt in which the simulator failed.
        rate: Frames a second.
        instruction: What the robot was told.
        card: Embodiment card of the robot.
    """

    out: Path
    episodes: int
    frames: int
    attempts: int
    crashed: tuple[tuple[int, str], ...]
    rate: float
    instruction: str
    card: str


def demonstrate(simulator: Simulator, seed: int) -> Demonstration:
    """One expert episode from a disturbed start.

    Odd seeds push the executed command off the recorded one (DART), so that the data shows how to
    come back; the recorded command stays the clean one.
    """
    generator = np.random.default_rng(seed)
    simulator.reset(seed)
    simulator.disturb(generator)
    observations, actions = [], []
    solved_at = None
    for step in range(simulator.max_steps):
        if solved_at is None and simulator.success:
            solved_at = step
        if solved_at is not None and step >= solved_at + AFTER_SUCCESS:
            break
        action = simulator.expert()
        seen = simulator.observe()
        observations.append((seen.state, {n: i.copy() for n, i in seen.images.items()}))
        actions.append(action)
        simulator.step(simulator.jitter(action, generator) if seed % 2 else action)
    return Demonstration(
        images={n: np.stack([images[n] for _, images in observations]) for n in simulator.cameras},
        states=np.stack([state for state, _ in observations]),
        actions=np.stack(actions).astype(np.float32),
        instruction=simulator.instruction,
        rate=simulator.rate,
        card=simulator.card,
        success=solved_at is not None,
    )


def check_record(env: str, out: Path, layout: str = "hdf5", *, force: bool = False) -> None:
    """Refuse what `record` would, as far as that is known before a simulator runs.

    Raises:
        UsageError: As `record`.
    """
    _check_out(out, layout, force=force)
    if not find_entry(env).has_expert:
        raise UsageError(
            f"{env} has no scripted expert",
            hint="`motus sim list --tasks` shows which have one",
        )


def _check_out(out: Path, layout: str, *, force: bool) -> None:
    if layout not in RECORDERS:
        raise UsageError(f"--format knows no '{layout}'", hint=nearest(layout, RECORDERS))
    if layout == "hdf5" and out.suffix not in HDF5_SUFFIXES:
        raise UsageError(f"{out} is no name of an HDF5 file", hint=f"--out {out}.hdf5")
    check_free(out, *RECORDERS[layout].signs, force=force)


def record(
    env: str,
    out: Path,
    *,
    episodes: int = 200,
    seed: int = 0,
    image_size: int = 128,
    workers: int = 1,
    layout: str = "hdf5",
    instruction: str | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
) -> RecordReport:
    """Write `episodes` successful expert episodes; they appear whole, by one rename, or not at all.

    Args:
        env: Simulator and task.
        out: The file (`hdf5`) or folder (`lerobot`) to write.
        episodes: How many.
        seed: Of the first attempt; the next one has the next.
        image_size: Width and height of the pictures, in pixels.
        workers: Processes.
        layout: `hdf5` or `lerobot`.
        instruction: The task in other words than the simulator's own.
        force: Replace what is there.
        on_progress: Called with (episodes done, episodes in all, remark).

    Raises:
        UsageError: When `out` exists and `force` is not given, the simulator or the layout is
            unknown, or the task has no expert.
        MissingError: When the simulator is not installed.
        DataError: When the disk is full or the expert keeps failing.
        SimulatorError: When the simulator keeps failing.
    """
    _check_out(out, layout, force=force)
    seeds = range(seed, seed + episodes + episodes // 5 + 5)
    try:
        with appearing(out) as new, RECORDERS[layout](new, env, seed) as recorder:
            attempts = _attempts(env, seeds, image_size, workers)
            if instruction:
                attempts = _in_other_words(attempts, instruction)
            report = _fill(recorder.add, out, episodes, attempts, on_progress)
            if report.episodes < episodes:
                raise _too_few(env, report)
            recorder.finish()
            return report
    except OSError as error:
        raise DataError(f"cannot write {out}: {error}", where=str(out)) from error


Attempts = Iterator[tuple[int, Demonstration | SimulatorError]]


def _in_other_words(attempts: Attempts, instruction: str) -> Attempts:
    for seed, found in attempts:
        if isinstance(found, Demonstration):
            found = replace(found, instruction=instruction)
        yield seed, found


def _fill(
    add: Callable[[Demonstration], None],
    out: Path,
    episodes: int,
    attempts: Attempts,
    on_progress: Progress | None,
) -> RecordReport:
    """Add solved episodes until there are enough, or nothing is left to try."""
    kept = frames = tried = 0
    crashed: list[tuple[int, str]] = []
    rate, instruction, card = 0.0, "", ""
    for seed, found in attempts:
        tried += 1
        if isinstance(found, SimulatorError):
            crashed.append((seed, found.message))
            continue
        if not found.success:
            continue
        add(found)
        kept, frames = kept + 1, frames + len(found.actions)
        rate, instruction, card = found.rate, found.instruction, found.card
        if on_progress:
            on_progress(kept, episodes, f"{frames} frames")
        if kept == episodes:
            break
    return RecordReport(out, kept, frames, tried, tuple(crashed), rate, instruction, card)


def _too_few(env: str, report: RecordReport) -> MotusError:
    tried = f"only {report.episodes} of {report.attempts} episodes"
    if report.crashed:
        seed, cause = report.crashed[0]
        return SimulatorError(
            f"{env} gave {tried}: {len(report.crashed)} crashed, first with seed {seed}: {cause}"
        )
    return DataError(
        f"the expert of {env} solved {tried}",
        hint="the simulator's version is probably not the pinned one: motus doctor",
    )


def _attempts(env: str, seeds: range, image_size: int, workers: int) -> Attempts:
    """Episodes in the order of their seeds, whatever the number of workers."""
    if workers <= 1:
        _start_worker(env, image_size)
        try:
            for seed in seeds:
                yield seed, _work(seed)
        finally:
            _stop_worker()
        return
    # A graphics context does not survive a fork.
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_start_worker, initargs=(env, image_size)
    ) as pool:
        # Only a few ahead of the writer, so that memory does not grow with the episodes.
        queue = [(seed, pool.submit(_work, seed)) for seed in seeds[: 2 * workers]]
        waiting = iter(seeds[2 * workers :])
        try:
            while queue:
                seed, job = queue.pop(0)
                yield seed, job.result()
                following = next(waiting, None)
                if following is not None:
                    queue.append((following, pool.submit(_work, following)))
        finally:
            pool.shutdown(cancel_futures=True)


# One per worker process; an error waits there for the first episode, since what an initializer
# raises would only break the pool.
_simulator: Simulator | MotusError | None = None


def _start_worker(env: str, image_size: int) -> None:
    global _simulator
    try:
        _simulator = open_simulator(env, image_size)
    except MotusError as error:
        _simulator = error


def _stop_worker() -> None:
    global _simulator
    if _simulator is not None and not isinstance(_simulator, MotusError):
        _simulator.close()
    _simulator = None


def _work(seed: int) -> Demonstration | SimulatorError:
    assert _simulator is not None
    if isinstance(_simulator, MotusError):
        raise _simulator
    try:
        return demonstrate(_simulator, seed)
    except SimulatorError as error:
        return error
