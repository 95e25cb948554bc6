"""One thread that runs the actor, and a queue before it that says busy when it is full."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from motus_adapters.deployment.chunking import Overlap
from motus_adapters.serving.actor import Actor, Query, Session
from motus_adapters.serving.limits import BusyError, DeadlineError, ServerLimits
from motus_adapters.serving.metrics import Metrics
from motus_embodiments import MotusError

log = logging.getLogger(__name__)


class ActorError(MotusError):
    """The actor failed in a way that is not the client's fault."""

    code = "internal"


@dataclass(frozen=True)
class Answer:
    """Actions, and the seconds that the actor took for them."""

    actions: Float[np.ndarray, "t a"]
    seconds: float


class Worker:
    """Answers queries one after the other, in the order in which they came.

    Args:
        open_actor: Makes the actor; called in the thread that will run it.
        limits: Length of the queue, and the deadline.
        metrics: Counts what happens.
    """

    def __init__(
        self, open_actor: Callable[[], Actor], limits: ServerLimits, metrics: Metrics
    ) -> None:
        self._open_actor = open_actor
        self._limits = limits
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="actor")
        self._waiting = 0
        self.actor: Actor | None = None

    async def warm_up(self) -> None:
        """Open the actor and let it answer its own example; until then nothing is ready."""
        loop = asyncio.get_running_loop()
        self.actor = await loop.run_in_executor(self._thread, self._open)
        self._metrics.ready.set(1)

    def submit(self, session: Session, query: Query) -> "asyncio.Future[Answer]":
        """Queue a client's query; cancelling the future takes it out again unless it has begun.

        Raises:
            BusyError: When the queue is full.
        """
        if self._waiting >= self._limits.queue:
            raise BusyError(
                f"{self._waiting} queries are waiting, no more are taken",
                hint="ask again, or give the server a longer --queue",
            )
        self._waiting += 1
        self._metrics.waiting.set(self._waiting)
        loop = asyncio.get_running_loop()
        job = self._thread.submit(self._run, session, query)

        def done(_job: object) -> None:
            with suppress(RuntimeError):  # the server ended before the actor did
                loop.call_soon_threadsafe(self._leave)

        job.add_done_callback(done)
        return asyncio.wrap_future(job)

    async def within_deadline(self, answer: "asyncio.Future[Answer]") -> Answer:
        """The answer to a submitted query.

        Raises:
            DeadlineError: When there is none in time; it is dropped when it comes.
            MotusError: What the actor has against the query.
        """
        try:
            return await asyncio.wait_for(answer, self._limits.deadline)
        except TimeoutError:
            raise DeadlineError(
                f"no answer within {self._limits.deadline:g} s",
                hint="fewer clients, or a longer --deadline",
            ) from None

    def close(self) -> None:
        """Give the thread back; what still waits is never begun."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> Actor:
        actor = self._open_actor()
        session = actor.begin()
        actions = session.act(actor.example)
        for method in actor.metadata.get("chunking", ()):  # the first guided call is slow as well
            session.act(replace(actor.example, overlap=Overlap(actions, 0, method)))
        return actor

    def _run(self, session: Session, query: Query) -> Answer:
        start, before = time.monotonic(), dict(session.counts)
        try:
            actions = session.act(query)
        except MotusError:
            raise
        except Exception as error:
            log.exception("the actor failed")
            raise ActorError(
                f"the policy failed: {type(error).__name__}", hint="the server's log says more"
            ) from error
        finally:
            for kind, count in session.counts.items():
                self._metrics.met.labels(kind).inc(count - before[kind])
        seconds = time.monotonic() - start
        self._metrics.act.observe(seconds)
        if not np.isfinite(actions).all():
            raise ActorError("the policy gave actions that are not finite; none are sent")
        return Answer(actions, seconds)

    def _leave(self) -> None:
        self._waiting -= 1
        self._metrics.waiting.set(self._waiting)
