"""The websocket server: who gets in, and plain HTTP for health and metrics."""

import asyncio
import hmac
import logging
import time
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.http11 import Request, Response

from motus_adapters.serving.conversation import Conversation
from motus_adapters.serving.limits import Listen, ServerLimits
from motus_adapters.serving.metrics import Metrics
from motus_adapters.serving.worker import Worker
from motus_embodiments import UsageError

log = logging.getLogger(__name__)
SCHEMES = ("Api-Key ", "Bearer ")  # openpi's client, and everyone else
FRAMES_AHEAD = 2  # of one client, read before its last query is answered
LONGEST_FAREWELL = 1.0  # s, for a client to answer the closing of its connection


class PolicyServer:
    """Serves one worker's actor to websocket clients.

    Args:
        worker: Answers the queries.
        where: Address, token, TLS.
        limits: How much is taken on.
        metrics: Counts what happens.
    """

    def __init__(
        self, worker: Worker, where: Listen, limits: ServerLimits, metrics: Metrics
    ) -> None:
        self._worker, self._where, self._limits, self._metrics = worker, where, limits, metrics
        self._conversations: set[Conversation] = set()
        self._is_stopping = False
        self._server: Server | None = None

    async def start(self) -> int:
        """Listen, and give the port.

        Raises:
            UsageError: When the address cannot be had.
        """
        # What strangers do wrong is counted; a log line for each would let them fill the disk.
        quiet = logging.getLogger(f"{__name__}.websockets")
        quiet.setLevel(logging.CRITICAL)
        try:
            self._server = await listen(
                self._talk,
                self._where.host,
                self._where.port,
                ssl=self._where.tls(),
                origins=[None],  # browsers send an Origin, and no web page may drive a robot
                process_request=self._answer_http,
                compression=None,
                max_size=self._limits.message_bytes,
                max_queue=FRAMES_AHEAD,
                server_header="motus",
                close_timeout=LONGEST_FAREWELL,
                logger=quiet,
            )
        except OSError as error:
            raise UsageError(
                f"cannot listen on {self._where.host}:{self._where.port}: {error.strerror}",
                hint="--port 0 takes any free port",
            ) from error
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        """Take no more, let those who wait have their answers, and close."""
        assert self._server is not None, "start first"
        self._is_stopping = True
        self._metrics.ready.set(0)
        end = time.monotonic() + self._limits.grace
        await asyncio.gather(*(talk.leave() for talk in self._conversations))
        while self._conversations and time.monotonic() < end:
            await asyncio.sleep(0.01)
        for talk in self._conversations:
            talk.abort()
        self._server.close()
        await self._server.wait_closed()

    async def _talk(self, connection: ServerConnection) -> None:
        talk = Conversation(connection, self._worker, self._limits, self._metrics)
        self._conversations.add(talk)
        try:
            await talk.run()
        except Exception:
            log.exception("the conversation with %s failed", connection.remote_address)
            raise
        finally:
            self._conversations.discard(talk)

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        """Health, metrics and refusals; None lets a websocket open."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return connection.respond(HTTPStatus.OK, "OK\n")
        if path == "/readyz":
            if self._is_ready:
                return connection.respond(HTTPStatus.OK, "ready\n")
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "not ready\n")
        if not self._may_enter(request):
            return self._refuse(connection, HTTPStatus.UNAUTHORIZED, "token", "wrong token\n")
        if path == "/metrics":
            response = connection.respond(HTTPStatus.OK, self._metrics.text())
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = self._metrics.content_type
            return response
        if not self._is_ready:
            reason, text = "not_ready", "not ready\n"
        elif len(self._conversations) >= self._limits.clients:
            reason, text = "clients", "too many clients\n"
        else:
            return None
        return self._refuse(connection, HTTPStatus.SERVICE_UNAVAILABLE, reason, text)

    @property
    def _is_ready(self) -> bool:
        return self._worker.actor is not None and not self._is_stopping

    def _may_enter(self, request: Request) -> bool:
        if self._where.token is None:
            return True
        wanted = self._where.token.encode()
        return any(
            hmac.compare_digest(header.removeprefix(scheme).encode(), wanted)
            for header in request.headers.get_all("Authorization")
            for scheme in SCHEMES
            if header.startswith(scheme)
        )

    def _refuse(
        self, connection: ServerConnection, status: HTTPStatus, reason: str, text: str
    ) -> Response:
        self._metrics.refused.labels(reason).inc()
        return connection.respond(status, text)
