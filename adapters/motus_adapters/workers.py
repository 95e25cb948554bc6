"""The same function over many items, in this process or in several."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Any

from motus_embodiments import MotusError, UsageError


def count(workers: int, items: int) -> int:
    """How many processes to start: 0 asks for one a core; never more than there are items.

    Raises:
        UsageError: A negative number.
    """
    if workers < 0:
        raise UsageError(f"workers is {workers}; it must be 0 (one a core) or more")
    return max(1, min(workers or len(os.sched_getaffinity(0)), items))


def run[T, R](work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield `work(item)` for every item, in the order of completion.

    Only a few items wait in the queue at a time, so memory does not grow with their number.
    When `work` raises or the caller stops, the other processes are ended at once: whatever
    `work` leaves behind must be good at any moment.

    Args:
        work: A function of module level; it and the items must be picklable if `workers` > 1.
        items: What to work on.
        workers: Processes; 1 works in this one.

    Raises:
        MotusError: A worker process was killed from outside.
    """
    if workers == 1:
        yield from map(work, items)
        return
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
        _end(pool)


_END: Any = object()


def _start_worker() -> None:
    """One thread a worker; deaf to Ctrl-C, which is the parent's; no orphan when that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


def _end(pool: ProcessPoolExecutor) -> None:
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
