"""MCAP recordings: the contract on ROS 2 and on Foxglove messages, and the traps of timing."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("mcap_ros2")
pytest.importorskip("mcap_protobuf")

from layouts.mcap import (
    START,
    header,
    joints,
    jpeg,
    messages_of,
    raw,
    write_foxglove,
    write_mcap,
    write_ros2,
)
from layouts.truth import make_truth
from reader_contract import ReaderContract, read_everything

from motus_adapters import open_source
from motus_embodiments import DataError

MS = 1_000_000  # ns


class TestRos2(ReaderContract):
    format, channels, state_name = "mcap", (7, 7), "joint_states/position"
    task, rate = "pour the tea", 10.0
    tolerance = 3.0  # JPEG

    def write(self, folder, episodes):
        return write_mcap(folder, episodes)

    def breakable(self, path):
        return path / "episode_1.mcap"


class TestFoxglove(ReaderContract):
    format, channels, state_name = "mcap", (6, 6), "state/joints/position"
    rate = 20.0
    tolerance = 3.0  # video

    def truth(self, index):
        return make_truth(index, self.cameras, self.channels, None, self.rate)

    def write(self, folder, episodes):
        return write_foxglove(folder, episodes)

    def breakable(self, path):
        return path / "episode_1.mcap"


def recorded(folder, change=lambda messages: messages, metadata=None):
    truth = make_truth(4, ("cam",), (3, 3))
    write_ros2(folder / "a.mcap", change(messages_of(truth, 10)), metadata)
    return truth, folder / "a.mcap"


def opened(path):
    return open_source(path)[1][0]


def test_rows_take_the_nearest_message(tmp_path):
    """The camera jitters by up to a third of its period; each picture is used once."""
    jitter = np.random.default_rng(0).integers(-33, 33, 99)

    def shaken(messages):
        moved, k = [], 0
        for topic, kind, time, content in messages:
            if "Image" in kind:
                time, k = time + int(jitter[k]) * MS * (0 < k < 11), k + 1
            moved.append((topic, kind, time, content))
        return moved

    truth, path = recorded(tmp_path, shaken)
    recording = opened(path)
    assert (recording.num_frames, recording.rate) == (12, 10.0)
    frames = np.stack(list(recording.frames("cam"))).astype(int)
    assert np.abs(frames - truth.frames["cam"]).mean() < 3
    np.testing.assert_allclose(recording.state, truth.state)


def test_the_slowest_camera_sets_the_rate_and_the_overlap_the_span(tmp_path):
    truth = make_truth(4, ("slow",), (3, 3))
    fast = make_truth(30, ("fast",), (3, 3))
    messages = [m for m in messages_of(fast, 30) if "fast" in m[0]]
    messages = [(topic, kind, time + 250 * MS, c) for topic, kind, time, c in messages]
    path = write_ros2(tmp_path / "a.mcap", [*messages_of(truth, 10), *messages])
    recording = opened(path)
    assert recording.rate == 10.0
    # slow runs from 0 to 1.1 s and fast from 0.25 s, so rows are at 0.25, 0.35 ... 1.05 s.
    assert recording.num_frames == 10
    assert sum(1 for _ in recording.frames("fast")) == 10
    np.testing.assert_allclose(recording.state[0], truth.state[2] + 0.001 * 12, atol=1e-6)


def test_joints_in_another_order_are_put_in_order(tmp_path):
    names = ["a", "b", "c"]

    def turned(messages):
        turn = iter(range(10**6))
        out = []
        for topic, kind, time, content in messages:
            if topic == "/joint_states":
                values = np.asarray(content["position"])
                order = [2, 0, 1] if next(turn) % 2 else [0, 1, 2]
                content = joints(values[order], [names[i] for i in order])
                content["header"] = header(time)
            out.append((topic, kind, time, content))
        return out

    truth, path = recorded(tmp_path, turned)
    np.testing.assert_allclose(opened(path).state, truth.state)
    assert "has its joints in the order a, b, c" in "\n".join(opened(path).episode.warnings)


def test_joints_that_change_are_refused(tmp_path):
    def renamed(messages):
        late = [m for m in messages if m[0] == "/joint_states"][30]
        late[3]["name"] = ["a", "b", "c"]
        return messages

    _, path = recorded(tmp_path, renamed)
    with pytest.raises(DataError, match="the joints are a, b, c, before joint0, joint1, joint2"):
        read_everything(path)


def test_a_hole_is_refused(tmp_path):
    def torn(messages):
        return [m for m in messages if "Image" not in m[1] or not 300 < (m[2] - START) / MS < 800]

    _, path = recorded(tmp_path, torn)
    with pytest.raises(DataError, match=r"'/cam/image_raw/compressed' has no message for 0\.50 s"):
        open_source(path)


def test_late_cameras_are_told(tmp_path):
    def late(messages):
        for topic, _, time, content in messages:
            if "cam" in topic:
                content["header"] = header(time - 250 * MS)
        return messages

    _, path = recorded(tmp_path, late)
    assert "is logged 0.250 s after its stamp" in "\n".join(opened(path).episode.warnings)


def test_depth_and_second_transports_are_left_out(tmp_path):
    def more(messages):
        frame = np.zeros((8, 8, 3), np.uint8)
        for k in range(12):
            time = START + k * 100 * MS
            depth = {**raw(frame), "encoding": "16UC1"}
            packed = {"format": "jpeg", "data": jpeg(frame)}
            for topic, kind, content in (
                ("/cam/image_raw", "Image", raw(frame)),
                ("/depth/image_raw", "Image", depth),
                (
                    "/d2/compressed",
                    "CompressedImage",
                    {**packed, "format": "16UC1; compressedDepth"},
                ),
            ):
                content = {"header": header(time), **content}
                messages.append((topic, f"sensor_msgs/msg/{kind}", time, content))
        return messages

    _, path = recorded(tmp_path, more)
    assert opened(path).cameras == ("cam",)
    told = "\n".join(opened(path).episode.warnings)
    assert "'/cam/image_raw' is left out: '/cam/image_raw/compressed' is the same camera" in told
    assert "'/depth/image_raw' is no colour view and is left out: encoding '16UC1'" in told
    assert "'/d2/compressed' is no colour view" in told


def test_a_bag_in_several_files_is_told(tmp_path):
    write_mcap(tmp_path / "bag", [make_truth(i, ("cam",), (3, 3)) for i in range(2)])
    assert opened(tmp_path / "bag").episode.warnings[0].startswith("'/joint_states' has its")
    (tmp_path / "bag/metadata.yaml").write_text("rosbag2_bagfile_information: {}")
    assert opened(tmp_path / "bag").episode.warnings[0] == (
        "bag is one bag in 2 files; each is taken for an episode"
    )


def test_poses_and_text_topics(tmp_path):
    def more(messages):
        pose = {"position": {"x": 1.0, "y": 2.0, "z": 3.0}}
        pose["orientation"] = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
        for k in range(12):
            time = START + k * 100 * MS
            content = {"header": header(time), "pose": pose}
            messages.append(("/arm/pose", "geometry_msgs/msg/PoseStamped", time, content))
        messages.append(("/task_prompt", "std_msgs/msg/String", START, {"data": "sweep"}))
        return messages

    _, path = recorded(tmp_path, more)
    recording = opened(path)
    assert recording.task == "sweep"
    np.testing.assert_array_equal(
        recording.episode.column("arm/pose/pose/orientation"), [[0, 0, 0, 1]] * 12
    )


def test_video_without_a_key_frame_at_first(tmp_path):
    path = write_foxglove(tmp_path / "fox", [make_truth(2, ("cam",), (2, 2))]) / "episode_0.mcap"
    late = tmp_path / "late.mcap"
    from mcap.reader import make_reader
    from mcap.writer import Writer

    with open(path, "rb") as source, open(late, "wb") as target:
        writer = Writer(target)
        writer.start()
        schemas, channels = {}, {}
        for schema, channel, message in make_reader(source).iter_messages():
            if channel.topic == "/cam/video" and message.log_time == START:
                continue
            if schema.name not in schemas:
                schemas[schema.name] = writer.register_schema(
                    schema.name, schema.encoding, schema.data
                )
            if channel.topic not in channels:
                channels[channel.topic] = writer.register_channel(
                    channel.topic, channel.message_encoding, schemas[schema.name]
                )
            time = message.log_time
            writer.add_message(channels[channel.topic], time, message.data, time)
        writer.finish()
    with pytest.raises(DataError, match="'cam' has no picture in message 0"):
        read_everything(late)


def test_what_nobody_can_decode_is_left_out(tmp_path):
    from mcap.writer import Writer

    with open(tmp_path / "a.mcap", "wb") as file:
        writer = Writer(file)
        writer.start()
        channel = writer.register_channel("/odd", "json", 0)
        writer.add_message(channel, START, b"{}", START)
        writer.finish()
    with pytest.raises(DataError, match="no camera and no joint state"):
        open_source(tmp_path / "a.mcap")


def test_a_recorder_that_was_killed(tmp_path):
    """No summary at the end: said in words, with the tool that mends it."""
    _, path = recorded(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(DataError) as caught:
        open_source(path)
    assert "mcap recover" in caught.value.hint


@pytest.mark.parametrize("change", [b"\0" * 8, b"\xff" * 8])
def test_a_damaged_index_is_noticed(tmp_path, change):
    """It has no checksum of its own: count and times are held against the messages."""
    from mcap.reader import make_reader

    _, path = recorded(tmp_path)
    with open(path, "rb") as file:
        chunk = make_reader(file).get_summary().chunk_indexes[0]
    content = bytearray(path.read_bytes())
    for place in chunk.message_index_offsets.values():
        first = place + 9 + 2 + 4  # opcode and length; channel; bytes of the list
        content[first : first + 8] = change
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="index"):
        read_everything(path)


def test_without_mcap_the_extra_is_named(tmp_path):
    _, path = recorded(tmp_path)
    code = (
        "import sys; sys.modules['mcap'] = sys.modules['mcap.reader'] = None\n"
        "from motus_cli.app import main; sys.exit(main(['inspect', sys.argv[1]]))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert ran.returncode == 3
    assert "needs the package 'mcap'" in ran.stderr
    assert "pip install 'motus-cli[formats]'" in ran.stderr
