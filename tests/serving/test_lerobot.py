"""LeRobot's asynchronous inference: its own robot client against our server, and its pickles."""

import contextlib
import io
import pickle
import pickletools
import threading
import time
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motus_adapters import ServerLimits
from motus_adapters.serving.unpickle import Record, unpickle
from motus_embodiments import DataError, UsageError, load_card
from tests.serving.toys import Fake, eventually, free_port, serving

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")


def setup(names, rows=4):
    from lerobot.async_inference.helpers import RemotePolicyConfig

    features = {"observation.state": {"dtype": "float32", "shape": (3,), "names": names}}
    return RemotePolicyConfig("motus", "policies/franka", features, rows)


def observation(step=0, must_go=True, **more):
    from lerobot.async_inference.helpers import TimedObservation

    raw = {"a.pos": 1.5, "b.pos": 0.0, "c.pos": np.float32(0.0), "task": "go"}
    raw["front"] = np.full((8, 10, 3), 7, np.uint8)
    return TimedObservation(100.0, step, raw | more, must_go)


@dataclass
class FakeRobot:
    """As much of a LeRobot robot as its client touches."""

    sent: list = field(default_factory=list)

    @property
    def observation_features(self):
        return {"a.pos": float, "b.pos": float, "c.pos": float, "front": (8, 10, 3)}

    @property
    def action_features(self):
        return {"x": float, "y": float}

    def connect(self):
        """Nothing to connect."""

    def disconnect(self):
        """Nothing to disconnect."""

    def get_observation(self):
        raw = dict.fromkeys(("a.pos", "b.pos", "c.pos"), float(len(self.sent)))
        return raw | {"front": np.full((8, 10, 3), 7, np.uint8)}

    def send_action(self, action):
        self.sent.append(action)
        return action


class TestItsOwnClient:
    @pytest.fixture
    def robot_client(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)  # it makes a folder of logs
        return pytest.importorskip("lerobot.async_inference.robot_client")

    def test_the_control_loop_runs(self, robot_client, monkeypatch):
        robot = FakeRobot()
        monkeypatch.setattr(robot_client, "make_robot_from_config", lambda _: robot)
        port, seen = free_port(), []
        with serving(Fake(work=seen.append), lerobot_port=port) as server:
            client = robot_client.RobotClient(
                robot_client.RobotClientConfig(
                    policy_type="motus",
                    pretrained_name_or_path="policies/franka",
                    robot=None,
                    actions_per_chunk=3,
                    task="stack the cups",
                    server_address=f"127.0.0.1:{port}",
                    fps=50,
                )
            )
            assert client.start()
            threads = [
                threading.Thread(target=client.receive_actions, daemon=True),
                threading.Thread(target=client.control_loop, args=("stack the cups",), daemon=True),
            ]
            for thread in threads:
                thread.start()
            assert eventually(lambda: len(robot.sent) > 20, 20)
            client.stop()
            for thread in threads:
                thread.join(10)
            assert server.stop().outcomes["ok"] > 2
        assert set(robot.sent[0]) == {"x", "y"}
        assert {query.instruction for query in seen} == {"stack the cups"}
        assert seen[0].images["front"].shape == (8, 10, 3)


class Talk:
    """The protocol by hand, with LeRobot's own stubs and messages."""

    def __init__(self, port):
        from lerobot.transport import services_pb2, services_pb2_grpc

        self.messages = services_pb2
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.stub = services_pb2_grpc.AsyncInferenceStub(self.channel)

    def ready(self):
        self.stub.Ready(self.messages.Empty(), timeout=10)
        return self

    def instruct(self, wanted):
        data = wanted if isinstance(wanted, bytes) else pickle.dumps(wanted)
        self.stub.SendPolicyInstructions(self.messages.PolicySetup(data=data), timeout=10)
        return self

    def send(self, seen):
        from lerobot.transport.utils import send_bytes_in_chunks

        data = seen if isinstance(seen, bytes) else pickle.dumps(seen)
        self.stub.SendObservations(
            send_bytes_in_chunks(data, self.messages.Observation), timeout=10
        )
        return self

    def actions(self):
        data = self.stub.GetActions(self.messages.Empty(), timeout=10).data
        return pickle.loads(data) if data else []


@pytest.fixture
def talk():
    port = free_port()
    limits = ServerLimits(message=1, rate=0, queue=8)
    with serving(Fake(), limits, lerobot_port=port):
        made = Talk(port)
        yield made
        # whatever a test did, a good client is served
        good = Talk(port).ready().instruct(setup(["a.pos", "b.pos", "c.pos"]))
        assert len(good.send(observation()).actions()) == 4
        good.channel.close()
        made.channel.close()


