"""What the server costs: over a direct call, with many clients, and at its start.

    python benchmarks/serve.py                    # a fresh tiny policy for aloha: three cameras
    python benchmarks/serve.py --queries 300 --clients 1 4 16

The peer is a plain server: websockets and openpi-client's msgpack, as openpi's own server is built,
without queue, limits, token, deadlines or metrics. Both run in a process of their own and answer
with the same actor: one that does nothing, so that nothing but serving is left, then a policy.

`overhead` is what a client waits beyond the actor's own time, of one client's queries (wall clock;
with more clients it is mostly waiting for each other): the median, and beside it the 10th
percentile, which is near what a machine gives that has nothing else to do. `CPU` is the processor
time of server and client per query, where the actor takes none. The start-up row compares processor
time until ready with that of `import torch`.
"""

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from websockets.sync.client import ClientConnection, connect

from motus_adapters import Actor, Layout, Listen, PolicyActor, Query, ServerLimits, serve

SIDE = 128  # pixels
CARD = "aloha"


class Idle:
    """Answers at once, with messages of the policy's sizes."""

    def __init__(self, like: Actor) -> None:
        self.metadata = {key: v for key, v in like.metadata.items() if key != "chunking"}
        self.example = like.example
        self._actions = like.begin().act(like.example)
        self.counts: dict[str, int] = {}

    def begin(self) -> "Idle":
        """For every client."""
        return self

    def act(self, query: Query) -> np.ndarray:
        """The same actions for everyone."""
        del query
        return self._actions


def make_bundle(folder: Path) -> Path:
    """A policy with fresh weights."""
    import torch

    from motus_adapters import BundleConfig, Normalizer, write_bundle
    from motus_adapters.action_space import ActionSpace
    from motus_adapters.deployment.bundle import model_config
    from motus_embodiments import load_card
    from motus_model import MotusModel, Window

    torch.manual_seed(0)
    card = load_card(CARD)
    width = len(card.state_channels)
    one = Normalizer(np.zeros(width, np.float32), np.ones(width, np.float32))
    space = ActionSpace(card, one, one)
    half = SIDE // 2
    boxes = {
        "head": (0, 0, SIDE, SIDE),
        "left_wrist": (0, SIDE, half, half),
        "right_wrist": (half, SIDE, half, half),
    }
    layout = Layout(SIDE, SIDE + half, {r: boxes[r] for r in (c.role for c in card.cameras)})
    config = BundleConfig("tiny", Window(2, 2.5, 8, 10.0), layout, 10.0)
    weights = MotusModel(model_config(config, space)).state_dict()
    write_bundle(folder, weights, config, space, "made by benchmarks/serve.py")
    return folder


def open_actor(kind: str, bundle: Path) -> Actor:
    from motus_adapters import Policy

    policy = PolicyActor(Policy.load(bundle))
    return policy if kind == "policy" else Idle(policy)


def serve_plainly(actor: Actor, port: int) -> None:
    """The peer."""
    from openpi_client import msgpack_numpy
    from websockets.asyncio.server import serve as listen

    session = actor.begin()
    session.act(actor.example)

    async def talk(connection) -> None:
        await connection.send(msgpack_numpy.packb(actor.metadata))
        async for message in connection:
            seen = msgpack_numpy.unpackb(message)
            start = time.monotonic()
            actions = session.act(Query(seen["images"], seen["state"], seen["prompt"], 1))
            timing = {"infer_ms": (time.monotonic() - start) * 1000}
            await connection.send(
                msgpack_numpy.packb({"actions": actions, "server_timing": timing})
            )

    async def live() -> None:
        options = {"compression": None, "max_size": None}
        async with listen(talk, "127.0.0.1", port, **options) as server:
            print("ready", flush=True)
            await server.serve_forever()

    asyncio.run(live())


def be_server(which: str, kind: str, bundle: Path, port: int) -> None:
    import torch

    torch.set_num_threads(1)
    if which == "plain":
        serve_plainly(open_actor(kind, bundle), port)
    else:
        limits = ServerLimits(rate=0, queue=64, clients=64, deadline=60)
        serve(
            lambda: open_actor(kind, bundle),
            Listen(port=port),
            limits,
            on_ready=lambda _: print("ready", flush=True),
        )


