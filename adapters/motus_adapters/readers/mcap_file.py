"""An MCAP file: its topics, when their messages were logged, and the messages decoded."""

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from motus_embodiments import DataError, MissingError

if TYPE_CHECKING:
    from mcap.decoder import DecoderFactory
    from mcap.reader import SeekingReader
    from mcap.records import Channel, Message, Schema
    from mcap.summary import Summary

MAGIC = b"\x89MCAP0\r\n"
_LARGEST = 2**30  # bytes of a record, and of a chunk when unpacked


@dataclass(frozen=True)
class Topic:
    """One topic of a file.

    Attributes:
        name: As published, with its slash.
        schema: Name of its messages' type, such as sensor_msgs/msg/JointState.
        encoding: Of its messages: cdr, protobuf, json...
        times: When its messages were logged, int64 [n] in ns, in order.
    """

    name: str
    schema: str
    encoding: str
    times: np.ndarray


@dataclass(frozen=True)
class Bag:
    """An open file."""

    path: Path
    reader: "SeekingReader"
    decoders: "tuple[DecoderFactory, ...]"
    summary: "Summary"
    stream: IO[bytes]

    def topics(self) -> list[Topic]:
        """All topics that have messages, in order of their names; no message is unpacked."""
        times = self._times()
        found: dict[str, Topic] = {}
        for number, channel in sorted(self.summary.channels.items()):
            schema = self.summary.schemas.get(channel.schema_id)
            logged = times.get(number, [])
            if channel.topic in found:
                logged = [*found[channel.topic].times.tolist(), *logged]
            if logged:
                found[channel.topic] = Topic(
                    channel.topic,
                    schema.name if schema else "",
                    channel.message_encoding,
                    np.sort(np.asarray(logged, np.int64)),
                )
        return [found[name] for name in sorted(found)]

    def messages(self, topic: Topic) -> Iterator["Encoded"]:
        """The messages of a topic in the order of their log times.

        Raises:
            DataError: They are not those of the index, which bears no checksum of its own.
        """
        count = 0
        for schema, channel, message in self.reader.iter_messages([topic.name]):
            if count == len(topic.times) or message.log_time != topic.times[count]:
                raise _damaged(self.path, f"has a damaged index of '{topic.name}'")
            count += 1
            yield Encoded(self.decoders, schema, channel, message)
        if count != len(topic.times):
            raise _damaged(self.path, f"has a damaged index of '{topic.name}'")

    def metadata(self) -> dict[str, str]:
        """All metadata records in one table."""
        records = self.reader.iter_metadata()
        return {key: value for record in records for key, value in record.metadata.items()}

    def _times(self) -> dict[int, list[int]]:
        """Channel -> log times, from the index; a file without chunks has none and is gone over."""
        from mcap.data_stream import ReadDataStream
        from mcap.records import MessageIndex

        times: dict[int, list[int]] = {}
        for chunk in self.summary.chunk_indexes:
            if chunk.uncompressed_size > _LARGEST:
                raise _damaged(self.path, f"has a chunk of {chunk.uncompressed_size} bytes")
            for offset in chunk.message_index_offsets.values():
                self.stream.seek(offset + 9)  # behind the record's opcode and length
                index = MessageIndex.read(ReadDataStream(self.stream))
                times.setdefault(index.channel_id, []).extend(time for time, _ in index.records)
        if not self.summary.chunk_indexes:
            for _, channel, message in self.reader.iter_messages():
                times.setdefault(channel.id, []).append(message.log_time)
        stated = self.summary.statistics
        counts = stated.channel_message_counts if stated is not None else {}
        if any(len(times.get(channel, ())) != count for channel, count in counts.items()):
            raise _damaged(self.path, "has an index of other messages than its statistics")
        return times


@dataclass(frozen=True)
class Encoded:
    """A message that is decoded when its content is asked for."""

    decoders: "tuple[DecoderFactory, ...]"
    schema: "Schema | None"
    channel: "Channel"
    message: "Message"

    @property
    def log_time(self) -> int:
        """When it was logged, in ns."""
        return int(self.message.log_time)

    def decoded(self) -> Any:
        """Its content: fields of a ROS 2 message, or a protobuf message."""
        for factory in self.decoders:
            decode = factory.decoder_for(self.channel.message_encoding, self.schema)
            if decode is not None:
                return decode(self.message.data)
        raise ValueError(f"no decoder for '{self.channel.message_encoding}' messages")


@contextmanager
def opened(path: Path) -> Iterator[Bag]:
    """A file open for reading.

    Raises:
        MissingError: The package mcap, or one that decodes the messages, is not installed.
        DataError: The file has no index, or is damaged, on opening or later.
    """
    try:
        from mcap.reader import SeekingReader
        from mcap_protobuf.decoder import DecoderFactory as Protobuf
        from mcap_ros2.decoder import DecoderFactory as Ros2
    except ImportError as error:
        raise MissingError(
            f"reading {path} needs the package '{(error.name or 'mcap').split('.')[0]}'",
            hint="pip install 'motus-cli[formats]'",
            where=str(path),
        ) from error
    try:
        with open(path, "rb") as stream:
            reader = SeekingReader(stream, validate_crcs=True, record_size_limit=_LARGEST)
            summary = reader.get_summary()
            if summary is None:
                raise _damaged(path, "has no summary: the recorder was stopped half-way")
            _check_summary(path, stream)
            yield Bag(path, reader, (Ros2(), Protobuf()), summary, stream)
    except (DataError, MissingError, GeneratorExit):
        raise
    except Exception as error:  # struct, zstandard, lz4, the decoders: no common error type
        reason = str(error) or type(error).__name__
        raise _damaged(path, f"cannot be read as MCAP: {reason}") from error


def _check_summary(path: Path, stream: IO[bytes]) -> None:
    """Compare the summary with its checksum: messages that the index lacks would not be missed.

    It ends with the footer's fields: where it starts, where its offsets start, and the CRC of all
    before (MCAP specification, "Footer"). 0 stands for no checksum.
    """
    end = stream.seek(-len(MAGIC) - 20, os.SEEK_END)
    start, _, stated = struct.unpack("<QQI", stream.read(20))
    stream.seek(start)
    if stated and zlib.crc32(stream.read(max(0, end + 16 - start))) != stated:
        raise _damaged(path, "has a damaged summary")


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"{path} {what}",
        hint="try `mcap recover`, copy it again, or leave it out with --skip-bad",
        where=str(path),
    )
