"""TFRecord files and the tf.train.Example messages in them, read in place without TensorFlow.

A record is its length (8 bytes), the length's checksum (4), the message, and its checksum (4). The
file is mapped, so an episode of any size costs only the memory of the value that is looked at.
"""

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from motus_embodiments import DataError

_HEADER, _FOOTER = 12, 4
_BLOCK = 2**20  # bytes checked at once
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers
_KINDS = {1: "bytes", 2: "float", 3: "int64"}  # field numbers of tf.train.Feature


@dataclass(frozen=True)
class Feature:
    """One named list of an Example: bytes, float or int64.

    Attributes:
        kind: Which of the three.
        content: The serialised BytesList, FloatList or Int64List.
    """

    kind: str
    content: memoryview

    def blobs(self) -> list[memoryview]:
        """The values of a list of bytes, without a copy."""
        return [value for number, value in _fields(self.content) if number == 1]

    def numbers(self) -> np.ndarray:
        """The values of a list of floats (float32) or integers (int64)."""
        kind = np.dtype("<f4" if self.kind == "float" else "<i8")
        parts = [self._decoded(value) for number, value in _fields(self.content) if number == 1]
        return np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)

    def _decoded(self, value: memoryview) -> np.ndarray:
        if self.kind == "float":
            return np.frombuffer(value, "<f4")
        return _varints(np.frombuffer(value, np.uint8))


def record_starts(path: Path) -> list[tuple[int, int]]:
    """(offset, length) of the message of every record.

    Raises:
        DataError: The file is empty, cut short, or no TFRecord file.
    """
    found, size = list[tuple[int, int]](), path.stat().st_size
    with open(path, "rb") as file:
        while (at := file.tell()) < size:
            header = file.read(_HEADER)
            if len(header) < _HEADER or _masked_crc(header[:8]) != header[8:]:
                what = "is no TFRecord file" if at == 0 else f"is damaged at byte {at}"
                raise _damaged(path, what)
            length = int.from_bytes(header[:8], "little")
            if at + _HEADER + length + _FOOTER > size:
                raise _damaged(path, f"is cut short: record {len(found)} ends behind the file")
            found.append((at + _HEADER, length))
            file.seek(length + _FOOTER, 1)
    if not found:
        raise _damaged(path, "is empty")
    return found


@contextmanager
def opened_example(
    path: Path, offset: int, length: int, *, checked: bool = True
) -> Iterator[dict[str, Feature]]:
    """Name -> feature of the Example at `offset`; its values live as long as the context.

    Args:
        path: The TFRecord file.
        offset: Where the message begins, as `record_starts` says.
        length: Its bytes.
        checked: Whether to compare the checksum, which reads the whole record.

    Raises:
        DataError: The checksum is wrong, or the message is no tf.train.Example.
    """
    try:
        with open(path, "rb") as file:
            # Never closed by hand: it goes with the last view into it.
            whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if offset + length + _FOOTER > len(whole):
            raise _damaged(path, f"is cut short before byte {offset + length}")
        message = whole[offset : offset + length]
        stored = bytes(whole[offset + length : offset + length + _FOOTER])
        if checked and _masked_crc(message) != stored:
            raise _damaged(path, f"has a wrong checksum in the record at byte {offset}")
        yield _features(message)
    except (ValueError, struct.error) as error:
        raise _damaged(path, f"holds no tf.train.Example at byte {offset}: {error}") from error


def _features(message: memoryview) -> dict[str, Feature]:
    """Example {1: Features {1: repeated entry {1: name, 2: Feature}}}."""
    found: dict[str, Feature] = {}
    for _, features in _fields(message):
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            name, value = bytes(parts.get(1, b"")).decode(), parts.get(2, memoryview(b""))
            for number, content in _fields(value):
                if number not in _KINDS:
                    raise ValueError(f"feature '{name}' has the unknown kind {number}")
                found[name] = Feature(_KINDS[number], content)
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, content) of every field of a message; a number's content is its bytes."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        wire = key & 7
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire == _VARINT:
            length = _varint(message, at)[1] - at
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {wire}")
        if at + length > end:
            raise ValueError("a field ends behind its message")
        yield key >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number does not end")


def _varints(raw: np.ndarray) -> np.ndarray:
    """Decode packed varints, int64 [n]."""
    ends = np.flatnonzero(raw < 0x80)
    if len(raw) and (not len(ends) or ends[-1] != len(raw) - 1):
        raise ValueError("a packed number does not end")
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)[: len(ends)]
    lengths = ends - starts + 1
    if len(lengths) and lengths.max() > 10:
        raise ValueError("a packed number has more than 10 bytes")
    values = np.zeros(len(ends), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        has = lengths > place
        part = (raw[starts[has] + place] & 0x7F).astype(np.uint64)
        values[has] |= part << np.uint64(7 * place)
    return values.view(np.int64)


def _masked_crc(data: bytes | memoryview) -> bytes:
    """TensorFlow's masked CRC-32C, little endian (tensorflow/core/lib/hash/crc32c.h)."""
    crc = 0
    for start in range(0, len(data), _BLOCK):
        crc = google_crc32c.extend(crc, bytes(data[start : start + _BLOCK]))
    rotated = ((crc >> 15) | (crc << 17)) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"{path} {what}",
        hint="copy the file again, or leave it out with --skip-bad",
        where=str(path),
    )
