"""What strangers and accidents do to the server, and that it goes on serving everyone else."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
from types import SimpleNamespace

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from motus_adapters import Query, ServerLimits
from motus_adapters.serving.conversation import Conversation
from motus_adapters.serving.metrics import Metrics
from motus_adapters.serving.wire import MOST_ENTRIES, pack, query_of, unpack
from motus_embodiments import DataError, MotusError
from tests.serving.toys import Fake, ask, eventually, query, serving

MEGABYTE = 2**20


@pytest.fixture
def server():
    with serving(Fake(), ServerLimits(message=1, rate=0, queue=32, deadline=2)) as running:
        yield running
        with running.talk() as connection:  # whatever a test did, others are served
            assert ask(connection, query(1.0))["actions"][0, 0] == 1.0


def closed_with(connection):
    """The code with which the server hangs up."""
    try:
        while True:
            connection.recv(timeout=5)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class TestVanishing:
    def test_in_the_middle_of_a_message(self, server):
        for _ in range(20):
            connection = server.connect(legacy=True)
            raw = connection.socket
            raw.sendall(b"\x82\xfe\x40\x00" + b"mask" + b"only the beginning")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raw.close()  # a reset instead of a farewell
        assert eventually(lambda: server.metric("motus_clients") == 0)

    def test_while_its_query_waits(self):
        gate = threading.Event()
        fake = Fake(work=lambda _: gate.wait(20))
        with serving(fake, ServerLimits(queue=3, rate=0)) as server:
            talks = [server.connect(legacy=True) for _ in range(3)]
            for connection in talks:
                unpack(connection.recv())
                connection.send(pack(query()))
            assert eventually(lambda: server.metric("motus_waiting") == 3)
            for connection in talks:
                connection.socket.shutdown(socket.SHUT_RDWR)
            # The one that is worked on has to be finished; the others leave the queue.
            assert eventually(lambda: server.metric("motus_waiting") == 1)
            gate.set()
            assert eventually(lambda: server.metric("motus_waiting") == 0)
            assert server.metric('motus_requests_total{outcome="gone"}') == 3
            assert fake.calls == 2  # the warm-up, and the one that had begun

    def test_before_the_handshake_is_done(self, server):
        for start in (b"", b"GET / HT", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nHost: x\r\n"):
            with socket.create_connection(("127.0.0.1", server.port)) as raw:
                raw.sendall(start)


class TestGarbage:
    @pytest.mark.parametrize(
        "garbage",
        [b"", b"\xc1", b"\xff" * 100, os.urandom(1000), b"\x93\x01\x02", b"\x00\x00", "text"],
        ids=["empty", "reserved", "ones", "random", "cut", "two", "text"],
    )
    def test_is_told_and_hung_up_on(self, server, garbage):
        with server.talk() as connection:
            connection.send(garbage)
            assert json.loads(connection.recv())["error"]["code"] == "garbage"
            assert closed_with(connection) == 1007

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"state": None}, "'state' is 1-d numbers"),
            ({"state": "five"}, "'state' is 1-d numbers"),
            ({"state": [[1, 2]]}, "'state' is 1-d numbers"),
            ({"images": [1]}, "'images' is a map"),
            ({"images": {"front": [1, 2]}}, "camera 'front' gives list"),
            ({"images": {"front": np.zeros((4, 4, 3), np.float32)}}, "float32 [4, 4, 3]"),
            ({"images": {"front": np.zeros((4, 4), np.uint8)}}, "uint8 [4, 4]"),
            ({"prompt": 5}, "'prompt' is int, not str"),
            ({"seed": -1}, "'seed' is -1"),
            ({"seed": 1.5}, "'seed' is float"),
            ({"rate": "fast"}, "'rate' is 0-d numbers"),
            ({"rate": float("inf")}, "'rate' is inf"),
            ({"stamps": [1]}, "'stamps' is a map"),
            ({"delay": 2}, "says nothing without 'previous'"),
            ({"previous": [[1, 2]], "delay": 3}, "the delay is 3 rows, 1 previous"),
            ({"previous": [[1, float("nan")]]}, "previous actions are finite"),
            ({"previous": [[1, 2]], "chunking": "hope"}, "no chunking named 'hope'"),
            ({"statee": 1}, "unknown key 'statee'"),
        ],
        ids=str,
    )
    def test_a_wrong_query_is_named_and_the_client_may_stay(self, server, change, told):
        with server.talk() as connection:
            connection.send(pack(query() | change))
            assert told in json.loads(connection.recv())["error"]["message"]
            assert ask(connection, query(2.0))["actions"][0, 0] == 2.0

    def test_oversized(self, server):
        before = resident_bytes()
        with server.talk() as connection:
            big = {"images": {"front": np.zeros((1000, 1000, 3), np.uint8)}, "state": [0.0]}
            connection.send(pack(big))
            assert closed_with(connection) == 1009
        assert resident_bytes() - before < 40 * MEGABYTE

    def test_oversized_in_pieces(self, server):
        before = resident_bytes()
        with server.talk() as connection:
            with contextlib.suppress(ConnectionClosed):
                connection.send(b"x" * 60_000 for _ in range(100))
            assert closed_with(connection) == 1009
        assert resident_bytes() - before < 40 * MEGABYTE


def nested(depth: int, leaf: bytes = b"\xc0") -> bytes:
    return b"\x91" * depth + leaf


def wide(header: int, count: int, body: bytes) -> bytes:
    return bytes([header]) + struct.pack(">I", count) + body


BOMBS = {
    "deep": nested(900_000),
    "deep maps": b"\x81\xa1a" * 300_000 + b"\xc0",
    "many empty maps": wide(0xDD, 900_000, b"\x80" * 900_000),
    "lists of maps": wide(0xDD, 900, (wide(0xDD, 900, b"\x80" * 900)) * 900),
    "claims 4 G entries": wide(0xDD, 2**32 - 1, b"\xc0" * 100),
    "claims a 4 G map": wide(0xDF, 2**32 - 1, b"\xc0" * 100),
    "claims 4 GB of bytes": wide(0xC6, 2**32 - 1, b"x" * 100),
    "claims a 4 GB text": wide(0xDB, 2**32 - 1, b"x" * 100),
    "claims a 4 GB extension": wide(0xC9, 2**32 - 1, b"\x01" + b"x" * 100),
    "a huge shape": msgpack.packb(
        {b"__ndarray__": True, b"data": b"", b"dtype": "<f8", b"shape": [2**62, 2**62, 0]}
    ),
    "an object array": msgpack.packb(
        {b"__ndarray__": True, b"data": b"x" * 8, b"dtype": "|O", b"shape": [1]}
    ),
    "a structured dtype": msgpack.packb(
        {b"__ndarray__": True, b"data": b"x" * 8, b"dtype": "f4," * 10_000, b"shape": [1]}
    ),
    "a long key": msgpack.packb({b"k" * 900_000: 1}),
    "an extension": msgpack.packb(msgpack.ExtType(5, b"x" * 1000)),
}


class TestBombs:
    @pytest.mark.parametrize("name", BOMBS)
    def test_go_off_in_nobodys_hands(self, server, name):
        with server.talk() as connection:
            start = time.process_time()
            tracemalloc.start()
            connection.send(BOMBS[name])
            assert "error" in json.loads(connection.recv(timeout=5))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 20 * MEGABYTE  # of a message of at most one
        assert time.process_time() - start < 1.0

    @settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=300))
    def test_any_bytes_are_a_query_or_a_data_error(self, data):
        try:
            found = query_of(unpack(data), 0)
        except MotusError:
            return
        assert isinstance(found, Query)

    @settings(max_examples=100)
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=20,
        )
    )
    def test_any_message_is_a_query_or_a_data_error(self, message):
        try:
            packed = msgpack.packb({"images": {}, "state": [0.0], "previous": message})
        except OverflowError:
            return
        with contextlib.suppress(MotusError):
            assert isinstance(query_of(unpack(packed), 0), Query)

    @given(st.sampled_from(["u1", "i2", "f4", "f8", "b1"]), st.lists(st.integers(0, 4), max_size=4))
    @settings(max_examples=50)
    def test_arrays_survive_the_wire(self, dtype, shape):
        values = np.arange(int(np.prod(shape, dtype=int))).reshape(shape).astype(dtype)
        found = unpack(pack({"v": values, "s": values.dtype.type(1)}))
        np.testing.assert_array_equal(found["v"], values)
        assert found["v"].dtype == values.dtype
        assert found["s"] == 1

    def test_limits_leave_room_for_a_long_list(self):
        assert len(unpack(msgpack.packb([0] * MOST_ENTRIES))) == MOST_ENTRIES
        with pytest.raises(DataError):
            unpack(msgpack.packb([0] * (MOST_ENTRIES + 1)))


def test_a_slow_reader_is_hung_up_on_and_the_others_are_served():
    fake = Fake(rows=60_000)  # an answer of about a megabyte
    with serving(fake, ServerLimits(deadline=0.5, rate=0)) as server:
        slow = server.connect(max_queue=1, legacy=True)
        unpack(slow.recv())
        raw = slow.socket
        message = pack(query())
        frame = b"\x82\xfe" + struct.pack(">H", len(message)) + bytes(4) + message
        raw.settimeout(5)
        with contextlib.suppress(OSError):
            for _ in range(400):  # asks and asks, and reads nothing more
                raw.sendall(frame)
        with server.talk() as connection:
            assert ask(connection, query(3.0))["actions"][0, 0] == 3.0
            assert eventually(lambda: server.metric('motus_refused_total{reason="slow"}') == 1)
            assert ask(connection, query(4.0))["actions"][0, 0] == 4.0


def test_a_hundred_strangers_at_once_leave_no_trace(server):
    before = resident_bytes()
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(os.urandom(200))
    assert eventually(lambda: server.metric("motus_clients") == 0)
    assert resident_bytes() - before < 30 * MEGABYTE


def test_a_query_that_crosses_the_farewell_is_not_begun():
    """The client learns from the farewell that it gets no answer; no actor works for nothing."""

    class Connection:
        def __init__(self):
            self.said, self.closed = asyncio.Queue(), []

        async def wait_closed(self):
            await asyncio.Event().wait()

        async def send(self, message):
            pass

        async def recv(self):
            return await self.said.get()

        async def close(self, code, reason):
            self.closed.append(code)

    async def talk():
        connection, metrics, asked = Connection(), Metrics(), []
        actor = SimpleNamespace(metadata={}, begin=lambda: None)
        worker = SimpleNamespace(actor=actor, submit=lambda *query: asked.append(query))
        conversation = Conversation(connection, worker, ServerLimits(), metrics)
        running = asyncio.ensure_future(conversation.run())
        await asyncio.sleep(0)
        await conversation.leave()
        connection.said.put_nowait(pack(query()))
        await asyncio.wait_for(running, 5)
        return connection.closed, asked

    closed, asked = asyncio.run(talk())
    assert set(closed) == {1001}
    assert asked == []


SCRIPT = """
import sys, time
from motus_adapters import Listen, ServerLimits, serve
from toys import Fake
report = serve(lambda: Fake(work=lambda _: time.sleep(0.05)), Listen(port=int(sys.argv[1])),
    ServerLimits(rate=0, queue=32), on_ready=lambda address: print(address, flush=True))
print(report.outcomes, flush=True)
"""


def test_sigterm_under_load(repository):
    from tests.serving.toys import Running, free_port

    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(port)],
        env=os.environ | {"PYTHONPATH": str(repository / "tests" / "serving")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ws://")
        server = Running(port, "ws", None, lambda: None)
        sent, answered, odd = [], [], []

        def client(number):
            with server.talk() as connection:
                try:
                    for i in range(1000):
                        connection.send(pack(query(float(number), seed=i)))
                        sent.append((number, i))
                        got = unpack(connection.recv(timeout=10))["actions"][0].tolist()
                        (answered if got == [number, i] else odd).append((number, i))
                except ConnectionClosed as closed:
                    if closed.rcvd is None or closed.rcvd.code != 1001:
                        odd.append(closed)

        threads = [threading.Thread(target=client, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.6)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
        for thread in threads:
            thread.join(10)
        assert process.returncode == 0
        assert not odd
        assert out.strip() == str({"ok": len(answered)})  # every answer that was counted arrived
        assert len(sent) - len(answered) <= 4  # at most what was on its way in
        assert answered
    finally:
        process.kill()
        process.wait()
