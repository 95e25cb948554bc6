"""MCAP recordings of ROS 2 or Foxglove: one file an episode, brought to a fixed rate.

Topics tick at rates of their own. The grid has the rate of the slowest camera (without cameras,
of the slowest joint state; a whole number if it is within 2 % of one), begins when the last of the
cameras and joint states has begun and ends when the first of them ends. Each row takes from each
topic the message whose log_time is nearest; nothing is interpolated.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from motus_adapters.readers.base import ColumnMap, EpisodeFile, OnBad, natural_key, walk
from motus_adapters.readers.mcap_file import MAGIC, Bag, Encoded, Topic, opened
from motus_adapters.readers.mcap_messages import (
    colour_problem,
    is_joint_state,
    joint_names,
    numbers,
    picture_kind,
    pictures,
    stamp,
)
from motus_embodiments import DataError

_GAP = 0.2  # s without a message (or three periods, if that is longer) are a hole in a recording
_CLOCK = 10  # s; stamps further from log_time are of another clock
_TRANSPORT = re.compile(
    r"(/(compressed(_?video)?|image(_raw|_color|_rect|_rect_color)?|color|rgb|video))+$"
)
_COMMANDED = re.compile("command|action|leader|master|target|desired|goal|cmd", re.IGNORECASE)
_TASK = re.compile("task|instruction|prompt", re.IGNORECASE)
_KINDS = ("compressed", "video", "raw")  # which transport of a camera is read, if there are more


class McapReader:
    """Files `*.mcap` with cameras (images, compressed images, CompressedVideo) and joint states.

    ROS 2 messages (cdr with ros2msg schemas) and protobuf messages are read.
    """

    name = "mcap"
    looked_for = "*.mcap files with image or joint state topics (ROS 2, Foxglove)"

    def detect(self, path: Path) -> bool:
        """Whether it is, or holds, an MCAP file."""
        return bool(_files(path))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """One episode a file, in numeric order."""
        found: list[EpisodeFile] = []
        for file in _files(path):
            name = file.stem if path.is_file() else str(file.relative_to(path).with_suffix(""))
            try:
                with opened(file) as bag:
                    found.append(_describe(bag, name, _split_bag(file)))
            except DataError as error:
                if on_bad is None:
                    raise
                on_bad(name, error)
        return found


@dataclass(frozen=True)
class McapEpisode:
    """One file.

    Attributes:
        start: Log time of the first row, in ns.
        rate: Rows a second.
        topics: (camera or column's topic as we call it, topic as published).
    """

    path: Path
    name: str
    start: int
    rate: float
    num_frames: int
    topics: tuple[tuple[str, str], ...]
    cameras: tuple[str, ...]
    columns: tuple[str, ...]
    defaults: ColumnMap
    warnings: tuple[str, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    def column(self, name: str) -> np.ndarray:
        """One field of a topic's messages, [T, n]."""
        topic, field = self._split(name)
        with opened(self.path) as bag:
            rows: list[np.ndarray] = []
            order: tuple[str, ...] = ()
            for repeats, encoded in self._nearest(bag, topic):
                message = encoded.decoded()
                order = order or joint_names(message)
                row = _in_order(numbers(message).get(field, np.zeros(0)), message, order)
                if rows and row.shape != rows[0].shape:
                    raise ValueError(f"'{name}' has {len(rows[0])} numbers, then {len(row)}")
                rows += [row] * repeats
            return np.stack(rows)

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The frames of a camera."""
        topic = dict(self.topics)[camera]
        with opened(self.path) as bag:
            found = next(t for t in bag.topics() if t.name == topic)
            kind = picture_kind(found.schema) or ""
            wanted = _nearest(found.times, self._grid())
            needed = set(wanted.tolist())
            messages = (
                (index, encoded.decoded())
                for index, encoded in enumerate(bag.messages(found))
                if kind == "video" or index in needed  # a video's frames hang together
            )
            row = 0
            for index, picture in pictures(kind, messages):
                if row < len(wanted) and wanted[row] < index:
                    raise ValueError(f"'{camera}' has no picture in message {wanted[row]}")
                while row < len(wanted) and wanted[row] == index:
                    yield picture
                    row += 1
                if row == len(wanted):
                    return
            raise ValueError(f"'{camera}' ends after {row} of {len(wanted)} frames")

    def _grid(self) -> np.ndarray:
        return self.start + np.rint(np.arange(self.num_frames) * 1e9 / self.rate).astype(np.int64)

    def _split(self, column: str) -> tuple[str, str]:
        """(topic as published, field) of a column; the longest fitting name counts."""
        fitting = [(n, t) for n, t in self.topics if column.startswith(f"{n}/")]
        name, topic = max(fitting, key=lambda pair: len(pair[0]))
        return topic, column[len(name) + 1 :]

    def _nearest(self, bag: Bag, topic: str) -> Iterator[tuple[int, Encoded]]:
        """(rows it is for, message) of every message that a row takes."""
        found = next(t for t in bag.topics() if t.name == topic)
        counts = np.bincount(_nearest(found.times, self._grid()), minlength=len(found.times))
        for index, encoded in enumerate(bag.messages(found)):
            if counts[index]:
                yield int(counts[index]), encoded


def _files(path: Path) -> list[Path]:
    if path.is_file():
        with open(path, "rb") as file:
            return [path] if path.suffix == ".mcap" or file.read(len(MAGIC)) == MAGIC else []
    found = (p for p in walk(path) if p.suffix == ".mcap" and p.is_file())
    return sorted(found, key=lambda p: natural_key(p.relative_to(path)))


def _nearest(times: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Index of the time nearest to each point of the grid; the earlier one of two."""
    after = np.clip(np.searchsorted(times, grid), 1, max(1, len(times) - 1))
    before = after - 1
    after = np.minimum(after, len(times) - 1)
    return np.where(times[after] - grid < grid - times[before], after, before)


def _in_order(row: np.ndarray, message: Any, order: tuple[str, ...]) -> np.ndarray:
    """A joint state's numbers in the order of the first message's joints."""
    names = joint_names(message)
    if names == order or len(row) != len(names):
        return row
    if sorted(names) != sorted(order):
        raise ValueError(f"the joints are {', '.join(names)}, before {', '.join(order)}")
    return row[[names.index(name) for name in order]]


def _split_bag(file: Path) -> list[str]:
    """A remark, if rosbag2 has cut one recording into several files."""
    beside = file.parent / "metadata.yaml"
    parts = list(file.parent.glob("[!.]*.mcap")) if beside.is_file() else []
    told = f"{file.parent.name} is one bag in {len(parts)} files; each is taken for an episode"
    return [told] if len(parts) > 1 else []


def _describe(bag: Bag, name: str, warnings: list[str]) -> McapEpisode:
    topics = bag.topics()
    firsts, strange = _first_messages(bag, topics)
    cameras, notes = _cameras(topics, firsts)
    joints = [t for t in topics if is_joint_state(t.schema) and t.name in firsts]
    start, rate, count = _timing(
        bag.path, [*cameras.values()] or joints, [*cameras.values(), *joints]
    )
    columns, plain = list[str](), list[Topic]()
    for topic in topics:
        if topic.name in firsts and picture_kind(topic.schema) is None:
            fields = numbers(firsts[topic.name][1])
            columns += [f"{topic.name.lstrip('/')}/{field}" for field in fields]
            plain += [topic] if fields else []
    for topic in [*cameras.values(), *joints]:
        lag = _lag(*firsts[topic.name])
        if lag is not None and lag > 1 / rate:
            notes.append(f"'{topic.name}' is logged {lag:.3f} s after its stamp; log_time is taken")
    for topic in joints:
        order = ", ".join(joint_names(firsts[topic.name][1]))
        notes.append(f"'{topic.name}' has its joints in the order {order}")
    named = [(camera, topic.name) for camera, topic in cameras.items()]
    return McapEpisode(
        path=bag.path,
        name=name,
        start=start,
        rate=rate,
        num_frames=count,
        topics=(*named, *((topic.name.lstrip("/"), topic.name) for topic in plain)),
        cameras=tuple(cameras),
        columns=tuple(columns),
        defaults=_defaults(joints, columns, rate, _task(bag, firsts)),
        warnings=(*warnings, *strange, *notes),
    )


def _first_messages(bag: Bag, topics: list[Topic]) -> tuple[dict[str, tuple[int, Any]], list[str]]:
    """Topic -> (log time, content) of its first message, and what cannot be decoded."""
    firsts: dict[str, tuple[int, Any]] = {}
    strange = []
    for topic in topics:
        if topic.encoding not in ("cdr", "protobuf"):
            strange.append(f"{topic.name} ({topic.encoding})")
            continue
        encoded = next(bag.messages(topic))
        firsts[topic.name] = (encoded.log_time, encoded.decoded())
    return firsts, [f"left out: topics {', '.join(strange)}"] if strange else []


def _cameras(
    topics: list[Topic], firsts: dict[str, tuple[int, Any]]
) -> tuple[dict[str, Topic], list[str]]:
    """Camera -> topic, named without the transport; of two transports one is read."""
    found: dict[str, Topic] = {}
    notes = []
    views = [t for t in topics if picture_kind(t.schema) and t.name in firsts]
    for topic in sorted(views, key=lambda t: _KINDS.index(picture_kind(t.schema) or "raw")):
        problem = colour_problem(picture_kind(topic.schema) or "", firsts[topic.name][1])
        camera = _TRANSPORT.sub("", topic.name).strip("/") or topic.name.strip("/")
        if problem:
            notes.append(f"'{topic.name}' is no colour view and is left out: {problem}")
        elif camera in found:
            notes.append(f"'{topic.name}' is left out: '{found[camera].name}' is the same camera")
        else:
            found[camera] = topic
    return dict(sorted(found.items())), notes


def _timing(path: Path, leading: list[Topic], used: list[Topic]) -> tuple[int, float, int]:
    """(log time of the first row in ns, rate, rows) of the grid.

    Raises:
        DataError: There is nothing to take the rate from, or a topic has a hole.
    """
    usable = [topic for topic in leading if len(topic.times) > 1]
    periods = [_period(topic.times) for topic in usable]
    if not periods or min(periods) <= 0 or len(usable) < len(leading):
        raise DataError(
            f"{path} has no camera and no joint state with two messages at two times",
            hint="leave it out with --skip-bad",
            where=str(path),
        )
    rate = 1e9 / max(periods)
    whole = round(rate)
    rate = float(whole) if whole and abs(rate / whole - 1) < 0.02 else round(rate, 3)
    start = max(int(topic.times[0]) for topic in used)
    stop = min(int(topic.times[-1]) for topic in used)
    count = int(np.floor((stop - start) * rate / 1e9 + 0.5)) + 1
    if stop < start:
        raise DataError(
            f"{path}: its cameras and joint states never run at the same time",
            hint="leave it out with --skip-bad",
            where=str(path),
        )
    for topic in used:
        inside = topic.times[(topic.times >= start - 1e9) & (topic.times <= stop + 1e9)]
        steps = np.diff(inside) / 1e9
        if len(steps) and steps.max() > max(_GAP, 3 / rate):
            at = (int(inside[steps.argmax()]) - start) / 1e9
            raise DataError(
                f"{path}: '{topic.name}' has no message for {steps.max():.2f} s after {at:.2f} s",
                hint="the recording has a hole; leave it out with --skip-bad",
                where=str(path),
            )
    return start, rate, count


def _period(times: np.ndarray) -> float:
    """In ns; neither jitter (which bends a median) nor lost messages (which bend a mean) count."""
    steps = np.diff(times)
    middle = float(np.median(steps))
    return float(steps.sum() / np.rint(steps / middle).sum()) if middle > 0 else 0.0


def _lag(log_time: int, message: Any) -> float | None:
    """Seconds from a message's own stamp to its logging, if both are of one clock."""
    made = stamp(message)
    lag = None if made is None else (log_time - made) / 1e9
    return lag if lag is not None and abs(lag) < _CLOCK else None


def _task(bag: Bag, firsts: dict[str, tuple[int, Any]]) -> str | None:
    """From metadata records, or from a topic of text, whose name speaks of a task."""
    told = [value for key, value in bag.metadata().items() if _TASK.search(key) and value.strip()]
    for name, (_, message) in firsts.items():
        text = getattr(message, "data", None)
        if _TASK.search(name) and isinstance(text, str) and text.strip():
            told.append(text.strip())
    return told[0] if told else None


def _defaults(joints: list[Topic], columns: list[str], rate: float, task: str | None) -> ColumnMap:
    """Positions of joint states, told apart by the names of their topics."""
    positions: dict[bool, list[str]] = {False: [], True: []}
    for topic in joints:
        short = topic.name.lstrip("/")
        fields = (f"{short}/position", f"{short}/joints/position")
        column = next((field for field in fields if field in columns), None)
        if column is not None:
            positions[_COMMANDED.search(topic.name) is not None].append(column)
    return ColumnMap(
        state=tuple(positions[False]) or None,
        action=tuple(positions[True]) or None,
        action_kind="joint_position" if positions[True] else None,
        rate=rate,
        task=task,
    )
