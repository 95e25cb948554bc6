"""The messages: msgpack with numpy arrays, as openpi's client writes and reads them.

An array is a map of `__ndarray__`, `data`, `dtype` and `shape`, a scalar one of `__npgeneric__`,
`data` and `dtype`, all keys bytes. What comes in is read with limits on everything that a few
bytes could blow up: nesting, counts, sizes, dtypes.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np

from motus_adapters.deployment.chunking import Overlap
from motus_adapters.serving.actor import Query
from motus_embodiments import DataError, MotusError, nearest

MOST_ENTRIES = 1024  # of one list or map
MOST_CONTAINERS = 256  # lists and maps of one message; a query has about ten
LONGEST_TEXT = 4096  # bytes
LONGEST_TOLD = 500  # characters of an error that is sent back
PLAIN_DTYPE = re.compile(r"[<>|=]?[buif][1248]")
KEYS = (
    "images",
    "state",
    "prompt",
    "seed",
    "stamps",
    "rate",
    "previous",
    "delay",
    "chunking",
)


class GarbageError(DataError):
    """What was sent is no message at all."""

    code = "garbage"


def pack(message: Mapping[str, Any]) -> bytes:
    """A message of plain values and numpy arrays."""
    packed: bytes = msgpack.packb(message, default=_pack_numpy)
    return packed


def unpack(message: bytes | str) -> Any:
    """Read a message from someone unknown.

    Raises:
        GarbageError: When it is no msgpack, or more than the limits.
    """
    if isinstance(message, str):
        raise GarbageError("a query is a binary message, not a text")
    return _Reader(message).read()


def pack_error(error: MotusError) -> str:
    """An error as a text message, which openpi's client raises as a RuntimeError."""
    told = {"code": error.code, "message": error.message[:LONGEST_TOLD], "hint": error.hint}
    return json.dumps({"error": told})


def query_of(message: Any, seed: int) -> Query:
    """The query that an unpacked message is.

    Args:
        message: `images`, `state` and, as far as needed, the other `KEYS`.
        seed: Where the message has none.

    Raises:
        DataError: Names the first key that is missing, unknown, or of another kind.
    """
    if not isinstance(message, dict):
        raise DataError(f"a query is a map, not {_kind(message)}")
    for key in message:
        if key not in KEYS:
            shown = str(key[:40])  # a key may be megabytes
            raise DataError(f"unknown key '{shown}' in the query", hint=nearest(shown, KEYS))
    images = _required(message, "images")
    if not isinstance(images, dict) or not all(isinstance(name, str) for name in images):
        raise DataError(f"'images' is a map of camera names to pictures, not {_kind(images)}")
    return Query(
        images={name: _picture(name, image) for name, image in images.items()},
        state=_numbers("state", _required(message, "state"), 1),
        instruction=_typed(message, "prompt", str, ""),
        seed=_natural(message, "seed", seed),
        overlap=_overlap(message),
        stamps=_stamps(message.get("stamps")),
        rate=None if message.get("rate") is None else _number("rate", message["rate"]),
    )


def _overlap(message: dict[str, Any]) -> Overlap | None:
    if message.get("previous") is None:
        for key in ("delay", "chunking"):
            if key in message:
                raise DataError(f"'{key}' says nothing without 'previous'")
        return None
    return Overlap(
        _numbers("previous", message["previous"], 2),
        _natural(message, "delay", 0),
        _typed(message, "chunking", str, "guide"),
    )


def _stamps(value: Any) -> dict[str, float] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not value:
        raise DataError(f"'stamps' is a map of names to seconds, not {_kind(value)}")
    return {str(name): _number(f"stamps.{name}", stamp) for name, stamp in value.items()}


def _number(name: str, value: Any) -> float:
    number = float(_numbers(name, value, 0))
    if not math.isfinite(number):
        raise DataError(f"'{name}' is {number}")
    return number


def _picture(name: str, image: Any) -> np.ndarray:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.dtype != np.uint8:
        raise DataError(f"camera '{name}' gives {_kind(image)}, not uint8 [height, width, 3]")
    # openpi's own robots send channels first.
    if image.shape[0] == 3 and image.shape[2] != 3:
        image = np.ascontiguousarray(image.transpose(1, 2, 0))
    return image


def _numbers(name: str, value: Any, dimensions: int) -> np.ndarray:
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        numbers = None
    if numbers is None or numbers.ndim != dimensions:
        raise DataError(f"'{name}' is {dimensions}-d numbers, not {_kind(value)}")
    return numbers


def _natural(message: dict[str, Any], key: str, default: int) -> int:
    value: int = _typed(message, key, int, default)
    if not 0 <= value < 2**63:
        raise DataError(f"'{key}' is {value}, allowed are 0 to 2^63 - 1")
    return value


def _typed(message: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = message.get(key, default)
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, kind) or isinstance(value, bool):
        raise DataError(f"'{key}' is {_kind(value)}, not {kind.__name__}")
    return value


def _required(message: dict[str, Any], key: str) -> Any:
    if key not in message:
        raise DataError(f"the query has no '{key}'", hint=f"keys are {', '.join(KEYS)}")
    return message[key]


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    return type(value).__name__


def _pack_numpy(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "buif":
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    if isinstance(value, np.generic) and value.dtype.kind in "buif":
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"cannot send {_kind(value)}")


class _Reader:
    """One message, its lists and maps counted as they are finished."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._containers = 0

    def read(self) -> Any:
        try:
            return msgpack.unpackb(
                self._message,
                object_hook=self._map,
                list_hook=self._list,
                max_array_len=MOST_ENTRIES,
                max_map_len=MOST_ENTRIES,
                max_str_len=LONGEST_TEXT,
                max_bin_len=len(self._message),
                max_ext_len=0,
            )
        except DataError as error:
            raise GarbageError(error.message) from error
        # msgpack's own errors are ValueErrors; recursion and memory are what a bomb aims at.
        except (ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
            raise GarbageError(f"no msgpack message: {error!r}"[:200]) from error

    def _list(self, values: list[Any]) -> list[Any]:
        self._count()
        return values

    def _map(self, values: dict[Any, Any]) -> Any:
        self._count()
        if b"__ndarray__" in values:
            return _array(values)
        if b"__npgeneric__" in values:
            return _dtype(values).type(values.get(b"data"))
        return values

    def _count(self) -> None:
        self._containers += 1
        if self._containers > MOST_CONTAINERS:
            raise DataError(f"more than {MOST_CONTAINERS} lists and maps in one message")


def _array(values: dict[Any, Any]) -> np.ndarray:
    dtype, data, shape = _dtype(values), values.get(b"data"), values.get(b"shape")
    if not isinstance(data, bytes) or not isinstance(shape, list) or len(shape) > 4:
        raise DataError("an array is bytes with a shape of at most 4 sizes")
    count = dtype.itemsize
    for size in shape:
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise DataError(f"an array has the size {size!r}")
        count *= size
    if count != len(data):
        raise DataError(f"an array of shape {shape} and dtype {dtype} has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _dtype(values: dict[Any, Any]) -> np.dtype:
    return plain_dtype(values.get(b"dtype"))


def plain_dtype(name: Any) -> np.dtype:
    """The dtype of a name from someone unknown: booleans, integers and floats alone.

    Raises:
        DataError: For any other.
    """
    try:
        if isinstance(name, str) and PLAIN_DTYPE.fullmatch(name):
            return np.dtype(name)
    except TypeError:  # as for b4
        pass
    raise DataError(f"an array has the dtype {name!r}"[:80])
