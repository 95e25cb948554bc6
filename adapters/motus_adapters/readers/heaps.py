"""Rows of varying length checked before the HDF5 library reads them.

Where a file is damaged the library (2.0 and before) follows such rows out of its memory or walks
a heap for ever, and no error can be caught.
"""

import mmap
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from motus_embodiments import DataError

# HDF5 File Format Specification: a row of varying length is stored as its number of elements, the
# address of a global heap collection and an index into it (IV.B, appendix of datatypes). A
# collection (III.E) is a signature, version 1, three zero bytes and its size; then objects of a
# head of 16 bytes (index, references, zero, size) and data padded to 8 bytes.
_ROW = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_HEAD = 16
_NOWHERE = 2**64 - 1


def check_rows(dataset: h5py.Dataset, path: Path) -> None:
    """Hold every row of a dataset of varying rows against the heap that it points into.

    Rows behind filters other than gzip and shuffle are not looked at.

    Raises:
        DataError: A row lies outside its heap, or the heap is damaged.
    """
    element = h5py.check_vlen_dtype(dataset.dtype)
    width = element.itemsize if isinstance(element, np.dtype) else 1  # bytes of text
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        heaps: dict[int, dict[int, int]] = {}
        for rows in _rows(dataset, data):
            for length, heap, index in rows.tolist():
                if length == 0 or heap in (0, _NOWHERE):
                    continue
                if heap not in heaps:
                    heaps[heap] = _objects(data, heap)
                if heaps[heap].get(index, -1) < length * width:
                    raise DataError(
                        f"{path}: a row of {dataset.name} lies outside of its heap",
                        hint="the file is damaged; copy it again, or leave it out: --skip-bad",
                        where=str(path),
                    )


def _rows(dataset: h5py.Dataset, data: mmap.mmap) -> Iterator[np.ndarray]:
    """The rows as they are stored, a chunk at a time."""
    handle = dataset.id
    settings = handle.get_create_plist()
    layout = settings.get_layout()
    if dataset.file.userblock_size or layout == h5py.h5d.COMPACT:
        return
    if layout == h5py.h5d.CONTIGUOUS:
        start = handle.get_offset()
        if start is not None:
            yield _as_rows(data[start : start + dataset.size * _ROW.itemsize])
        return
    filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
    size = int(np.prod(dataset.chunks)) * _ROW.itemsize
    for number in range(handle.get_num_chunks()):
        left_out, content = handle.read_direct_chunk(handle.get_chunk_info(number).chunk_offset)
        for place, kind in reversed(list(enumerate(filters))):
            if left_out >> place & 1:
                continue
            if kind == h5py.h5z.FILTER_DEFLATE:
                content = _inflated(content, size)
            elif kind == h5py.h5z.FILTER_SHUFFLE:
                planes = np.frombuffer(content, np.uint8).reshape(_ROW.itemsize, -1)
                content = planes.T.tobytes()
            else:
                return
        yield _as_rows(content)


def _inflated(content: bytes, size: int) -> bytes:
    """At most `size` bytes: a small chunk can hold gigabytes of zeros."""
    try:
        return zlib.decompressobj().decompress(content, size)
    except zlib.error as error:
        raise ValueError(f"a chunk cannot be decompressed: {error}") from error


def _as_rows(content: bytes) -> np.ndarray:
    return np.frombuffer(content, _ROW, count=len(content) // _ROW.itemsize)


def _objects(data: mmap.mmap, start: int) -> dict[int, int]:
    """Index -> size of the objects of a collection; none where it is damaged."""
    if data[start : start + 8] != _SIGNATURE:
        return {}
    stop = start + int.from_bytes(data[start + 8 : start + 16], "little")
    if stop > len(data):
        return {}
    found = {}
    at = start + 16
    while at + _HEAD <= stop:
        index = int.from_bytes(data[at : at + 2], "little")
        size = int.from_bytes(data[at + 8 : at + 16], "little")
        # Free space, of index 0, counts its own head, and is the last object.
        taken = size if index == 0 else _HEAD + (size + 7) // 8 * 8
        if taken < _HEAD or at + taken > stop:
            return {}
        found[index] = size
        at += taken
    return found
