"""The server as its clients see it: openpi's own client, ours, HTTP, tokens, TLS, stopping."""

import json
import subprocess
import threading
import time

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus

from motus_adapters import Listen, ServerLimits, read_token, serve
from motus_adapters.serving.limits import Rate, RateError
from motus_adapters.serving.wire import unpack
from motus_embodiments import DataError, UsageError
from tests.serving.toys import ROWS, Fake, ask, eventually, query, serving

TOKEN = "0123456789abcdef-token"


class TestOpenpisOwnClient:
    @pytest.fixture
    def client_class(self):
        module = pytest.importorskip(
            "openpi_client.websocket_client_policy", reason="openpi-client is not installed"
        )
        return module.WebsocketClientPolicy

    def test_it_gets_metadata_and_actions(self, client_class):
        with serving(Fake()) as server:
            client = client_class("127.0.0.1", server.port)
            assert client.get_server_metadata()["embodiment"] == "fake"
            first = client.infer(query(3.0, seed=5))
            assert first["actions"].tolist() == [[3.0 + row, 5.0] for row in range(ROWS)]
            assert set(first["server_timing"]) == {"infer_ms"}
            assert set(client.infer(query())["server_timing"]) == {"infer_ms", "prev_total_ms"}

    def test_it_raises_what_the_server_has_against_the_query(self, client_class):
        with serving(Fake()) as server:
            client = client_class("127.0.0.1", server.port)
            with pytest.raises(RuntimeError, match="the query has no 'state'"):
                client.infer({"images": {}})
            assert client.infer(query())["actions"].shape == (ROWS, 2)  # the connection lives on

    def test_it_shows_its_token(self, client_class):
        with serving(Fake(), token=TOKEN) as server:
            client = client_class("127.0.0.1", server.port, api_key=TOKEN)
            assert client.infer(query())["actions"].shape == (ROWS, 2)
            with pytest.raises(InvalidStatus, match="401"):
                client_class("127.0.0.1", server.port, api_key="another" + TOKEN)

    def test_its_chunk_broker_gives_one_row_at_a_time(self, client_class):
        broker = pytest.importorskip("openpi_client.action_chunk_broker").ActionChunkBroker
        with serving(Fake()) as server:
            policy = broker(client_class("127.0.0.1", server.port), action_horizon=2)
            rows = [policy.infer(query(1.0))["actions"][0] for _ in range(3)]
        assert rows == [1.0, 2.0, 1.0]


