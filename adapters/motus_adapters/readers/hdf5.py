"""What the readers of HDF5 layouts share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from motus_adapters.readers.base import OnBad, natural_key
from motus_embodiments import DataError

SUFFIXES = (".hdf5", ".h5")
_BLOCK = 32 * 2**20  # bytes of frames read at once


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file open for reading.

    Raises:
        DataError: It is missing, cut short or damaged, on opening or later.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        reason = str(error).split("(")[-1].rstrip(")")
        raise DataError(
            f"cannot read {path} as HDF5: {reason}",
            hint="the file is cut short or damaged; copy it again, or leave it out: --skip-bad",
            where=str(path),
        ) from error


def hdf5_files(path: Path) -> list[Path]:
    """The file itself, or all HDF5 files below a folder in natural order."""
    if path.is_file():
        return [path] if path.suffix in SUFFIXES else []
    found = (p for suffix in SUFFIXES for p in path.rglob(f"*{suffix}") if p.is_file())
    return sorted(found, key=lambda p: natural_key(p.relative_to(path)))


def first_readable(path: Path) -> Path | None:
    """The first file of a source that opens; None if there is no HDF5 file.

    Raises:
        DataError: There are files, but none opens.
    """
    problem: DataError | None = None
    for file in hdf5_files(path):
        try:
            with opened(file):
                return file
        except DataError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return None


def frame_blocks(dataset: h5py.Dataset) -> Iterator[np.ndarray]:
    """The rows of a dataset one by one, read in whole chunks of bounded size."""
    row = max(1, int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize)
    chunk = dataset.chunks[0] if dataset.chunks else 16
    step = max(1, min(chunk, _BLOCK // row))
    for start in range(0, len(dataset), step):
        yield from dataset[start : start + step]


def text(value: Any) -> str | None:
    """An attribute or scalar dataset as text."""
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).decode("utf-8", "replace")
    return None if value is None else str(value)


def report(on_bad: OnBad | None, name: str, error: DataError) -> None:
    """Tell the caller about an unreadable episode, or raise."""
    if on_bad is None:
        raise error
    on_bad(name, error)
