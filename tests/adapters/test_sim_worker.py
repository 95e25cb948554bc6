"""Simulators that run as processes of their own: the same numbers, and every way to fail."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motus_adapters.recording import demonstrate
from motus_adapters.sims.hosts import serve
from motus_adapters.sims.protocol import SimulatorError
from motus_adapters.sims.worker import SERVE, Worker, WorkerSimulator
from motus_embodiments import UsageError

HOST = Path(__file__).with_name("sim_host.py")


def started(task="well", seconds=5.0):
    command = [sys.executable, "-u", str(SERVE), str(HOST), task, "", "16"]
    worker = Worker(command, 30.0, seconds)
    return WorkerSimulator("fake:Point", "pusht", "walk", worker, has_expert=True)


@pytest.fixture
def simulator():
    opened = started()
    yield opened
    opened.close()


def test_numbers_and_pictures_arrive(simulator):
    assert (simulator.rate, simulator.max_steps, simulator.cameras) == (10.0, 20, ("top",))
    simulator.reset(1)
    start = simulator.observe()
    simulator.step(np.array([0.6]))
    assert start.images["top"].shape == (16, 16, 3)
    assert simulator.observe().state == pytest.approx(start.state + 0.6)
    assert simulator.signals == {"place": pytest.approx(float(start.state[0]) + 0.6)}
    assert not simulator.success
    simulator.step(np.array([0.6]))
    assert simulator.success


def test_the_scene_can_be_a_model(simulator):
    simulator.reset(0)
    assert simulator.scene() == "<mujoco model='line'/>"


def test_a_simulator_without_a_scene_says_so():
    simulator = started("blind")
    simulator.reset(0)
    with pytest.raises(SimulatorError, match="nothing to see"):
        simulator.scene()
    simulator.close()


def test_same_seed_same_demonstration(simulator):
    one, two, other = (demonstrate(simulator, seed) for seed in (1, 1, 3))
    assert one.success
    assert np.array_equal(one.states, two.states)
    assert np.array_equal(one.images["top"], two.images["top"])
    assert not np.array_equal(one.states[0], other.states[0])


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("dies", r"(?s)died \(exit 9\): .*out of luck"),
        ("hangs", "gave no answer within 0.5 s"),
        ("babbles", "answered nonsense"),
        ("raises", "the cube fell through the table"),
    ],
)
def test_a_failure_is_named_and_the_next_reset_starts_anew(task, said):
    simulator = started(task, 0.5)
    try:
        for _ in range(2):
            simulator.reset(1)
            simulator.step(np.array([0.1]))
            simulator.step(np.array([0.1]))
            with pytest.raises(SimulatorError, match=said):
                simulator.step(np.array([0.1]))
        simulator.reset(1)
        assert simulator.observe().state < 0.2
    finally:
        simulator.close()


def test_between_failure_and_reset_nothing_is_asked():
    simulator = started("dies")
    simulator.reset(1)
    for _ in range(2):
        simulator.step(np.array([0.1]))
    with pytest.raises(SimulatorError, match="died"):
        simulator.step(np.array([0.1]))
    with pytest.raises(SimulatorError, match="not running"):
        simulator.observe()
    simulator.close()


def test_a_host_that_does_not_start_is_named(tmp_path):
    broken = tmp_path / "host.py"
    broken.write_text("import no_such_simulator\n")
    command = [sys.executable, "-u", str(SERVE), str(broken), "t", "", "16"]
    with pytest.raises(SimulatorError, match="no_such_simulator"):
        WorkerSimulator("fake:Point", "pusht", "walk", Worker(command, 30.0), has_expert=True)


def test_without_an_expert_that_is_said(simulator):
    simulator.has_expert = False
    with pytest.raises(UsageError, match="no scripted expert"):
        simulator.expert()


ARRAYS = st.dictionaries(
    st.text(max_size=8),
    st.tuples(st.sampled_from(serve.DTYPES), st.lists(st.integers(0, 4), max_size=3)),
    max_size=3,
)


def reader(data):
    rest = bytearray(data)

    def read(count):
        if len(rest) < count:
            raise EOFError
        piece = bytes(rest[:count])
        del rest[:count]
        return piece

    return read


@given(ARRAYS, st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=3))
def test_a_message_comes_back(shapes, header):
    arrays = {name: np.ones(shape, dtype) for name, (dtype, shape) in shapes.items()}
    back, given_back = serve.unpack(reader(serve.pack(header, arrays)))
    assert back == header
    assert list(given_back) == list(arrays)
    for name, array in arrays.items():
        assert given_back[name].dtype == array.dtype
        assert np.array_equal(given_back[name], array)


@given(st.binary(max_size=64))
def test_garbage_is_no_message(data):
    with pytest.raises((ValueError, EOFError)):
        serve.unpack(reader(b"NOPE" + data))


@pytest.mark.parametrize(
    "header",
    [
        b'{"arrays": [["a", "object", [1]]]}',
        b'{"arrays": [["a", "uint8", [-1]]]}',
        b'{"arrays": [["a", "uint8", [99999999999]]]}',
        b"[]",
        b"{",
    ],
)
def test_a_header_that_lies_is_refused(header):
    data = serve.MAGIC + struct.pack(">I", len(header)) + header + b"\0" * 64
    with pytest.raises(ValueError, match=r"array|header|Expecting"):
        serve.unpack(reader(data))
