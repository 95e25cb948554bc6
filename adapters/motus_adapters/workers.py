"""The same function over many items: in this process, in several, or on a Ray cluster."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing.connection import wait as wait_for
from typing import Any

from motus_adapters.cluster import run_on_ray
from motus_embodiments import MissingError, MotusError, UsageError, nearest

ENGINES = ("local", "ray")


def check_engine(workers: int, engine: str) -> None:
    """Refuse what `run` could not do, before anything is written.

    Raises:
        UsageError: A negative number of workers, or there is no such engine.
        MissingError: Ray is not installed.
    """
    if workers < 0:
        raise UsageError(f"workers is {workers}; it must be 0 (one a core) or more")
    if engine not in ENGINES:
        raise UsageError(f"no engine named '{engine}'", hint=nearest(engine, ENGINES))
    if engine == "ray" and find_spec("ray") is None:
        raise MissingError("--engine ray needs Ray", hint="pip install 'motus-cli[ray]'")


def count(workers: int, items: int) -> int:
    """How many processes to start: 0 asks for one a core; never more than there are items."""
    return max(1, min(workers or len(os.sched_getaffinity(0)), items))


def run[T, R](
    work: Callable[[T], R], items: Iterable[T], workers: int, engine: str = "local"
) -> Iterator[R]:
    """Yield `work(item)` for every item, in the order of completion.

    Only a few items wait in the queue at a time, so memory does not grow with their number.
    When `work` raises or the caller stops, the other processes are ended at once: whatever
    `work` leaves behind must be good at any moment.

    Args:
        work: A function of module level; it and the items must be picklable if other processes
            are to work.
        items: What to work on.
        workers: Processes; 1 of the local engine works in this one.
        engine: One of `ENGINES`: processes of this machine, or tasks of a Ray cluster.

    Raises:
        MotusError: A worker process was killed from outside; on Ray, again and again.
    """
    if engine == "ray":
        yield from run_on_ray(work, items, workers)
    elif workers == 1:
        yield from map(work, items)
    else:
        yield from _run_in_processes(work, items, workers)


def _run_in_processes[T, R](
    work: Callable[[T], R], items: Iterable[T], workers: int
) -> Iterator[R]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker)
    queue = iter(items)
    pending: set[Future[R]] = set()
    try:
        while True:
            while len(pending) < 2 * workers and (item := next(queue, _END)) is not _END:
                pending.add(pool.submit(work, item))
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise MotusError(
            "a worker process was killed, perhaps for want of memory",
            hint="run the same command with --resume and fewer --workers",
        ) from error
    finally:
        end_pool(pool)


_END: Any = object()


def _start_worker() -> None:
    """One thread a worker; deaf to Ctrl-C, which is the parent's; no orphan when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


def end_pool(pool: ProcessPoolExecutor) -> None:
    """Stop a pool's processes at once, with whatever they are at."""
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
