"""One websocket client, from its first to its last message."""

import asyncio
import logging
import time
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

from motus_adapters.serving.limits import Rate, ServerLimits
from motus_adapters.serving.metrics import Metrics
from motus_adapters.serving.wire import GarbageError, pack, pack_error, query_of, unpack
from motus_adapters.serving.worker import Answer, Worker
from motus_embodiments import MotusError

log = logging.getLogger(__name__)


class Conversation:
    """Metadata first, then an answer to each query, as openpi's client expects it.

    Attributes:
        is_owed: Whether the client waits for an answer.
    """

    def __init__(
        self, connection: ServerConnection, worker: Worker, limits: ServerLimits, metrics: Metrics
    ) -> None:
        self._connection, self._worker = connection, worker
        self._limits, self._metrics = limits, metrics
        assert worker.actor is not None, "warm up first"
        self._metadata, self._session = worker.actor.metadata, worker.actor.begin()
        self._rate = Rate(limits.rate)
        self._index = 0
        self._pending: asyncio.Future[Answer] | None = None
        self._last_seconds: float | None = None
        self._is_leaving = False
        self.is_owed = False

    async def run(self) -> None:
        """Talk until the client leaves, or `leave` was called."""
        self._metrics.clients.inc()
        gone = asyncio.ensure_future(self._connection.wait_closed())
        gone.add_done_callback(self._forget)
        try:
            await self._send(pack(self._metadata))
            while not self._is_leaving:
                message = await self._connection.recv()
                if self._is_leaving:  # it crossed the farewell; nothing can be sent any more
                    break
                self.is_owed = True
                await self._answer(message)
                self.is_owed = False
            await self._farewell()
        except ConnectionClosed:
            pass  # with or without a farewell
        finally:
            self.is_owed = False
            gone.cancel()
            self._metrics.clients.dec()

    async def leave(self) -> None:
        """End the conversation, after the answer that is owed."""
        self._is_leaving = True
        if not self.is_owed:
            await self._farewell()

    def abort(self) -> None:
        """End it now."""
        self._connection.transport.abort()

    async def _answer(self, message: bytes | str) -> None:
        start = time.monotonic()
        try:
            self._rate.take()
            answer = await self._ask(unpack(message))
        except MotusError as error:
            await self._reply(pack_error(error), error.code, start)
            if isinstance(error, GarbageError):  # whoever sent that is no client of ours
                await self._connection.close(CloseCode.INVALID_DATA, "no query")
        else:
            self._index += 1
            await self._reply(self._pack(answer), "ok", start)

    async def _ask(self, content: Any) -> Answer:
        """Ask the worker; the query leaves the queue when its client leaves."""
        self._pending = self._worker.submit(self._session, query_of(content, self._index))
        try:
            return await self._worker.within_deadline(self._pending)
        except asyncio.CancelledError:
            if self._pending.cancelled() and self._connection.close_code is not None:
                self._metrics.requests.labels("gone").inc()
                raise self._connection.protocol.close_exc from None
            raise
        finally:
            self._pending = None

    async def _reply(self, message: bytes | str, outcome: str, start: float) -> None:
        self._metrics.requests.labels(outcome).inc()
        await self._send(message)
        self._last_seconds = time.monotonic() - start
        self._metrics.answer.observe(self._last_seconds)

    async def _send(self, message: bytes | str) -> None:
        """Send, but wait no longer than the deadline for someone who does not read."""
        try:
            async with asyncio.timeout(self._limits.deadline):
                await self._connection.send(message)
        except TimeoutError:
            log.warning("%s does not read its answers", self._connection.remote_address)
            self._metrics.refused.labels("slow").inc()
            self.abort()
            await self._connection.wait_closed()
            raise self._connection.protocol.close_exc from None

    async def _farewell(self) -> None:
        await self._connection.close(CloseCode.GOING_AWAY, "the server stops")

    def _forget(self, _gone: "asyncio.Future[None]") -> None:
        if self._pending is not None:
            self._pending.cancel()

    def _pack(self, answer: Answer) -> bytes:
        timing = {"infer_ms": answer.seconds * 1000}
        if self._last_seconds is not None:
            timing["prev_total_ms"] = self._last_seconds * 1000
        return pack({"actions": answer.actions, "server_timing": timing})
