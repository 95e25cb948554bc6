"""A stand-in for a policy, and a server of it in a thread."""

import asyncio
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.sync.client import ClientConnection, connect

from motus_adapters import Actor, Listen, Query, ServeReport, ServerLimits
from motus_adapters.serving.run import run
from motus_adapters.serving.wire import pack, unpack

STATE, ACTION, ROWS = 3, 2, 4


@dataclass
class Fake:
    """Its actions tell whom they are for: the state, the seed and the row are in them."""

    rows: int = ROWS
    work: Callable[[Query], None] = lambda _query: None
    warm: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.calls = 0
        self.counts = {"outside": 0}  # states beyond 1000
        self.metadata: dict[str, Any] = {
            "server": "motus",
            "embodiment": "fake",
            "cameras": {"front": "head"},
            "state": ["a", "b", "c"],
            "action": ["x", "y"],
            "rate": 10.0,
            "action_steps": self.rows,
            "execute": 2,
            "instruction": "wait",
        }
        self.example = Query({}, np.zeros(STATE), "warm up")

    def begin(self) -> "Fake":
        return self

    def act(self, query: Query) -> np.ndarray:
        if query.instruction == "warm up":
            self.warm()
        else:
            self.work(query)
        self.calls += 1
        self.counts["outside"] += int(query.state[0] > 1000)
        return np.stack(
            [query.state[0] + np.arange(self.rows), np.full(self.rows, float(query.seed))], axis=1
        )


def query(state: float = 0.0, **more: Any) -> dict[str, Any]:
    """A message that the fake, or any robot of three numbers and one camera, can answer."""
    picture = np.full((8, 10, 3), 7, np.uint8)
    return {
        "images": {"front": picture},
        "state": np.array([state, 0.0, 0.0]),
        "prompt": "go",
    } | more


def setup(names: list[str], rows: int = 4) -> Any:
    """LeRobot's policy instructions, of a robot with these motors."""
    from lerobot.async_inference.helpers import RemotePolicyConfig

    features = {"observation.state": {"dtype": "float32", "shape": (3,), "names": names}}
    return RemotePolicyConfig("motus", "policies/franka", features, rows)


def observation(step: int = 0, must_go: bool = True, *, stamp: float = 100.0, **more: Any) -> Any:
    """What its client sends, of a robot that the fake can answer."""
    from lerobot.async_inference.helpers import TimedObservation

    raw = {"a.pos": 1.5, "b.pos": 0.0, "c.pos": np.float32(0.0), "task": "go"}
    raw["front"] = np.full((8, 10, 3), 7, np.uint8)
    return TimedObservation(stamp, step, raw | more, must_go)


@dataclass
class Running:
    """A server in a thread of this process."""

    port: int
    scheme: str
    token: str | None
    stop: Callable[[], ServeReport]

    @property
    def address(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def connect(self, **options: Any) -> ClientConnection:
        headers = {"Authorization": f"Api-Key {self.token}"} if self.token else None
        given = {
            "additional_headers": headers,
            "compression": None,
            "max_size": None,
            "proxy": None,
        }
        return connect(self.address, **given | options)

    @contextmanager
    def talk(self) -> Iterator[ClientConnection]:
        """A connection whose metadata was read."""
        with self.connect() as connection:
            unpack(connection.recv())
            yield connection

    def get(self, path: str, token: str | None = None) -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """One number of /metrics, 0 when nothing was counted yet."""
        text = self.get("/metrics", self.token)[1]
        found = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(found[0].split()[-1]) if found else 0.0


def ask(connection: ClientConnection, message: dict[str, Any]) -> Any:
    connection.send(pack(message))
    return unpack(connection.recv(timeout=20))


@contextmanager
def serving(
    actor: Actor | Callable[[], Actor],
    limits: ServerLimits | None = None,
    *,
    wait: bool = True,
    **where: Any,
) -> Iterator[Running]:
    """Serve from a free port; stopped at the end, and what failed is raised."""
    listening, port = threading.Event(), free_port()
    state: dict[str, Any] = {}

    async def live() -> None:
        state["loop"], state["stop"] = asyncio.get_running_loop(), asyncio.Event()
        state["report"] = await run(
            actor if callable(actor) else lambda: actor,
            Listen(port=port, **where),
            limits or ServerLimits(rate=0, queue=32),
            stop=state["stop"],
            on_ready=lambda _: listening.set(),
        )

    def body() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            state["error"] = error
        finally:
            listening.set()

    thread = threading.Thread(target=body, daemon=True)
    thread.start()

    def stop() -> ServeReport:
        if thread.is_alive():
            state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(30)
        assert not thread.is_alive(), "the server does not stop"
        if "error" in state:
            raise state["error"]
        return state["report"]

    try:
        if wait:
            assert listening.wait(120)  # importing LeRobot takes its time
        if "error" in state:
            raise state["error"]
        scheme = "wss" if where.get("certificate") else "ws"
        yield Running(port, scheme, where.get("token"), stop)
    finally:
        stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
