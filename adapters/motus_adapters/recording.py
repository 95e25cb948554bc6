"""Scripted experts, recorded to HDF5 the way a user's own recorder would write them.

The layout is robomimic's (`data/demo_k/{obs/*,actions}`); pictures are losslessly compressed.
"""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Float, UInt8

from motus_adapters.sims import Simulator, open_simulator
from motus_embodiments import DataError, UsageError

NOISE = 0.008  # m, spread of the disturbance on every other episode
AFTER_SUCCESS = 3  # steps recorded beyond success, so that the end is part of the data
_PACKED = {"compression": "gzip", "compression_opts": 1}
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode, native values."""

    images: dict[str, UInt8[np.ndarray, "t h w 3"]]
    states: Float[np.ndarray, "t s"]
    actions: Float[np.ndarray, "t a"]
    instruction: str
    rate: float
    card: str
    success: bool


@dataclass(frozen=True)
class RecordReport:
    """What `record` wrote."""

    out: Path
    episodes: int
    frames: int
    attempts: int
    rate: float
    instruction: str
    card: str


def demonstrate(simulator: Simulator, seed: int) -> Demonstration:
    """One expert episode from a disturbed start.

    Odd seeds push the executed command off the recorded one before the grasp (DART), so that the
    data shows how to come back; the recorded command stays the clean one.
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
        observations.append(simulator.observe())
        actions.append(action)
        executed = action.copy()
        if seed % 2 and action[-1] > 0.5:
            executed[:3] += generator.normal(0, NOISE, 3)
        simulator.step(executed)
    names = observations[0].images
    return Demonstration(
        images={n: np.stack([o.images[n].copy() for o in observations]) for n in names},
        states=np.stack([o.state for o in observations]),
        actions=np.stack(actions).astype(np.float32),
        instruction=simulator.instruction,
        rate=simulator.rate,
        card=simulator.card,
        success=solved_at is not None,
    )


def record(
    env: str,
    out: Path,
    *,
    episodes: int = 200,
    seed: int = 0,
    image_size: int = 128,
    workers: int = 1,
    force: bool = False,
    on_progress: Progress | None = None,
) -> RecordReport:
    """Write `episodes` successful expert episodes to one HDF5 file.

    Raises:
        UsageError: When the file exists and `force` is not given, or the simulator is unknown.
        DataError: When the disk is full or the expert keeps failing.
    """
    if out.exists() and not force:
        raise UsageError(f"{out} exists", hint="--force overwrites it", where=str(out))
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(out.name + f".partial-{os.getpid()}")
    seeds = range(seed, seed + episodes + episodes // 5 + 5)
    kept = frames = attempts = 0
    rate, instruction, card = 0.0, "", ""
    try:
        with h5py.File(partial, "w") as file:
            data = file.create_group("data")
            for demonstration in _demonstrations(env, seeds, image_size, workers):
                attempts += 1
                if not demonstration.success:
                    continue
                _write(data, kept, demonstration)
                kept += 1
                frames += len(demonstration.actions)
                rate, instruction = demonstration.rate, demonstration.instruction
                card = demonstration.card
                if on_progress:
                    on_progress(kept, episodes, f"{frames} frames")
                if kept == episodes:
                    break
            if kept < episodes:
                raise DataError(
                    f"the expert of {env} solved only {kept} of {attempts} episodes",
                    hint="the simulator's version is probably not the pinned one: motus doctor",
                )
            data.attrs["total"] = frames
            data.attrs["rate_hz"] = rate
            data.attrs["env_args"] = json.dumps({"env_name": env, "seed": seed})
        partial.replace(out)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error}", where=str(out)) from error
    finally:
        partial.unlink(missing_ok=True)
    return RecordReport(out, kept, frames, attempts, rate, instruction, card)


def _write(data: h5py.Group, index: int, demonstration: Demonstration) -> None:
    group = data.create_group(f"demo_{index}")
    group.attrs["num_samples"] = len(demonstration.actions)
    group.attrs["task"] = demonstration.instruction
    # Checksums tell damaged data from sound data when it is read.
    group.create_dataset("actions", data=demonstration.actions, fletcher32=True)
    observation = group.create_group("obs")
    for name, columns in (("joint_pos", slice(None, -1)), ("gripper_pos", slice(-1, None))):
        values = demonstration.states[:, columns]
        observation.create_dataset(name, data=values, fletcher32=True)
    for name, images in demonstration.images.items():
        chunk = (1, *images.shape[1:])
        observation.create_dataset(
            f"{name}_image", data=images, chunks=chunk, fletcher32=True, **_PACKED
        )


def _demonstrations(
    env: str, seeds: range, image_size: int, workers: int
) -> Iterator[Demonstration]:
    """Episodes in the order of their seeds, whatever the number of workers."""
    if workers <= 1:
        simulator = open_simulator(env, image_size)
        try:
            for seed in seeds:
                yield demonstrate(simulator, seed)
        finally:
            simulator.close()
        return
    # A graphics context does not survive a fork.
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_start_worker, initargs=(env, image_size)
    ) as pool:
        # Only a few ahead of the writer, so that memory does not grow with the episodes.
        queue = [pool.submit(_work, seed) for seed in seeds[: 2 * workers]]
        waiting = iter(seeds[2 * workers :])
        try:
            while queue:
                yield queue.pop(0).result()
                following = next(waiting, None)
                if following is not None:
                    queue.append(pool.submit(_work, following))
        finally:
            pool.shutdown(cancel_futures=True)


_simulator: Simulator | None = None  # one per worker process


def _start_worker(env: str, image_size: int) -> None:
    global _simulator
    _simulator = open_simulator(env, image_size)


def _work(seed: int) -> Demonstration:
    assert _simulator is not None
    return demonstrate(_simulator, seed)
