"""MCAP recordings: ROS 2 messages through mcap's own writers, Foxglove's through protobuf."""

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from layouts.truth import Truth

START = 1_700_000_000_000_000_000  # ns
_HEADER = """
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
TYPES = {
    "sensor_msgs/msg/CompressedImage": (
        f"std_msgs/Header header\nstring format\nuint8[] data{_HEADER}"
    ),
    "sensor_msgs/msg/Image": (
        "std_msgs/Header header\nuint32 height\nuint32 width\nstring encoding\n"
        f"uint8 is_bigendian\nuint32 step\nuint8[] data{_HEADER}"
    ),
    "sensor_msgs/msg/JointState": "std_msgs/Header header\nstring[] name\nfloat64[] position\n"
    f"float64[] velocity\nfloat64[] effort{_HEADER}",
    "std_msgs/msg/String": "string data\n",
    "geometry_msgs/msg/PoseStamped": "std_msgs/Header header\ngeometry_msgs/Pose pose\n"
    "================\nMSG: geometry_msgs/Pose\ngeometry_msgs/Point position\n"
    "geometry_msgs/Quaternion orientation\n================\nMSG: geometry_msgs/Point\n"
    "float64 x\nfloat64 y\nfloat64 z\n================\nMSG: geometry_msgs/Quaternion\n"
    f"float64 x\nfloat64 y\nfloat64 z\nfloat64 w{_HEADER}",
    "foxglove_msgs/msg/CompressedVideo": "builtin_interfaces/Time timestamp\nstring frame_id\n"
    f"uint8[] data\nstring format{_HEADER.partition('string frame_id')[2]}",
}

Message = tuple[str, str, int, dict[str, Any]]  # topic, type, log time in ns, content


def header(time: int) -> dict[str, Any]:
    return {"stamp": {"sec": time // 10**9, "nanosec": time % 10**9}, "frame_id": ""}


def write_ros2(path: Path, messages: list[Message], metadata: dict[str, str] | None = None) -> Path:
    """ROS 2 messages (cdr with ros2msg schemas), in the order of their log times."""
    from mcap_ros2.writer import Writer

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        writer = Writer(file, chunk_size=100_000)
        known: dict[str, Any] = {}
        for topic, kind, time, content in sorted(messages, key=lambda m: m[2]):
            if kind not in known:
                known[kind] = writer.register_msgdef(kind, TYPES[kind])
            writer.write_message(topic, known[kind], content, log_time=time)
        if metadata:
            writer.add_metadata("episode", metadata)
        writer.finish()
    return path


def jpeg(frame: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))[1].tobytes()


def raw(frame: np.ndarray, encoding: str = "rgb8", pad: int = 4) -> dict[str, Any]:
    """A raw picture with some bytes of padding at the end of each row."""
    pixels = frame if encoding == "rgb8" else frame[..., ::-1]
    rows = pixels.reshape(len(frame), -1)
    rows = np.concatenate([rows, np.full((len(rows), pad), 255, np.uint8)], axis=1)
    height, width = frame.shape[:2]
    sizes = {"height": height, "width": width, "step": rows.shape[1], "is_bigendian": 0}
    return {**sizes, "encoding": encoding, "data": rows.tobytes()}


def joints(values: np.ndarray, names: list[str] | None = None) -> dict[str, Any]:
    names = names or [f"joint{i}" for i in range(len(values))]
    return {"name": names, "position": values.tolist(), "velocity": [], "effort": []}


def messages_of(truth: Truth, rate: float) -> list[Message]:
    """A compressed and a raw camera, the second 4 ms late; joint states five times as often."""
    found: list[Message] = []
    period = round(1e9 / rate)
    for number, (camera, frames) in enumerate(truth.frames.items()):
        for k, frame in enumerate(frames):
            time = START + k * period + number * 4_000_000
            kind, content = "Image", raw(frame, ("rgb8", "bgr8")[k % 2])
            topic = f"/{camera}/image_raw"
            if number == 0:
                kind, topic = "CompressedImage", f"{topic}/compressed"
                content = {"format": "rgb8; jpeg compressed bgr8", "data": jpeg(frame)}
            found.append(
                (topic, f"sensor_msgs/msg/{kind}", time, {"header": header(time), **content})
            )
    for topic, rows in (("/joint_states", truth.state), ("/leader/joint_states", truth.action)):
        for k in range(5 * len(rows) - 4):
            row = rows[k // 5] + (0.0 if k % 5 == 0 else 0.001 * k)
            time = START + k * period // 5
            found.append(
                (topic, "sensor_msgs/msg/JointState", time, {"header": header(time), **joints(row)})
            )
    return found


def write_mcap(folder: Path, episodes: list[Truth]) -> Path:
    """One file an episode."""
    for i, truth in enumerate(episodes):
        metadata = {"task": truth.task} if truth.task else None
        write_ros2(folder / f"episode_{i}.mcap", messages_of(truth, truth.rate or 10), metadata)
    return folder


def h264(frames: np.ndarray) -> list[bytes]:
    """Annex B packets, one a frame, without B-frames."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
    codec.framerate, codec.thread_count = 10, 1
    codec.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "14", "g": "4"}
    packets = [p for f in frames for p in codec.encode(av.VideoFrame.from_ndarray(f, "rgb24"))]
    return [bytes(packet) for packet in [*packets, *codec.encode(None)]]


def write_foxglove(folder: Path, episodes: list[Truth]) -> Path:
    """Foxglove's CompressedVideo and a table of joints, as protobuf messages."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from mcap_protobuf.writer import Writer

    file = descriptor_pb2.FileDescriptorProto(
        name="foxglove.proto", package="foxglove", syntax="proto3"
    )
    for name, fields in {
        "CompressedVideo": [("frame_id", 9, 1), ("data", 12, 1), ("format", 9, 1)],
        "JointState": [("name", 9, 1), ("position", 1, 1)],
        "JointStates": [("joints", 11, 3)],
    }.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, label) in enumerate(fields, 1):
            inner = ".foxglove.JointState" if kind == 11 else None
            message.field.add(name=field, number=number, type=kind, label=label, type_name=inner)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    make = {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"foxglove.{name}"))
        for name in ("CompressedVideo", "JointState", "JointStates")
    }
    folder.mkdir(parents=True)
    for i, truth in enumerate(episodes):
        period = round(1e9 / (truth.rate or 10))
        with open(folder / f"episode_{i}.mcap", "wb") as stream, Writer(stream) as writer:
            packets = {camera: h264(frames) for camera, frames in truth.frames.items()}
            for k in range(len(truth.state)):
                time = START + k * period
                for camera, data in packets.items():
                    video = make["CompressedVideo"](data=data[k], format="h264")
                    writer.write_message(f"/{camera}/video", video, log_time=time)
                for topic, rows in (("/state", truth.state), ("/command", truth.action)):
                    joint = [
                        make["JointState"](name=f"j{n}", position=float(v))
                        for n, v in enumerate(rows[k])
                    ]
                    writer.write_message(topic, make["JointStates"](joints=joint), log_time=time)
            writer.finish()
    return folder
