"""LeRobot's asynchronous inference: its own robot client against our server."""

import pickle
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest

from motus_adapters import ServerLimits
from motus_embodiments import UsageError, load_card
from tests.serving.toys import Fake, eventually, free_port, observation, serving, setup

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")


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
        fake = Fake(work=seen.append)
        fake.metadata["rate"] = 50.0
        with serving(fake, lerobot_port=port) as server:
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

    def test_a_client_at_the_policys_rate_may_wait(self, talk):
        talk.ready().instruct(setup(["a.pos", "b.pos", "c.pos"]))
        for step, stamp in ((0, 0), (5, 0.5), (5, 2), (12, 2.7), (60, 7.9), (80, 9.7)):
            assert talk.send(observation(step, stamp=stamp)).actions()

    @pytest.mark.parametrize(("steps", "hertz"), [(10, 30), (60, 5)])
    def test_a_client_of_another_rate_is_refused_until_it_begins_anew(self, talk, steps, hertz):
        """LeRobot's client says its rate nowhere, and has 30 Hz unless told otherwise."""
        talk.ready().instruct(setup(["a.pos", "b.pos", "c.pos"])).send(observation(stamp=0))
        for step in (steps, steps + 1):
            code, told = code_of(lambda step=step: talk.send(observation(step, stamp=step / hertz)))
            assert code == "INVALID_ARGUMENT"
            assert f"{hertz} rows a second" in told
            assert "--fps=10" in told
        talk.ready().instruct(setup(["a.pos", "b.pos", "c.pos"])).send(observation(steps + 2))

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
