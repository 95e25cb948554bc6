"""RLDS folders as TFDS writes them, made with protobuf and without TensorFlow.

tensorflow/core/example/{example,feature}.proto, tensorflow_datasets core/example_serializer.py.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from layouts.truth import Truth

_TYPES = {"bytes": 12, "float": 2, "int64": 3, "message": 11}  # FieldDescriptorProto.Type


def _message(file: Any, name: str, *fields: tuple[str, str, bool, str]) -> Any:
    message = file.message_type.add(name=name)
    for number, (field, kind, repeated, type_name) in enumerate(fields, 1):
        message.field.add(
            name=field,
            number=number,
            type=_TYPES[kind],
            label=3 if repeated else 1,
            type_name=type_name or None,
        )
    return message


def _example_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")
    for kind in ("bytes", "float", "int64"):
        _message(file, f"{kind.title()}List", ("value", kind, True, ""))
    lists = [
        (f"{k}_list", "message", False, f".tf.{k.title()}List") for k in _TYPES if k != "message"
    ]
    _message(file, "Feature", *lists)
    features = _message(file, "Features", ("feature", "message", True, ".tf.Features.Entry"))
    entry = features.nested_type.add(name="Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, label=1, type_name=".tf.Feature")
    _message(file, "Example", ("features", "message", False, ".tf.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))


Example = _example_class()


def write_records(path: Path, examples: list[dict[str, Any]]) -> None:
    """A TFRecord file; a value is a list of bytes, or an array of floats or whole numbers."""
    with open(path, "wb") as file:
        for values in examples:
            example = Example()
            for name, value in values.items():
                feature = example.features.feature[name]
                if isinstance(value, list):
                    feature.bytes_list.value.extend(value)
                elif value.dtype.kind == "f":
                    feature.float_list.value.extend(value.ravel().tolist())
                else:
                    feature.int64_list.value.extend(value.ravel().astype(int).tolist())
            message = example.SerializeToString(deterministic=True)
            length = struct.pack("<Q", len(message))
            file.write(length + _masked(length) + message + _masked(message))


def _masked(data: bytes) -> bytes:
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32)


def tensor(shape: tuple[int, ...], dtype: str, encoding: str = "none") -> dict[str, Any]:
    """A tensor's entry in features.json."""
    dimensions = {"dimensions": [str(n) for n in shape]} if shape else {}
    return {"tensor": {"shape": dimensions, "dtype": dtype, "encoding": encoding}}


def image(height: int, width: int, encoding: str = "jpeg") -> dict[str, Any]:
    """A picture's entry in features.json."""
    shape = {"dimensions": [str(height), str(width), "3"]}
    return {"image": {"shape": shape, "dtype": "uint8", "encodingFormat": encoding}}


def table(features: dict[str, Any]) -> dict[str, Any]:
    """A FeaturesDict's entry in features.json."""
    return {"pythonClassName": "FeaturesDict", "featuresDict": {"features": features}}


def write_folder(
    folder: Path, name: str, steps: dict[str, Any], examples: list[dict[str, Any]], shards: int = 2
) -> Path:
    """features.json, dataset_info.json and the shards."""
    folder.mkdir(parents=True)
    schema = {"sequence": {"feature": table(steps), "length": "-1"}}
    metadata = table({"file_path": {"text": {}}})
    (folder / "features.json").write_text(
        json.dumps(table({"steps": schema, "episode_metadata": metadata}))
    )
    parts = [list(part) for part in np.array_split(np.arange(len(examples)), shards)]
    split = {"name": "train", "shardLengths": [str(len(part)) for part in parts]}
    info = {"name": name, "version": "1.0.0", "fileFormat": "tfrecord", "splits": [split]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for i, part in enumerate(parts):
        file = folder / f"{name}-train.tfrecord-{i:05d}-of-{shards:05d}"
        write_records(file, [examples[int(k)] for k in part])
    return folder


def encoded(frames: np.ndarray, suffix: str) -> list[bytes]:
    """True RGB pictures, as TFDS stores them."""
    swapped = (cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) for frame in frames)
    return [cv2.imencode(suffix, frame)[1].tobytes() for frame in swapped]


def _flags(count: int) -> dict[str, np.ndarray]:
    return {
        "steps/is_first": np.arange(count) == 0,
        "steps/is_last": np.arange(count) == count - 1,
    }


_SCALARS = {"is_first": tensor((), "bool"), "is_last": tensor((), "bool")}


def write_droid(folder: Path, episodes: list[Truth], shards: int = 2) -> Path:
    """DROID 1.0.1: joint positions and gripper (0 open, 1 closed), float64, JPEG views."""
    height, width = next(iter(episodes[0].frames.values())).shape[1:3]
    joints = {
        "joint_position": tensor((7,), "float64"),
        "gripper_position": tensor((1,), "float64"),
    }
    steps = {
        **_SCALARS,
        "language_instruction": {"text": {}},
        "language_instruction_2": {"text": {}},
        "action": tensor((7,), "float64"),
        "action_dict": table(joints),
        "observation": table({**joints, **{c: image(height, width) for c in episodes[0].frames}}),
    }
    examples = []
    for truth in episodes:
        count = len(truth.state)
        values: dict[str, Any] = _flags(count)
        values["episode_metadata/file_path"] = [b"/r2d2/success/trajectory.h5"]
        values["steps/language_instruction"] = [b""] * count
        values["steps/language_instruction_2"] = [str(truth.task or "").encode()] * count
        values["steps/action"] = np.zeros((count, 7), np.float32)
        for place, rows in (("observation", truth.state), ("action_dict", truth.action)):
            values[f"steps/{place}/joint_position"] = rows[:, :7]
            values[f"steps/{place}/gripper_position"] = rows[:, 7:]
        for camera, frames in truth.frames.items():
            values[f"steps/observation/{camera}"] = encoded(frames, ".jpg")
        examples.append(values)
    return write_folder(folder, "droid", steps, examples, shards)


def write_bridge(folder: Path, episodes: list[Truth]) -> Path:
    """bridge_dataset: state and action of seven, lossless views, one of them a black dummy."""
    height, width = next(iter(episodes[0].frames.values())).shape[1:3]
    views = {camera: image(height, width, "png") for camera in episodes[0].frames}
    observation = {
        **views,
        "image_9": image(height, width),
        "state": tensor((7,), "float32", "zlib"),
    }
    steps = {
        **_SCALARS,
        "language_instruction": {"text": {}},
        "action": tensor((7,), "float32"),
        "observation": table(observation),
    }
    examples = []
    for truth in episodes:
        count = len(truth.state)
        black = np.zeros((count, height, width, 3), np.uint8)
        values: dict[str, Any] = _flags(count)
        values["steps/language_instruction"] = [str(truth.task or "").encode()] * count
        values["steps/action"] = truth.action
        values["steps/observation/state"] = [zlib.compress(r.tobytes()) for r in truth.state]
        values["steps/observation/image_9"] = encoded(black, ".jpg")
        for camera, frames in truth.frames.items():
            values[f"steps/observation/{camera}"] = encoded(frames, ".png")
        examples.append(values)
    return write_folder(folder, "bridge_dataset", steps, examples)
