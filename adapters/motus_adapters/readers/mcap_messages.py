"""What a ROS 2 or protobuf message holds: a picture, or named lists of numbers."""

from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np

# Type of message, without package and case of its words -> what it is.
_PICTURES = {
    "CompressedImage": "compressed",
    "Image": "raw",
    "RawImage": "raw",
    "CompressedVideo": "video",
}
_WIDEST = 4096  # numbers; more are a point cloud or the like
_STAMPS = ("header", "timestamp", "stamp", "frame_id", "layout")
_CODECS = {"h264": "h264", "h265": "hevc", "hevc": "hevc", "vp9": "vp9", "av1": "libdav1d"}
# Encoding of a raw picture -> (bytes a pixel, conversion to RGB).
_RAW = {
    "rgb8": (3, None),
    "8UC3": (3, cv2.COLOR_BGR2RGB),
    "bgr8": (3, cv2.COLOR_BGR2RGB),
    "rgba8": (4, cv2.COLOR_RGBA2RGB),
    "bgra8": (4, cv2.COLOR_BGRA2RGB),
    "mono8": (1, cv2.COLOR_GRAY2RGB),
    "8UC1": (1, cv2.COLOR_GRAY2RGB),
    "yuyv": (2, cv2.COLOR_YUV2RGB_YUYV),
    "yuv422_yuy2": (2, cv2.COLOR_YUV2RGB_YUYV),
    "uyvy": (2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422": (2, cv2.COLOR_YUV2RGB_UYVY),
}


def picture_kind(schema: str) -> str | None:
    """compressed, raw or video for a type of picture, by the last part of its name."""
    return _PICTURES.get(schema.replace(".", "/").rpartition("/")[2])


def is_joint_state(schema: str) -> bool:
    """Whether a type of message has joint positions by name."""
    return schema.replace(".", "/").rpartition("/")[2] in ("JointState", "JointStates")


def colour_problem(kind: str, message: Any) -> str | None:
    """Why a picture's message is no colour view that can be read; None if it is one."""
    told = str(message.encoding if kind == "raw" else message.format)
    if kind == "raw" and told not in _RAW:
        return f"encoding '{told}'"
    if kind == "video" and told.lower() not in _CODECS:
        return f"format '{told}'"
    if "compressedDepth" in told or told.startswith(("16UC1", "32FC1")):
        return f"depth, format '{told}'"
    return None


def stamp(message: Any) -> int | None:
    """When a message says it was made, in ns; None where it does not say."""
    header = getattr(message, "header", message)
    time = getattr(header, "stamp", getattr(header, "timestamp", None))
    seconds = getattr(time, "sec", getattr(time, "seconds", None))
    parts = getattr(time, "nanosec", getattr(time, "nanos", 0))
    return None if not seconds else int(seconds) * 10**9 + int(parts)


def pictures(kind: str, messages: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, np.ndarray]]:
    """(number, uint8 RGB [h, w, 3]) of numbered messages; numbers increase.

    Raises:
        ValueError: A message is no picture.
    """
    if kind == "video":
        yield from _from_video(messages)
        return
    for number, message in messages:
        yield number, _raw(message) if kind == "raw" else _unpacked(message)


def numbers(message: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Name -> float64 [n] of every field that is a number, a list of numbers, or made of them.

    A point's x, y, z are one list; a list of messages gives one list for each of their fields.
    """
    found: dict[str, np.ndarray] = {}
    for name, value in _fields(message):
        path = f"{prefix}{name}"
        if name in _STAMPS or isinstance(value, str | bytes):
            continue
        if not _is_message(value):
            if not np.isscalar(value) and len(value) > _WIDEST:
                continue
            parts = [value] if np.isscalar(value) else list(value)
            if parts and all(_is_message(part) for part in parts):
                tables = [numbers(part, f"{path}/") for part in parts]
                for key in tables[0]:
                    found[key] = np.concatenate([t.get(key, np.zeros(0)) for t in tables])
            elif parts and not any(isinstance(part, str | bytes) for part in parts):
                found[path] = np.asarray(parts, np.float64)
            continue
        below = list(_fields(value))
        if below and all(isinstance(v, bool | int | float) for _, v in below):
            found[path] = np.asarray([v for _, v in below], np.float64)
        else:
            found |= numbers(value, f"{path}/")
    return found


def joint_names(message: Any) -> tuple[str, ...]:
    """Names of a joint state's joints in the order of its numbers; () where it has none."""
    names = getattr(message, "name", None)
    if names is None:
        names = [getattr(joint, "name", "") for joint in getattr(message, "joints", ())]
    return () if isinstance(names, str) else tuple(str(name) for name in names)


def _is_message(value: Any) -> bool:
    return isinstance(value, SimpleNamespace) or hasattr(value, "DESCRIPTOR")


def _fields(message: Any) -> list[tuple[str, Any]]:
    described = getattr(message, "DESCRIPTOR", None)
    names = [f.name for f in described.fields] if described is not None else message.__slots__
    return [(name, getattr(message, name)) for name in names]


def _unpacked(message: Any) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(bytes(message.data), np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"a message of format '{message.format}' is no picture")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _raw(message: Any) -> np.ndarray:
    width, conversion = _RAW[str(message.encoding)]
    rows = np.frombuffer(bytes(message.data), np.uint8).reshape(message.height, message.step)
    pixels = np.ascontiguousarray(rows[:, : message.width * width])  # rows may be padded
    image = pixels.reshape(message.height, message.width, width)
    return image if conversion is None else cv2.cvtColor(image, conversion)


def _from_video(messages: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, np.ndarray]]:
    """One packet a message; the time stamp of a packet carries its number through the decoder."""
    decoder, begun = None, False
    for number, message in messages:
        if decoder is None:
            decoder = av.CodecContext.create(_CODECS[str(message.format).lower()], "r")
            decoder.thread_count = 1
        packet = av.Packet(bytes(message.data))
        packet.pts = packet.dts = number
        try:
            frames = decoder.decode(packet)
        except av.FFmpegError:
            if begun:
                raise
            continue  # a recording may begin between two key frames
        begun = begun or bool(frames)
        for frame in frames:
            yield frame.pts, frame.to_ndarray(format="rgb24")
    for frame in decoder.decode(None) if decoder is not None else ():
        yield frame.pts, frame.to_ndarray(format="rgb24")