def test_clients_do_not_get_each_others_answers():
    failures = []

    def client(server, number):
        with server.talk() as connection:
            for i in range(30):
                answer = ask(connection, query(float(number), seed=i))
                if answer["actions"][0].tolist() != [number, i]:
                    failures.append((number, i, answer))

    with serving(Fake()) as server:
        threads = [threading.Thread(target=client, args=(server, n)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.stop().outcomes == {"ok": 180}
    assert not failures


def test_seeds_count_up_on_each_connection():
    with serving(Fake()) as server:
        for _ in range(2):
            with server.talk() as connection:
                assert [ask(connection, query())["actions"][0, 1] for _ in range(3)] == [0, 1, 2]


class TestHealth:
    def test_ready_only_when_warm(self):
        warm = threading.Event()
        fake = Fake(warm=lambda: warm.wait(20))
        with serving(fake, wait=False) as server:
            assert eventually(lambda: server_answers(server))
            assert server.get("/healthz") == (200, "OK\n")
            assert server.get("/readyz")[0] == 503
            assert server.metric("motus_ready") == 0
            with pytest.raises(InvalidStatus, match="503"):
                server.connect()
            warm.set()
            assert eventually(lambda: server.get("/readyz")[0] == 200)
            assert server.metric("motus_ready") == 1
            with server.talk() as connection:
                assert ask(connection, query())["actions"].shape == (ROWS, 2)

    def test_what_cannot_be_opened_ends_the_server(self):
        def broken():
            raise DataError("no policy here")

        with pytest.raises(DataError, match="no policy here"), serving(broken):
            pass

    def test_metrics_count(self):
        with serving(Fake()) as server:
            with server.talk() as connection:
                for state in (0, 2000, 0):
                    ask(connection, query(state))
                connection.send(b"\xc0")
                connection.recv()
                assert server.metric("motus_clients") == 1
            assert server.metric('motus_requests_total{outcome="ok"}') == 3
            assert server.metric('motus_requests_total{outcome="bad_data"}') == 1
            assert server.metric("motus_act_seconds_count") == 3
            assert server.metric('motus_met_total{kind="outside"}') == 1
            assert server.metric("process_resident_memory_bytes") > 1e6
            assert eventually(lambda: server.metric("motus_clients") == 0)

    def test_metrics_are_what_prometheus_reads(self):
        with serving(Fake()) as server:
            with server.talk() as connection:
                for _ in range(3):
                    ask(connection, query())
                    told(connection, query() | {"statee": 1})
            text = server.get("/metrics")[1]
        families = {f.name: f for f in text_string_to_metric_families(text)}
        assert families["motus_requests"].type == "counter"
        assert families["motus_ready"].type == "gauge"
        outcomes = {
            sample.labels["outcome"]: sample.value
            for sample in families["motus_requests"].samples
            if sample.name == "motus_requests_total"
        }
        assert outcomes == {"ok": 3, "bad_data": 3}
        for name in ("motus_act_seconds", "motus_answer_seconds"):
            assert families[name].type == "histogram"
            buckets = [s for s in families[name].samples if s.name.endswith("_bucket")]
            assert buckets[-1].labels["le"] == "+Inf"
            counts = [sample.value for sample in buckets]
            assert counts == sorted(counts)
        assert all(family.documentation for family in families.values())


def server_answers(server):
    try:
        return server.get("/healthz")[0] == 200
    except OSError:
        return False


class TestAccess:
    def test_a_token_is_asked_for_everywhere_but_health(self):
        with serving(Fake(), token=TOKEN) as server:
            assert server.get("/healthz")[0] == 200
            assert server.get("/readyz")[0] == 200
            assert server.get("/metrics")[0] == 401
            assert server.get("/metrics", TOKEN)[0] == 200
            for wrong in ({}, {"Authorization": TOKEN}, {"Authorization": "Api-Key wrong"}):
                with pytest.raises(InvalidStatus, match="401"):
                    server.connect(additional_headers=wrong)
            with server.talk() as connection:
                assert ask(connection, query())["actions"].shape == (ROWS, 2)

    def test_no_web_page_may_drive_a_robot(self):
        with serving(Fake()) as server, pytest.raises(InvalidStatus, match="403"):
            server.connect(origin="https://example.org")

    def test_others_are_kept_out_without_a_token(self):
        for host in ("0.0.0.0", "::", "192.168.1.7", "robot.local", ""):
            with pytest.raises(UsageError, match="no token"):
                Listen(host=host)
        for host in ("127.0.0.1", "::1", "localhost"):
            assert Listen(host=host).is_loopback
        assert not Listen(host="0.0.0.0", token=TOKEN).is_loopback

    def test_an_address_that_is_taken(self):
        with serving(Fake()) as server, pytest.raises(UsageError, match="cannot listen"):
            serve(Fake, Listen(port=server.port))

    def test_tokens_come_from_a_file_or_the_environment(self, tmp_path, monkeypatch):
        monkeypatch.delenv("MOTUS_TOKEN", raising=False)
        assert read_token(None) is None
        monkeypatch.setenv("MOTUS_TOKEN", TOKEN)
        assert read_token(None) == TOKEN
        file = tmp_path / "token"
        file.write_text("another-" + TOKEN + "\n")
        assert read_token(file) == "another-" + TOKEN
        for weak in (b"", b"short", b"x" * 20 + b"\n" + b"y", bytes(range(128, 160))):
            file.write_bytes(weak)
            with pytest.raises(DataError, match="is no secret"):
                read_token(file)

    def test_tls(self, tmp_path):
        import ssl

        key, certificate = make_certificate(tmp_path)
        trusted = ssl.create_default_context(cafile=certificate)
        with serving(Fake(), certificate=certificate, key=key) as server:
            with server.connect(ssl=trusted, server_hostname="localhost") as connection:
                unpack(connection.recv())
                assert ask(connection, query())["actions"].shape == (ROWS, 2)
            with pytest.raises(ssl.SSLError):
                server.connect(ssl=ssl.create_default_context(), server_hostname="localhost")
        with pytest.raises(DataError, match="no certificate and key"):
            Listen(certificate=key, key=certificate).tls()
        with pytest.raises(UsageError, match="certificate and its key"):
            Listen(certificate=certificate)


def make_certificate(folder):
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = subprocess.run(
        [*command, *names, "-keyout", key, "-out", certificate], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs the openssl command")
    return key, certificate


class TestLimits:
    def test_a_full_queue_says_busy(self):
        gate = threading.Event()
        fake = Fake(work=lambda _: gate.wait(20))
        with serving(fake, ServerLimits(queue=1, rate=0)) as server:
            with server.talk() as one, server.talk() as two:
                send(one, query(1.0))
                assert eventually(lambda: server.metric("motus_waiting") == 1)
                error = told(two, query(2.0))
                assert error["code"] == "busy"
                gate.set()
                assert unpack(one.recv())["actions"][0, 0] == 1.0
                assert eventually(lambda: server.metric("motus_waiting") == 0)
                assert ask(two, query(2.0))["actions"][0, 0] == 2.0
            assert server.stop().outcomes == {"ok": 2, "busy": 1}

    def test_a_late_answer_is_said_and_dropped(self):
        fake = Fake(work=lambda q: time.sleep(0.6 if q.state[0] else 0))
        with serving(fake, ServerLimits(deadline=0.2, rate=0)) as server, server.talk() as talk:
            assert told(talk, query(1.0))["code"] == "deadline"
            time.sleep(0.6)
            assert ask(talk, query(0.0))["actions"][0, 0] == 0.0  # not the late one

    def test_one_client_cannot_take_it_all(self):
        with serving(Fake(), ServerLimits(rate=5)) as server, server.talk() as talk:
            codes = [told(talk, query()).get("code", "ok") for _ in range(12)]
        assert codes[:5] == ["ok"] * 5
        assert "rate" in codes[5:]

    def test_too_many_clients(self):
        with serving(Fake(), ServerLimits(clients=2)) as server:
            full = pytest.raises(InvalidStatus, match="503")
            with server.talk(), server.talk(), full:
                server.connect()
            assert eventually(lambda: server.metric("motus_clients") == 0)
            with server.talk():
                pass

    def test_a_bucket_refills(self):
        now = [0.0]
        rate = Rate(2, clock=lambda: now[0])
        rate.take()
        rate.take()
        with pytest.raises(RateError, match="more than 2 queries a second"):
            rate.take()
        now[0] = 0.5
        rate.take()
        with pytest.raises(RateError):
            rate.take()
        now[0] = 100.0
        rate.take()
        rate.take()
        with pytest.raises(RateError):
            rate.take()


def send(connection, message):
    from motus_adapters.serving.wire import pack

    connection.send(pack(message))


def told(connection, message):
    """The error of an answer, or nothing."""
    send(connection, message)
    answer = connection.recv(timeout=20)
    return json.loads(answer)["error"] if isinstance(answer, str) else {}


class TestStopping:
    def test_answers_under_way_are_given(self):
        fake = Fake(work=lambda _: time.sleep(0.5))
        with serving(fake) as server, server.talk() as busy, server.talk() as idle:
            send(busy, query(4.0))
            assert eventually(lambda: server.metric("motus_waiting") == 1)
            report = server.stop()
            assert unpack(busy.recv())["actions"][0, 0] == 4.0
            for connection in (busy, idle):
                with pytest.raises(ConnectionClosed) as closed:
                    connection.recv(timeout=5)
                assert closed.value.rcvd.code == 1001
            assert report.outcomes == {"ok": 1}

    def test_nobody_is_waited_for_longer_than_the_grace(self):
        gate = threading.Event()
        fake = Fake(work=lambda _: gate.wait(20))
        limits = ServerLimits(grace=0.2, deadline=20)
        with serving(fake, limits) as server, server.talk() as connection:
            send(connection, query())
            assert eventually(lambda: server.metric("motus_waiting") == 1)
            start = time.monotonic()
            threading.Timer(3, gate.set).start()
            server.stop()
            assert time.monotonic() - start < 2.5
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=5)


def test_an_actor_that_fails_is_reported_without_its_secrets():
    def fail(_query):
        raise RuntimeError("secret path /home/someone")

    with serving(Fake(work=fail)) as server, server.talk() as connection:
        error = told(connection, query())
    assert error["code"] == "internal"
    assert "secret" not in json.dumps(error)


def test_actions_that_are_not_finite_are_never_sent():
    with serving(Fake()) as server, server.talk() as connection:
        error = told(connection, query(float("nan")))
    assert error["code"] == "internal"
    assert "not finite" in error["message"]


def test_the_pictures_arrive_as_they_were_sent():
    seen = []
    with serving(Fake(work=seen.append)) as server, server.talk() as connection:
        picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
        ask(connection, query() | {"images": {"front": picture}})
        ask(connection, query() | {"images": {"front": picture.transpose(2, 0, 1)}})
    for got in seen:
        np.testing.assert_array_equal(got.images["front"], picture)
