"""A simulator's own process: requests come on stdin, answers go to stdout.

Run as `python serve.py HOST.py TASK ROBOT SIZE` by the interpreter of the simulator's environment,
which has numpy and the simulator, and neither motus nor torch.

A message is the bytes MSIM, the length of a JSON header (4 bytes, big-endian), the header, and the
arrays that the header lists under `arrays` as [name, dtype, shape], one after the other, C order.
"""

import json
import os
import runpy
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np

MAGIC = b"MSIM"
DTYPES = ("uint8", "int64", "float32", "float64")
MAX_HEADER = 2**20  # bytes
MAX_ARRAYS = 2**28  # bytes

Message = tuple[dict[str, Any], dict[str, np.ndarray]]


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """A message as bytes."""
    listed = [[name, str(array.dtype), list(array.shape)] for name, array in arrays.items()]
    text = json.dumps({**header, "arrays": listed}).encode()
    parts = [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    return b"".join([MAGIC, struct.pack(">I", len(text)), text, *parts])


def unpack(read: Callable[[int], bytes]) -> Message:
    """The next message.

    Args:
        read: Gives exactly so many bytes, or raises.

    Raises:
        ValueError: These bytes are no message.
    """
    head = read(8)
    (length,) = struct.unpack(">I", head[4:])
    if head[:4] != MAGIC or length > MAX_HEADER:
        raise ValueError(f"a message does not begin with {head!r}")
    header = json.loads(read(length))
    if not isinstance(header, dict):
        raise ValueError(f"a header is a table, not {header!r}")
    arrays = {}
    for name, dtype, shape in header.pop("arrays"):
        if dtype not in DTYPES or not all(isinstance(n, int) and n >= 0 for n in shape):
            raise ValueError(f"an array cannot be {dtype!r} {shape!r}")
        size = prod(shape) * np.dtype(dtype).itemsize
        if size > MAX_ARRAYS:
            raise ValueError(f"an array of {size} bytes is too large")
        arrays[name] = np.frombuffer(read(size), dtype).reshape(shape)
    return header, arrays


def answer(simulator: Any, request: dict[str, Any], arrays: dict[str, np.ndarray]) -> Message:
    """Carry out one request."""
    call, given, told = request["call"], {}, {}
    if call == "reset":
        simulator.reset(request["seed"])
    elif call == "step":
        simulator.step(arrays["action"])
    elif call == "observe":
        given = simulator.observe()
    elif call == "expert":
        given = {"action": simulator.expert()}
    elif call == "disturb":
        simulator.disturb(np.random.default_rng(request["seed"]))
    elif call == "jitter":
        generator = np.random.default_rng(request["seed"])
        given = {"action": simulator.jitter(arrays["action"], generator)}
    elif call == "scene":
        told = {"scene": simulator.scene()}
    else:
        raise ValueError(f"no call named {call!r}")
    measured = {name: float(value) for name, value in simulator.signals.items()}
    return {"success": bool(simulator.success), "signals": measured, **told}, given


def serve(host: str, task: str, robot: str, size: int) -> None:
    """Start the simulator, say what it is, and answer until stdin ends."""
    # Simulators print; what they print must not get among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer

    def read(count: int) -> bytes:
        data = requests.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def say(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        answers.write(pack(header, arrays))
        answers.flush()

    simulator = runpy.run_path(host)["make"](task, robot, size)
    say({"ok": True, "about": simulator.about}, {})
    while True:
        try:
            request, arrays = unpack(read)
        except EOFError:
            break
        try:
            header, given = answer(simulator, request, arrays)
            say({"ok": True, **header}, given)
        except Exception as error:
            traceback.print_exc()
            say({"ok": False, "error": f"{type(error).__name__}: {error}"}, {})
    simulator.close()


def follow(parent: int) -> None:
    """End when the process that started this one is gone, even in the middle of a step."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=follow, args=(os.getppid(),), daemon=True).start()
    serve(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
