"""Where torch computes: a device by name, and one thread where the bytes must not vary."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from motus_embodiments import MissingError


def torch_device(name: str) -> torch.device:
    """`auto` is CUDA where there is any.

    Raises:
        MissingError: CUDA is asked for and not here.
    """
    has_cuda = torch.cuda.is_available()
    if name.startswith("cuda") and not has_cuda:
        raise MissingError(
            f"device '{name}' is not here: torch sees no CUDA device", hint="--device cpu"
        )
    return torch.device(("cuda" if has_cuda else "cpu") if name == "auto" else name)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums are taken in one order, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
