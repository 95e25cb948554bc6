"""A server's life: bind, warm up, serve until told to stop, stop in good order."""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from motus_adapters.serving.actor import Actor
from motus_adapters.serving.limits import Listen, ServerLimits
from motus_adapters.serving.metrics import Metrics
from motus_adapters.serving.server import PolicyServer
from motus_adapters.serving.worker import Worker
from motus_embodiments import MissingError

if TYPE_CHECKING:
    from motus_adapters.serving.lerobot_server import LeRobotServer


@dataclass(frozen=True)
class ServeReport:
    """What a server did.

    Attributes:
        address: Where it listened.
        seconds: From warm to stopped.
        outcomes: Queries by how they ended.
    """

    address: str
    seconds: float
    outcomes: dict[str, int]


def serve(
    open_actor: Callable[[], Actor],
    where: Listen | None = None,
    limits: ServerLimits | None = None,
    *,
    on_ready: Callable[[str], None] = lambda _address: None,
) -> ServeReport:
    """Serve an actor until SIGTERM or Ctrl-C; a second one ends it at once.

    Health is answered while the actor is opened, everything else when it is warm.

    Args:
        open_actor: Makes the actor, in the thread that will run it.
        where: Address, token, TLS; the loopback device alone if left out.
        limits: How much is taken on.
        on_ready: Called with the address when the first client may come.

    Raises:
        UsageError: When the address cannot be had.
        MotusError: What `open_actor` raises.
    """
    signals = (signal.SIGTERM, signal.SIGINT)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # they wait for their handlers

    async def until_signal() -> ServeReport:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def told_to_stop() -> None:
            stop.set()
            for number in signals:
                loop.remove_signal_handler(number)

        for number in signals:
            loop.add_signal_handler(number, told_to_stop)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return await run(open_actor, where, limits, stop=stop, on_ready=on_ready)

    try:
        return asyncio.run(until_signal())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def run(
    open_actor: Callable[[], Actor],
    where: Listen | None = None,
    limits: ServerLimits | None = None,
    *,
    stop: asyncio.Event,
    on_ready: Callable[[str], None],
) -> ServeReport:
    """`serve` inside a running event loop, until `stop` is set."""
    where, limits = where or Listen(), limits or ServerLimits()
    metrics = Metrics()
    worker = Worker(open_actor, limits, metrics)
    server = PolicyServer(worker, where, limits, metrics)
    async with AsyncExitStack() as stack:
        stack.callback(worker.close)
        port = await server.start()
        stack.push_async_callback(server.stop)
        address = f"{'ws' if where.certificate is None else 'wss'}://{where.host}:{port}"
        stopping = asyncio.ensure_future(stop.wait())
        warming = asyncio.ensure_future(_warm_up(worker, where))
        await asyncio.wait({warming, stopping}, return_when=asyncio.FIRST_COMPLETED)
        start = time.monotonic()
        if warming.done():
            make_lerobot = warming.result()
            if make_lerobot is not None and where.lerobot_port is not None:
                lerobot = make_lerobot(worker, limits, metrics)
                lerobot.start(where.lerobot_port)
                stack.push_async_callback(lerobot.stop)
            on_ready(address)
        await stopping
    return ServeReport(address, time.monotonic() - start, metrics.outcomes())


async def _warm_up(worker: Worker, where: Listen) -> "type[LeRobotServer] | None":
    """Open the actor; importing LeRobot takes seconds in which health has to be answered."""
    found = None if where.lerobot_port is None else await asyncio.to_thread(_import_lerobot)
    await worker.warm_up()
    return found


def _import_lerobot() -> "type[LeRobotServer]":
    try:
        from motus_adapters.serving.lerobot_server import LeRobotServer
    except ImportError as error:
        raise MissingError(
            f"LeRobot's protocol needs grpcio and lerobot: {error}",
            hint="pip install 'motus-cli[serve]'",
        ) from error
    return LeRobotServer
