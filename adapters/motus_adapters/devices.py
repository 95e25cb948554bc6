"""Where torch computes: a device by name, and one thread where the bytes must not vary."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from motus_embodiments import MissingError, UsageError


def torch_device(name: str) -> torch.device:
    """`auto` is CUDA where there is any.

    Raises:
        UsageError: The name is none of `auto`, `cpu`, `cuda` and `cuda:N`.
        MissingError: CUDA is asked for, and it or device N of it is not here.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise UsageError(f"no device '{name}' is known", hint="take auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count()
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= count:
        seen = f"{count} of them" if count else "no CUDA device"
        raise MissingError(
            f"device '{name}' is not here: torch sees {seen}",
            hint="--device cuda" if count else "--device cpu",
        )
    return torch.device(("cuda" if count else "cpu") if name == "auto" else name)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are taken in one order, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