@contextmanager
def server_of(which: str, kind: str, bundle: Path, port: int) -> Iterator[int]:
    """A server in a process of its own; gives its process id."""
    command = [sys.executable, __file__, "--be", which, "--kind", kind]
    process = subprocess.Popen(
        [*command, "--bundle", str(bundle), "--port", str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def cpu_of(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Client:
    """One connection that asks the same again and again, with openpi's own packing."""

    def __init__(self, port: int, message: bytes) -> None:
        from openpi_client import msgpack_numpy

        self._unpack = msgpack_numpy.unpackb
        self._message = message
        options = {"compression": None, "max_size": None, "proxy": None}
        self._opened = connect(f"ws://127.0.0.1:{port}", **options)
        self._talk: ClientConnection = self._opened.__enter__()
        self._talk.recv()
        self.waited: list[float] = []
        self.acted: list[float] = []

    def ask(self, count: int) -> None:
        """Ask and note the times, in ms."""
        for _ in range(count):
            start = time.perf_counter()
            self._talk.send(self._message)
            answer = self._unpack(self._talk.recv())
            self.waited.append((time.perf_counter() - start) * 1000)
            self.acted.append(answer["server_timing"]["infer_ms"])

    def close(self) -> None:
        """Hang up."""
        self._opened.__exit__(None, None, None)


def measure(which: str, kind: str, options: argparse.Namespace, bundle: Path) -> None:
    from openpi_client import msgpack_numpy

    example = open_actor(kind, bundle).example
    query = {"images": dict(example.images), "state": example.state, "prompt": "go"}
    message = msgpack_numpy.packb(query)
    with server_of(which, kind, bundle, options.port) as pid:
        for clients in options.clients:
            each = max(1, options.queries // clients)
            talks = [Client(options.port, message) for _ in range(clients)]
            for talk in talks:
                talk.ask(2)
                talk.waited, talk.acted = [], []
            wall, cpu = time.perf_counter(), cpu_of(pid) + time.process_time()
            together([partial(talk.ask, each) for talk in talks])
            cpu = cpu_of(pid) + time.process_time() - cpu
            wall = time.perf_counter() - wall
            waited = np.concatenate([talk.waited for talk in talks])
            acted = np.concatenate([talk.acted for talk in talks])
            for talk in talks:
                talk.close()
            p50, p95, p99 = np.percentile(waited, [50, 95, 99])
            serving = f"{cpu * 1000 / len(waited):.2f}" if kind == "idle" else "-"
            half, tenth = np.percentile(waited - acted, [50, 10])
            overhead = f"{half:.2f} {tenth:6.2f}" if clients == 1 else "-"
            print(
                f"{kind:7} {which:6} {clients:5d} {overhead:>13} {serving:>8} "
                f"{p50:8.2f} {p95:8.2f} {p99:8.2f} {len(waited) / wall:8.1f}",
                flush=True,
            )


def together(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def direct(bundle: Path, queries: int) -> None:
    """The call without a server."""
    import torch

    torch.set_num_threads(1)
    actor = open_actor("policy", bundle)
    session = actor.begin()
    times = []
    for _ in range(queries + 2):
        start = time.process_time()
        session.act(actor.example)
        times.append((time.process_time() - start) * 1000)
    print(f"direct call: {np.median(times[2:]):.2f} ms of processor time")


def start_up(bundle: Path, port: int) -> None:
    """Processor seconds from nothing to ready, against `import torch`."""
    before = os.times()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    after = os.times()
    torch_seconds = sum(after[2:4]) - sum(before[2:4])
    command = [sys.executable, "-m", "motus_cli.app", "serve", str(bundle), "--port", str(port)]
    wall = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("ready"), line
    seconds, wall = cpu_of(process.pid), time.perf_counter() - wall
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    print(
        f"start-up: motus serve {seconds:.2f} CPU s until ready ({wall:.1f} s of wall clock), "
        f"import torch {torch_seconds:.2f} CPU s, ratio {seconds / torch_seconds:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--queries", type=int, default=400, help="of each line")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--bundle", type=Path, help="a policy; a fresh one if left out")
    parser.add_argument("--port", type=int, default=18765)
    parser.add_argument("--be", choices=("plain", "motus"), help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=("idle", "policy"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        be_server(options.be, options.kind, options.bundle, options.port)
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or make_bundle(Path(folder) / "policy")
        direct(bundle, min(options.queries, 50))
        start_up(bundle, options.port)
        print(
            f"{'actor':7} {'server':6} clients {'overhead p10':>12} {'CPU':>8} "
            f"{'p50':>8} {'p95':>8} {'p99':>8} {'per s':>8}   (ms)"
        )
        for kind in ("idle", "policy"):
            for which in ("plain", "motus"):
                measure(which, kind, options, bundle)


if __name__ == "__main__":
    main()