def test_the_shipped_card_of_lerobots_own_arm():
    """Its gripper is `left_gripper` of the card and `gripper.pos` of LeRobot's."""
    from motus_adapters.serving.actor import describe

    motors = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    names, seen = [f"{motor}.pos" for motor in motors], []

    class Arm(Fake):
        def act(self, query):
            seen.append(query)
            return np.tile(np.arange(6.0), (4, 1))

    arm = Arm()
    arm.metadata |= describe(load_card("so101"), rate=30, steps=4, execute=2, task="go")
    assert "left_gripper" in arm.metadata["state"]
    port = free_port()
    with serving(arm, lerobot_port=port):
        for order in (names, names[::-1]):
            client = Talk(port).ready().instruct(setup(order))
            (row, *_) = client.send(
                observation(**{name: float(i) for i, name in enumerate(names)})
            ).actions()
            np.testing.assert_array_equal(seen[-1].state, np.arange(6.0))
            told = dict(zip(order, row.get_action().tolist(), strict=True))
            assert told == {name: float(i) for i, name in enumerate(names)}
            client.channel.close()


def code_of(call):
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code().name, error.value.details()


def test_a_port_that_is_taken():
    port = free_port()
    taken = pytest.raises(UsageError, match="for LeRobot")
    with serving(Fake(), lerobot_port=port), taken, serving(Fake(), lerobot_port=port):
        pass


class TestProtocol:
    def test_actions_are_timed(self, talk):
        talk.ready().instruct(setup(["a.pos", "b.pos", "c.pos"], rows=3))
        actions = talk.send(observation(step=7)).actions()
        assert [a.get_timestep() for a in actions] == [7, 8, 9]
        assert [a.get_timestamp() for a in actions] == pytest.approx([100.0, 100.1, 100.2])
        assert [a.get_action().tolist() for a in actions] == [[1.5 + i, 7.0] for i in range(3)]

    def test_numbers_come_in_the_robots_own_order(self, talk):
        talk.ready().instruct(setup(["c.pos", "b.pos", "a.pos"]))
        assert talk.send(observation(**{"a.pos": 4.0})).actions()[0].get_action()[0] == 4.0

    def test_another_robot_is_refused(self, talk):
        talk.ready()
        wrong = setup(["shoulder.pos", "b.pos", "c.pos"])
        twice = setup(["a.pos", "a", "b.pos", "c.pos"])
        assert code_of(lambda: talk.instruct(twice))[0] == "INVALID_ARGUMENT"
        code, told = code_of(lambda: talk.instruct(wrong))
        assert code == "INVALID_ARGUMENT"
        assert "the robot's state is shoulder.pos" in told

    def test_steps_that_were_answered_are_skipped_unless_urgent(self, talk):
        talk.ready().instruct(setup(["a", "b", "c"]))
        raw = {"a": 0.0, "b": 0.0, "c": 0.0}
        assert talk.send(observation(3, False, **raw)).actions()
        assert talk.send(observation(3, False, **raw)).actions() == []
        assert talk.send(observation(3, True, **raw)).actions()
        assert talk.send(observation(4, False, **raw)).actions()

    def test_the_newest_observation_counts(self, talk):
        talk.ready().instruct(setup(["a.pos", "b.pos", "c.pos"]))
        for step in range(5):
            talk.send(observation(step))
        assert talk.actions()[0].get_timestep() == 4

    @pytest.mark.parametrize(
        ("data", "told"),
        [
            (b"", "no pickle"),
            (b"garbage", "pickle"),
            (pickle.dumps({"a": 1}), "not LeRobot's"),
            (pickle.dumps(print), "builtins.print, which is not allowed"),
            (b"cos\nsystem\n(S'true'\ntR.", "os.system, which is not allowed"),
        ],
        ids=["empty", "garbage", "dict", "print", "system"],
    )
    def test_wrong_pickles_are_refused(self, talk, data, told):
        talk.ready().instruct(setup(["a.pos", "b.pos", "c.pos"]))
        for call in (talk.instruct, talk.send):
            if call == talk.send and not data:
                continue  # nothing to send in pieces
            code, said = code_of(lambda call=call: call(data))
            assert code == "INVALID_ARGUMENT"
            assert told in said

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"front": np.zeros((700, 800, 3), np.uint8)}, "more than 1 MB"),
            ({"a.pos": "far"}, "could not convert"),
            ({"task": 5}, "the task is int"),
        ],
        ids=["large", "text", "task"],
    )
    def test_wrong_observations_are_refused(self, talk, change, told):
        talk.ready().instruct(setup(["a.pos", "b.pos", "c.pos"]))
        code, said = code_of(lambda: talk.send(observation(**change)).actions())
        assert code == "INVALID_ARGUMENT"
        assert told in said

    def test_order_of_calls(self, talk):
        assert "never said Ready" in code_of(lambda: talk.send(observation()))[1]
        talk.ready().send(observation())
        assert "policy instructions" in code_of(talk.actions)[1]


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
        import tracemalloc

        tracemalloc.start()
        with contextlib.suppress(DataError):
            unpickle(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10 * 2**20

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
