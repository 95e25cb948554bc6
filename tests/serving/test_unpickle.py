"""LeRobot's pickles, read as data: what its client writes, and nothing else."""

import contextlib
import io
import pickle
import pickletools
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motus_adapters.serving.unpickle import Record, unpickle
from motus_embodiments import DataError
from tests.serving.toys import observation, setup

pytest.importorskip("grpc", reason="grpcio is not installed")


class Evil:
    def __reduce__(self):
        return (print, ("it ran",))


def reduce_of(function, *arguments):
    class Made:
        def __reduce__(self):
            return (function, arguments)

    return pickle.dumps(Made())


class TestUnpickling:
    @pytest.mark.parametrize("protocol", [2, 3, 4, 5])
    def test_reads_what_lerobots_client_writes(self, protocol):
        image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
        raw = {
            "front": image,
            "back": np.asfortranarray(image),
            "cut": image[::2, 1:, ::-1],
            "depth": np.arange(6, dtype=">f4").reshape(2, 3),
            "big": np.int64(5),
            "flag": True,
            "none": None,
            "list": [1, 2.5, "three", -7, 2**40],
            "same": "front",
        }
        found = unpickle(pickle.dumps(observation(3, **raw), protocol))
        assert isinstance(found, Record)
        assert (found.name, found.fields["timestep"]) == ("TimedObservation", 3)
        for name, value in raw.items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(found.fields["observation"][name], value)
                assert found.fields["observation"][name].dtype == value.dtype
            else:
                assert found.fields["observation"][name] == value
        config = unpickle(pickle.dumps(setup(["a"]), protocol))
        assert config.fields["actions_per_chunk"] == 4

    @pytest.mark.parametrize(
        "data",
        [
            pickle.dumps(Evil()),
            reduce_of(eval, "1"),
            reduce_of(np.load, "x"),
            reduce_of(np.zeros, (10**9,)),
            reduce_of(getattr, "x", "y"),
            pickle.dumps(np.array([Evil()], object)),
            pickle.dumps(np.zeros(2, [("a", "f4")])),
            b"(S'x'\nios\nsystem\n.",  # INST
            b"\x80\x04P1\n.",  # a persistent reference
            b"\x80\x02\x82\x01.",  # an extension
            b"N",
            b"t.",
            b"\x80\x02}(](K\x01u.",  # a list as a key
            b"\x80\x04}\x8c\x01ab.",  # a state for a dict
        ],
    )
    def test_refuses_everything_else(self, data, capsys):
        with pytest.raises(DataError):
            unpickle(data)
        assert "it ran" not in capsys.readouterr().out

    @pytest.mark.parametrize("used_as", [b"\x8c\x01x\x93.", b"}q\x00h\x01K\x01s.", b"."])
    def test_a_value_that_holds_itself_twice_over_and_over(self, used_as):
        """Printing or hashing it would take 2^60 steps."""
        twice = b"\x80\x02)" + b"".join(b"q\x01h\x01\x86" for _ in range(60)) + b"q\x01"
        start = time.process_time()
        with pytest.raises(DataError):
            raise DataError(type(unpickle(twice + used_as)).__name__)
        assert time.process_time() - start < 1

    @pytest.mark.parametrize(
        "data",
        [
            b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x",  # BINBYTES8
            b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"x",  # BYTEARRAY8
            b"\x80\x04K\x01r\xff\xff\xff\x7f.",  # a memo entry number 2^31
            b"\x80\x04\x95" + (2**60).to_bytes(8, "little") + b"N.",  # FRAME
            pickle.dumps([0] * 100_000),
        ],
    )
    def test_sizes_that_no_bytes_back_allocate_nothing(self, data):
        tracemalloc.start()
        with contextlib.suppress(DataError):
            unpickle(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 * 2**20

    @pytest.mark.parametrize("kind", ["array", "text"])
    def test_a_value_that_is_made_again_and_again_takes_no_more_memory(self, kind):
        size, times = 2**18, 1000
        text = size.to_bytes(4, "little") + b"a" * size
        if kind == "array":  # numpy's _frombuffer of one bytearray
            told = b"\x80\x05\x96" + bytes(text[:4]) + bytes(4) + text[4:] + b"\x94"
            told += b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02u1\x85R\x94"
            told += b"\x8c\x16numpy._core.multiarray\x8c\x0b_frombuffer\x93\x94"
            told += b"J" + text[:4] + b"\x85\x94]" + times * b"h\x02(h\x00h\x01h\x03\x8c\x01CtRa"
        else:  # protocol 2's way to write bytes
            told = b"\x80\x04X" + text + b"\x94\x8c\x07_codecs\x8c\x06encode\x93\x94"
            told += b"]" + times * b"h\x01(h\x00\x8c\x06latin1tRa"
        tracemalloc.start()
        with contextlib.suppress(DataError):
            assert len(unpickle(told + b".")) == times * (kind == "array")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20 * size

    @settings(max_examples=300)
    @given(st.binary(max_size=200))
    def test_any_bytes_are_a_value_or_a_data_error(self, data):
        with contextlib.suppress(DataError):
            unpickle(b"\x80\x04" + data)

    @settings(max_examples=200)
    @given(st.integers(0, 2**20), st.integers(0, 255))
    def test_a_damaged_message_is_a_value_or_a_data_error(self, place, value):
        good = bytearray(pickle.dumps(observation()))
        good[place % len(good)] = value
        with contextlib.suppress(DataError):
            unpickle(bytes(good))

    def test_the_instructions_are_those_that_pickle_writes(self):
        written = set()
        for protocol in (2, 3, 4, 5):
            for value in (observation(), setup(["a"]), [1, 2**70, (1, 2, 3, 4)], b"x" * 300):
                stream = io.BytesIO(pickle.dumps(value, protocol))
                written |= {code.name for code, _, _ in pickletools.genops(stream)}
                if not isinstance(value, bytes | list) or protocol > 2:
                    unpickle(stream.getvalue())
        assert {"STACK_GLOBAL", "GLOBAL", "NEWOBJ", "REDUCE", "BUILD"} <= written
