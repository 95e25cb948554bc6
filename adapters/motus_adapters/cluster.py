"""The same function over many items as tasks of a Ray cluster, or of a Ray that is started here."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from motus_embodiments import MotusError

_RETRIES = 3  # of a task whose worker or machine died
_STORE = 2**27  # bytes; tasks write their episodes to files and pass on a name


def run_on_ray[T, R](work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield `work(item)` for every item, in the order of completion.

    A running cluster is used if RAY_ADDRESS names one or one was started on this machine;
    otherwise a Ray of `workers` processes is started, and stopped in the end. A task whose worker
    dies is given to another one.

    Args:
        work: A function of module level that all machines can import.
        items: What to work on; their paths must mean the same on all machines.
        workers: Tasks in work at a time; twice as many wait.

    Raises:
        MotusError: A task's worker was killed again and again.
    """
    import ray

    started = _connect(ray, workers)
    task = ray.remote(num_cpus=1, max_retries=_RETRIES)(work)
    queue = iter(items)
    pending: list[Any] = []
    try:
        while True:
            pending += [task.remote(item) for item in islice(queue, 3 * workers - len(pending))]
            if not pending:
                return
            done, pending = ray.wait(pending)
            yield _result(ray, done[0])
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        if started:
            ray.shutdown()


def _connect(ray: Any, workers: int) -> bool:
    """Join the cluster that is there, or start one; whether one was started or joined here."""
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray tells its makers otherwise
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        small = {"include_dashboard": False, "object_store_memory": _STORE}
        ray.init(address="local", num_cpus=workers, **small, **quiet)
    return True


def _result(ray: Any, reference: Any) -> Any:
    """What a task gave, or the error it raised, as if it had been raised here."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
    except ray.exceptions.RayError as error:
        raise MotusError(
            f"a task's worker died {_RETRIES + 1} times, perhaps for want of memory",
            hint="run the same command with --resume and fewer --workers",
        ) from error
