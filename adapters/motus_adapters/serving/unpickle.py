"""The few pickles that LeRobot's protocol needs, read as data: nothing that they name is run.

LeRobot's client pickles its messages, and pickle's own reader calls whatever function a pickle
names. This reader is a small stack machine for the instructions that pickle.dumps writes for plain
values, numpy arrays and two dataclasses; each name stands for a function of this file. A value may
hold another one twice over and over, so that nothing is hashed or printed but strings.
"""

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import batched
from typing import Any, NamedTuple

import numpy as np

from motus_adapters.serving.wire import plain_dtype
from motus_embodiments import DataError

MOST_INSTRUCTIONS = 20_000
CONSTANTS = (
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
MAKERS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
HELPERS = "lerobot.async_inference.helpers"


@dataclass
class Record:
    """An instance of one of LeRobot's dataclasses: its name and its fields."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


class _Name(NamedTuple):
    module: str
    name: str


@dataclass
class _Dtype:
    """numpy's dtype while it is put together: made by name, its byte order comes as state."""

    code: str
    order: str = "="

    @property
    def plain(self) -> np.dtype:
        return plain_dtype(self.order + self.code)


@dataclass
class _Array:
    """numpy's array likewise: made blank, everything comes as state."""

    content: np.ndarray | None = None


def unpickle(data: bytes) -> Any:
    """The value of a pickle from someone unknown; dataclasses come as `Record`.

    Raises:
        DataError: When it is damaged, or names or does anything but the above.
    """
    try:
        return _settled(_run(data))
    except DataError:
        raise
    # A crafted stream can fail in any of the machine's and numpy's ways; none of them is ours.
    except Exception as error:
        raise DataError(f"no pickle of LeRobot's: {error!r}"[:200]) from error


def _run(data: bytes) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    encoded = 0  # bytes
    for count, (instruction, argument, _) in enumerate(pickletools.genops(data)):
        name = instruction.name
        if count > MOST_INSTRUCTIONS:
            raise DataError(f"a pickle of more than {MOST_INSTRUCTIONS} instructions")
        if name in CONSTANTS:
            stack.append(argument)
        elif name in MAKERS:
            stack.append(MAKERS[name]())
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            above = _pop(stack, len(stack) - marks.pop())
            _gather(name, stack, above)
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(_pop(stack, int(name[-1]))))
        elif name == "APPEND":
            _gather("APPENDS", stack, _pop(stack, 1))
        elif name == "SETITEM":
            _gather("SETITEMS", stack, _pop(stack, 2))
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[int(argument or 0)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif name == "GLOBAL":
            stack.append(_name(str(argument).split(" ")))
        elif name == "STACK_GLOBAL":
            stack.append(_name(_pop(stack, 2)))
        elif name in ("NEWOBJ", "REDUCE"):
            stack.append(_make(*_pop(stack, 2)))
            encoded += len(stack[-1]) if isinstance(stack[-1], bytes) else 0
            if encoded > len(data):
                raise DataError("the pickle encodes more text than it holds")
        elif name == "BUILD":
            _build(stack[-2], stack.pop())
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise DataError(f"the pickle has {name}, which is not allowed")
    raise DataError("the pickle has no end")


def _pop(stack: list[Any], count: int) -> list[Any]:
    """The top values, in the order in which they were put there."""
    if not 0 <= count <= len(stack):
        raise DataError("the pickle takes more than there is")
    top = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return top


def _gather(name: str, stack: list[Any], above: list[Any]) -> None:
    """Make the values above a mark a tuple, or add them to the list or dict below it."""
    if name == "TUPLE":
        stack.append(tuple(above))
    elif name == "APPENDS" and isinstance(stack[-1], list):
        stack[-1].extend(above)
    elif name == "SETITEMS" and isinstance(stack[-1], dict) and len(above) % 2 == 0:
        stack[-1].update({_text(key): value for key, value in batched(above, 2)})
    else:
        raise DataError("the pickle fills what is neither list nor dict")


def _name(parts: list[Any]) -> _Name:
    name = _Name(*map(_text, parts))
    if name not in KNOWN:
        raise DataError(f"the pickle names {'.'.join(name)[:100]}, which is not allowed")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise DataError(f"the pickle has {type(value).__name__} where text is due")
    return value


def _make(what: Any, arguments: Any) -> Any:
    if not isinstance(what, _Name) or not isinstance(arguments, tuple):
        raise DataError(f"the pickle calls {type(what).__name__}")
    return KNOWN[what](*arguments)


def _build(made: Any, state: Any) -> None:
    """What `__setstate__` would do."""
    if isinstance(made, Record) and isinstance(state, dict):
        made.fields.update(state)
    elif isinstance(made, _Dtype) and isinstance(state, tuple):
        made.order = _text(state[1])
    elif isinstance(made, _Array) and isinstance(state, tuple):
        _, shape, dtype, is_fortran, data = state
        made.content = _filled(data, dtype, shape, "F" if is_fortran else "C")
    else:
        raise DataError(f"the pickle gives a state to {type(made).__name__}")


def _filled(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise DataError("the pickle has an array that is no plain numbers")
    flat = np.frombuffer(data, dtype.plain)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, _encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    return text.encode("latin1")


def _settled(value: Any) -> Any:
    """The value without the half-made things inside; nothing of LeRobot's nests deeper."""
    if isinstance(value, Record):
        return Record(value.name, {key: _array(entry) for key, entry in value.fields.items()})
    return _array(value)


def _array(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: entry.content if isinstance(entry, _Array) else entry
            for key, entry in value.items()
        }
    return value


def _named(modules: Iterable[str], **functions: Callable[..., Any]) -> dict[_Name, Any]:
    return {_Name(module, name): made for module in modules for name, made in functions.items()}


KNOWN: dict[_Name, Callable[..., Any]] = {
    **_named(
        [HELPERS],
        TimedObservation=lambda: Record("TimedObservation"),
        RemotePolicyConfig=lambda: Record("RemotePolicyConfig"),
    ),
    **_named(["_codecs"], encode=_encode),
    **_named(
        [
            "numpy",
            *(f"numpy.{c}.{m}" for c in ("core", "_core") for m in ("multiarray", "numeric")),
        ],
        ndarray=_Array,
        dtype=lambda code, *_: _Dtype(_text(code)),
        _reconstruct=lambda *_: _Array(),
        _frombuffer=_filled,
        scalar=lambda dtype, data: _filled(data, dtype, (), "C")[()],
    ),
}
