"""Recorded actions behind the server, and the example loop that carries them out."""

import importlib.util
import json
import math
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from motus_adapters import Query, ReplayActor, open_simulator
from motus_adapters.recording import demonstrate, record
from motus_embodiments import DataError, UsageError
from tests.serving.toys import Fake, Running, ask, free_port, serving

has_simulator = pytest.mark.skipif(
    importlib.util.find_spec("gym_hil") is None, reason="gym-hil is not installed"
)
SEED = 4


def load_example(repository):
    pytest.importorskip("openpi_client", reason="openpi-client is not installed")
    path = repository / "docs" / "examples" / "robot_loop.py"
    spec = importlib.util.spec_from_file_location("robot_loop", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.time = SimpleNamespace(sleep=lambda _: None, monotonic=lambda: 0.0)  # no waiting
    return module


def client_of(server):
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    return WebsocketClientPolicy("127.0.0.1", server.port)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """One expert episode, recorded and converted as a user does."""
    from motus_adapters import convert

    folder = tmp_path_factory.mktemp("replay")
    record("gym-hil:PandaPickCube", folder / "pick.hdf5", episodes=1, seed=SEED, image_size=32)
    convert(folder / "pick.hdf5", folder / "data", card="franka", codec=None)
    return folder / "data"


@has_simulator
class TestRecordedEpisode:
    def test_the_example_loop_picks_the_cube_up(self, dataset, repository):
        simulator = open_simulator("gym-hil:PandaPickCube", 32)
        demonstrate_start(simulator)
        robot = Simulated(simulator)
        with serving(ReplayActor(dataset)) as server:
            load_example(repository).drive(robot, client_of(server), "")
        solved = simulator.success
        simulator.close()
        assert solved
        assert robot.steps < simulator.max_steps

    def test_answers_follow_the_recording_and_hold_its_end(self, dataset):
        simulator = open_simulator("gym-hil:PandaPickCube", 32)
        recorded = demonstrate(simulator, SEED).actions
        simulator.close()
        actor = ReplayActor(dataset, steps=6, execute=4)
        session = actor.begin()
        got = [session.act(actor.example) for _ in range(math.ceil(len(recorded) / 4) + 2)]
        for number, chunk in enumerate(got):
            rows = np.minimum(4 * number + np.arange(6), len(recorded) - 1)
            np.testing.assert_allclose(chunk, recorded[rows], atol=1e-5)
        np.testing.assert_array_equal(actor.begin().act(actor.example), got[0])

    def test_what_another_robot_sees_is_refused(self, dataset):
        actor = ReplayActor(dataset)
        good = actor.example
        with pytest.raises(DataError, match="state has 3 channels"):
            actor.begin().act(Query(good.images, np.zeros(3)))
        with pytest.raises(DataError, match="no picture of the camera 'wrist'"):
            actor.begin().act(Query({"front": good.images["front"]}, good.state))
        with pytest.raises(DataError, match="allows 0 to 1"):
            actor.begin().act(Query(good.images, good.state + 100))
        with pytest.raises(DataError, match="nan"):
            actor.begin().act(Query(good.images, good.state * np.nan))

    def test_an_episode_that_is_not_there(self, dataset, motus):
        with pytest.raises(UsageError, match="no episode 1"):
            ReplayActor(dataset, 1)
        ran = motus("serve", "--replay", dataset, "--episode", 1, "--port", 0)
        assert ran.code == 2
        assert "episodes are 0 to 0" in ran.err

    def test_as_a_command(self, dataset, tmp_path):
        """Two clients, each from the start; SIGTERM ends it with a report."""
        port = free_port()
        command = [sys.executable, "-m", "motus_cli.app", "serve", "--replay", dataset]
        process = subprocess.Popen(
            [*command, "--port", str(port), "--json"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == f"ready at ws://127.0.0.1:{port}\n"
            actor = ReplayActor(dataset)
            seen = actor.example
            message = {"images": dict(seen.images), "state": seen.state}
            for _ in range(2):
                session = actor.begin()
                with Running(port, "ws", None, lambda: None).talk() as connection:
                    for _ in range(2):
                        found = ask(connection, message)["actions"]
                        np.testing.assert_array_equal(found, session.act(seen))
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=30)
            assert process.returncode == 0, err
            assert json.loads(out)["outcomes"] == {"ok": 4}
        finally:
            process.kill()
            process.wait()


def demonstrate_start(simulator):
    """The start of the recorded episode."""
    simulator.reset(SEED)
    simulator.disturb(np.random.default_rng(SEED))


class Simulated:
    """A simulator as the example sees a robot."""

    def __init__(self, simulator):
        self.simulator, self.steps = simulator, 0

    def observe(self):
        seen = self.simulator.observe()
        return dict(seen.images), seen.state

    def command(self, row):
        self.simulator.step(row)
        self.steps += 1

    def is_done(self):
        return self.simulator.success or self.steps == self.simulator.max_steps


class Counting:
    """A robot that notes what it was told, and when it was asked what it sees."""

    def __init__(self, steps):
        self.steps, self.rows, self.seen_at = steps, [], []

    def observe(self):
        self.seen_at.append(len(self.rows))
        return {"front": np.zeros((4, 4, 3), np.uint8)}, [float(len(self.rows)), 0.0, 0.0]

    def command(self, row):
        self.rows.append(float(row[0]))

    def is_done(self):
        return len(self.rows) == self.steps


@pytest.mark.parametrize("latency", [0.0, 0.05, 0.15, 0.2])
def test_the_example_carries_out_each_row_in_its_time(repository, latency):
    """The fake's row i says: state + i, which is the step that it is meant for."""
    queries = []
    robot = Counting(11)
    with serving(Fake(rows=6, work=queries.append)) as server:
        load_example(repository).drive(robot, client_of(server), "go", latency)
    assert robot.rows == list(range(11))
    assert robot.seen_at == list(range(0, 11, 2))  # it looks every `execute` steps
    delay = min(math.ceil(latency * 10), 2)
    assert queries[0].overlap is None
    for number, query in enumerate(queries[1:], 1):
        assert query.overlap.delay == delay
        assert query.overlap.actions[:, 0].tolist() == list(range(2 * number, 2 * number + 4))


def test_the_example_is_short(repository):
    text = (repository / "docs" / "examples" / "robot_loop.py").read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 40


def test_the_example_fits_the_guide(repository):
    guide = (repository / "docs" / "guides" / "serve.md").read_text()
    assert "../examples/robot_loop.py" in guide


def test_a_sessions_cursor_is_its_own(repository):
    del repository
    with serving(Fake()) as server, server.talk() as one, server.talk() as two:
        from tests.serving.toys import query

        assert ask(one, query())["actions"][0, 1] == 0
        assert ask(one, query())["actions"][0, 1] == 1
        assert ask(two, query())["actions"][0, 1] == 0
