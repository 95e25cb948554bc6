"""Zarr groups (v2 and v3, a folder or a zip) opened for reading, and their chunks checked."""

import itertools
import struct
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.errors import UnknownCodecError

from motus_embodiments import DataError, MissingError

MARKERS = (".zgroup", "zarr.json")
LARGEST = 2**30  # bytes of a chunk or a row; more is a damaged or malicious file
_BAD_ZIP = (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error)
_OURS = "imagecodecs_"  # codecs that the package imagecodecs brings


def is_group(path: Path) -> bool:
    """Whether a folder or zip file holds a zarr group with `data` at its root.

    Raises:
        DataError: It is called .zarr.zip and is no zip file.
    """
    if path.is_dir():
        return any((path / marker).exists() for marker in MARKERS) and (path / "data").is_dir()
    if path.suffix != ".zip" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as file:
            names = set(file.namelist())
    except (*_BAD_ZIP, OSError) as error:
        if path.name.endswith(".zarr.zip"):
            raise _damaged(path, f"is no zip file: {error}") from error
        return False
    return bool(names & set(MARKERS)) and any(name.startswith("data/") for name in names)


@contextmanager
def opened(path: Path) -> Iterator[zarr.Group]:
    """The group, open for reading; codecs of imagecodecs are registered when one is met.

    Raises:
        DataError: It cannot be opened, or what is read from it turns out to be damaged.
        MissingError: It needs a codec whose package is not installed.
    """
    store: Any = None
    try:
        if path.is_file():
            _check_members(path, path.stat().st_mtime_ns)
            store = zarr.storage.ZipStore(path, mode="r")
        else:
            store = str(path)
        group = zarr.open_group(store, mode="r")
        _register_codecs(path, group)
        yield group
    except (DataError, MissingError, GeneratorExit):
        raise
    except Exception as error:  # zarr and its codecs have no common error type
        raise _damaged(path, f"cannot be read as zarr: {error}") from error
    finally:
        if isinstance(store, zarr.storage.ZipStore):
            store.close()


def arrays_of(path: Path, group: zarr.Group) -> dict[str, zarr.Array]:
    """Name -> array of all in data/.

    Raises:
        DataError: Something lies there whose metadata zarr passes over, since it is damaged.
    """
    arrays = _arrays(group)
    if path.is_file():
        with zipfile.ZipFile(path) as file:
            names = [name.split("/") for name in file.namelist()]
        stored = {parts[1] for parts in names if parts[0] == "data" and len(parts) > 2}
    else:
        stored = {folder.name for folder in (path / "data").iterdir() if folder.is_dir()}
    for name in sorted(stored - set(arrays)):
        raise _damaged(
            path, f"has a data/{name} that is no array: its metadata is missing or damaged"
        )
    return arrays


def read_rows(path: Path, name: str, array: zarr.Array, start: int, stop: int) -> np.ndarray:
    """Rows of data/`name`.

    Raises:
        DataError: A chunk is cut short or damaged, or is larger than any real one.
    """
    size = array.dtype.itemsize
    if max(prod(array.chunks), prod(array.shards or ()), prod(array.shape[1:])) * size > LARGEST:
        raise _damaged(path, f"has chunks or rows of '{name}' of more than a gigabyte")
    _check_blosc(path, name, array, start, stop)
    try:
        rows: np.ndarray = array[start:stop]
    except Exception as error:  # codecs raise what they like on damaged chunks
        raise _damaged(path, f"has damaged rows {start} to {stop} of '{name}': {error}") from error
    return rows


def _register_codecs(path: Path, group: zarr.Group) -> None:
    """Try every array's metadata; where imagecodecs has the missing codec, have it registered."""
    try:
        _arrays(group)
    except UnknownCodecError as error:
        codec = next((word for word in str(error).split("'") if word.startswith(_OURS)), None)
        if codec is None:
            raise
        try:
            from imagecodecs import numcodecs as ours
        except ImportError as missing:
            raise MissingError(
                f"{path} needs the codec '{codec}' (JPEG XL and the like)",
                hint="pip install 'motus-cli[formats]'",
                where=str(path),
            ) from missing
        ours.register_codecs((codec,), verbose=False)


def _arrays(group: zarr.Group) -> dict[str, zarr.Array]:
    # What zarr only warns about, the caller makes an error of.
    with warnings.catch_warnings(action="ignore"):
        return dict(group["data"].arrays())


def _check_blosc(path: Path, name: str, array: zarr.Array, start: int, stop: int) -> None:
    """Refuse damaged Blosc chunks, which decompress to chance memory without an error.

    A chunk tells its decompressed and its own size in bytes 4 to 8 and 12 to 16 (Blosc chunk
    format, version 1). Shards and zip files bear checksums of their own.
    """
    if path.is_file() or array.shards:
        return
    if not any(type(c).__name__.startswith("Blosc") for c in array.compressors):
        return
    length, *others = array.chunks
    grid = [range(-(-whole // part)) for whole, part in zip(array.shape[1:], others, strict=True)]
    wanted = prod(array.chunks) * array.dtype.itemsize
    for row in range(start // length, (stop - 1) // length + 1):
        for column in itertools.product(*grid):
            key = f"data/{name}/{array.metadata.encode_chunk_key((row, *column))}"
            if not (path / key).is_file():
                continue  # not written: all fill value
            with open(path / key, "rb") as stream:
                head = stream.read(16)
            sizes = np.frombuffer(head, "<u4") if len(head) == 16 else None
            if sizes is None or (sizes[1], sizes[3]) != (wanted, (path / key).stat().st_size):
                raise _damaged(path / key, "is cut short or damaged")


@lru_cache(maxsize=64)
def _check_members(path: Path, _changed: int) -> None:
    """Refuse a zip bomb, and names that climb out of it, before anything is unpacked."""
    with zipfile.ZipFile(path) as file:
        for info in file.infolist():
            if info.file_size > LARGEST:
                raise _damaged(path, f"unpacks '{info.filename}' to {info.file_size} bytes")
            if info.filename.startswith("/") or ".." in info.filename.split("/"):
                raise _damaged(path, f"holds '{info.filename}', which climbs out of it")


def _damaged(path: Path, what: str) -> DataError:
    return DataError(
        f"{path} {what}",
        hint="copy it again, or leave the episode out with --skip-bad",
        where=str(path),
    )
