"""What the readers of HDF5 layouts share: finding files, reading columns, decoding pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from motus_adapters.readers.base import EpisodeFile, OnBad, as_bytes, natural_key, walk
from motus_adapters.readers.heaps import check_rows
from motus_adapters.readers.jpeg import read_flag
from motus_adapters.readers.mapping import ColumnMap
from motus_embodiments import DataError

SUFFIXES = (".hdf5", ".h5")
_BLOCK = 32 * 2**20  # bytes of frames read at once
_COLUMN = 2 * 2**30  # bytes; a numeric column of more than this is no recording
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_LOOKED_AT = 20_000  # files looked at to recognise a layout
_FRAMES = 16  # looked at to tell floats in 0..1 from floats in 0..255


@dataclass(frozen=True)
class Pictures:
    """The pictures of one camera in a file.

    Attributes:
        camera: Its name.
        dataset: Where they are: [T, h, w, 3] or [T, 3, h, w] of bytes or floats, or encoded
            pictures as bytes [T], padded rows [T, n] or rows of varying length [T].
        decoded_bgr: Whether `cv2.imdecode` gives blue first, as it does for a JPEG written by
            everyone but those who hand RGB to `cv2.imencode`.
        upside_down: Whether the first row is the lowest.
        raw: (height, width) of frames that may stand among encoded ones as bare bytes.
    """

    camera: str
    dataset: str
    decoded_bgr: bool = False
    upside_down: bool = False
    raw: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Hdf5Episode:
    """One episode in one file, or in one group of a file.

    Attributes:
        group: Where its columns are named from, "" or ending with a slash.
        enough: Camera -> (height, width) below which its frames must not be reduced.
    """

    path: Path
    name: str
    num_frames: int
    pictures: tuple[Pictures, ...]
    columns: tuple[str, ...]
    defaults: ColumnMap
    warnings: tuple[str, ...] = ()
    group: str = ""
    beside: tuple[Path, ...] = ()
    enough: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(p.camera for p in self.pictures)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, and what was read beside it."""
        return (self.path, *self.beside)

    def column(self, name: str) -> np.ndarray:
        """A numeric dataset by its path in the file or group."""
        with opened(self.path) as h5:
            return read_column(h5, self.group + name)

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """The frames of a camera, uint8 RGB."""
        pictures = next(p for p in self.pictures if p.camera == camera)
        with opened(self.path) as h5:
            dataset = dataset_of(h5, self.group + pictures.dataset)
            yield from _decoded(dataset, pictures, self.path, self.enough.get(camera))

    def at_least(self, sizes: Mapping[str, tuple[int, int]]) -> "Hdf5Episode":
        """The same, whose JPEG frames may come smaller; see `Recording.at_least`."""
        return replace(self, enough=dict(sizes))


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """A file open for reading.

    Raises:
        DataError: It is missing, cut short or damaged, on opening or later.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    # h5py has no error type of its own, and a damaged file meets it in many places.
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, MemoryError) as error:
        reason = str(error).split("(")[-1].rstrip(")")
        raise DataError(
            f"cannot read {path} as HDF5: {reason}",
            hint="the file is cut short or damaged; copy it again, or leave it out: --skip-bad",
            where=str(path),
        ) from error


def hdf5_files(path: Path) -> list[Path]:
    """The file itself, or all HDF5 files below a folder in natural order."""
    found = (p for p in walk(path) if p.suffix in SUFFIXES and p.is_file())
    return sorted(found, key=lambda p: natural_key(p.relative_to(path)))


def files_below(path: Path) -> Iterator[Path]:
    """The first 20,000 files of a source, so that a huge one is recognised as fast as a small."""
    yield from islice(walk(path), _LOOKED_AT)


def detect_hdf5(path: Path, fits: Callable[[h5py.File, Path], bool]) -> bool:
    """Whether the first HDF5 file that opens has a layout.

    Raises:
        DataError: There are files, but none of the first ten opens.
    """
    problem: DataError | None = None
    files = (file for file in files_below(path) if file.suffix in SUFFIXES)
    for file in islice(files, 10):
        try:
            with opened(file) as h5:
                return fits(h5, file)
        except DataError as error:
            problem = problem or error
    if problem is not None:
        raise problem
    return False


def describe_files(
    path: Path,
    describe: Callable[[h5py.File, Path, str], EpisodeFile],
    on_bad: OnBad | None,
) -> list[EpisodeFile]:
    """One episode a file, in natural order; names are the files' paths below the source."""
    found: list[EpisodeFile] = []
    for file in hdf5_files(path):
        name = file.stem if path.is_file() else str(file.relative_to(path).with_suffix(""))
        try:
            with opened(file) as h5:
                found.append(describe(h5, file, name))
        except DataError as error:
            report(on_bad, name, error)
    return found


def dataset_of(h5: h5py.Group, name: str) -> h5py.Dataset:
    """A dataset; KeyError where there is none of that name."""
    value = h5[name]
    if not isinstance(value, h5py.Dataset):
        raise KeyError(f"{name} is no dataset")
    if value.external or value.file.filename != h5.file.filename:
        raise DataError(
            f"{h5.file.filename}: '{name}' lies outside the file",
            hint="copy what it points at into the file, or leave it out with --skip-bad",
            where=str(h5.file.filename),
        )
    return value


def members(h5: h5py.Group, name: str) -> dict[str, Any]:
    """What a group holds, in order of name; nothing where there is no such group."""
    group = h5.get(name)
    return dict(group.items()) if isinstance(group, h5py.Group) else {}


def has_rows(h5: h5py.Group, name: str) -> bool:
    """Whether there is a dataset of that name with at least one row."""
    value = h5.get(name)
    return isinstance(value, h5py.Dataset) and value.ndim > 0 and len(value) > 0


def read_column(h5: h5py.Group, name: str) -> np.ndarray:
    """A numeric dataset, refused where its stated size is beyond any recording."""
    dataset = dataset_of(h5, name)
    if dataset.nbytes > _COLUMN:
        raise ValueError(f"{name} claims {dataset.nbytes / 2**30:.0f} GB of numbers")
    values: np.ndarray = dataset[()]
    return values


def rows_of(path: Path, h5: h5py.Group, name: str) -> int:
    """Rows of the dataset that tells how long the episode is.

    Raises:
        DataError: It is missing or empty.
    """
    if not has_rows(h5, name):
        raise DataError(
            f"{path}: {name} is missing or empty",
            hint="leave the file out with --skip-bad",
            where=str(path),
        )
    return len(h5[name])


def columns_of(
    path: Path,
    h5: h5py.Group,
    num_frames: int,
    names: Sequence[str],
    warnings: list[str],
    needed: Sequence[str] = (),
) -> tuple[str, ...]:
    """Those of `names` that are numeric with a row for each frame; what is not is told.

    Raises:
        DataError: One of `needed` has another number of rows.
    """
    found = []
    for name in names:
        value = h5.get(name)
        if not isinstance(value, h5py.Dataset) or value.ndim == 0 or value.dtype.kind not in "fiub":
            continue
        if len(value) == num_frames:
            found.append(name)
        elif name in needed and len(value):
            raise _length_error(path, f"'{name}'", len(value), "rows", num_frames)
        else:
            rows = f"has {len(value)} rows of {num_frames}" if len(value) else "is empty"
            warnings.append(f"'{name}' {rows} and is left out")
    return tuple(found)


def pictures_of(
    path: Path,
    h5: h5py.Group,
    num_frames: int,
    candidates: Sequence[Pictures],
    warnings: list[str],
) -> tuple[Pictures, ...]:
    """Those that are colour pictures with a frame for each row; what is not is told.

    Raises:
        DataError: A camera has another number of frames.
    """
    found = []
    for pictures in candidates:
        dataset = h5.get(pictures.dataset)
        if not isinstance(dataset, h5py.Dataset) or not _is_colour(dataset):
            warnings.append(f"camera '{pictures.camera}' is no colour view and is left out")
        elif len(dataset) == 0:
            warnings.append(f"camera '{pictures.camera}' is empty and is left out")
        elif len(dataset) != num_frames:
            raise _length_error(
                path, f"camera '{pictures.camera}'", len(dataset), "frames", num_frames
            )
        else:
            found.append(pictures)
    return tuple(found)


def decode(content: bytes | np.ndarray, enough: tuple[int, int] | None = None) -> np.ndarray | None:
    """An encoded picture as OpenCV tells it; None where it is none, or one cut short.

    Where (height, width) is enough of a JPEG, it is not decoded larger than need be.
    """
    stored = content if isinstance(content, bytes) else content.tobytes()
    if not stored or (stored.startswith(_JPEG_START) and _JPEG_END not in stored):
        return None  # of a JPEG cut short OpenCV makes up the rest
    flag = read_flag(stored, enough)
    if flag is None:
        return None
    image: np.ndarray | None = cv2.imdecode(np.frombuffer(stored, np.uint8), flag)
    return image


def text(value: Any) -> str | None:
    """An attribute or dataset as text; of a list the first."""
    if isinstance(value, h5py.Dataset):
        if value.dtype.kind == "O":
            check_rows(value, Path(value.file.filename))
        value = value[()]
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else None
    if isinstance(value, bytes | np.bytes_):
        return bytes(value).decode("utf-8", "replace")
    return None if value is None else str(value)


def report(on_bad: OnBad | None, name: str, error: DataError) -> None:
    """Tell the caller about an unreadable episode, or raise."""
    if on_bad is None:
        raise error
    on_bad(name, error)


def frame_blocks(dataset: h5py.Dataset) -> Iterator[np.ndarray]:
    """The rows of a dataset one by one, read in whole chunks of bounded size."""
    # What a row of varying length weighs is not known; a large picture is taken for it.
    item = dataset.dtype.itemsize if dataset.dtype.kind != "O" else 2**20
    row = max(1, int(np.prod(dataset.shape[1:])) * item)
    chunk = dataset.chunks[0] if dataset.chunks else 16
    step = max(1, min(chunk, _BLOCK // row))
    for start in range(0, len(dataset), step):
        yield from dataset[start : start + step]


def _is_colour(dataset: h5py.Dataset) -> bool:
    """Raw [T, h, w, 3] or [T, 3, h, w]; encoded [T, n] of bytes, or [T] of any length."""
    kind = dataset.dtype.kind
    if dataset.ndim == 4:
        return (dataset.dtype == np.uint8 or kind == "f") and 3 in (dataset.shape[1::2])
    return (dataset.ndim == 1 and kind in "SOV") or (dataset.ndim == 2 and kind in "uV")


def is_encoded(dataset: h5py.Dataset) -> bool:
    """Whether a dataset's rows are encoded pictures, by its first one."""
    if dataset.ndim != 1 or not len(dataset) or dataset.dtype.kind not in "SOV":
        return False
    if dataset.dtype.kind == "O":
        check_rows(dataset, Path(dataset.file.filename))
    row = dataset[0]
    try:
        return decode(row if isinstance(row, np.ndarray) else bytes(row)) is not None
    except TypeError:  # a text
        return False


def _decoded(
    dataset: h5py.Dataset, pictures: Pictures, path: Path, enough: tuple[int, int] | None
) -> Iterator[np.ndarray]:
    top = _top(dataset)
    if dataset.dtype.kind == "O":
        check_rows(dataset, path)
    for index, row in enumerate(frame_blocks(dataset)):
        if dataset.ndim == 4:
            frame = row if row.shape[2] == 3 else row.transpose(1, 2, 0)
            frame = as_bytes(frame, top, pictures.camera, path)
        else:
            which = f"frame {index} of camera '{pictures.camera}'"
            frame = _picture(row, pictures, which, path, enough)
        yield np.ascontiguousarray(frame[::-1] if pictures.upside_down else frame)


def _picture(
    row: Any, pictures: Pictures, which: str, path: Path, enough: tuple[int, int] | None
) -> np.ndarray:
    content = row if isinstance(row, np.ndarray) and row.dtype == np.uint8 else bytes(row)
    image = decode(content, enough)
    if image is None:
        for height, width in pictures.raw:
            if len(content) == height * width * 3:
                image = np.frombuffer(bytes(content), np.uint8).reshape(height, width, 3)
    if image is not None:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if pictures.decoded_bgr else image
    raise DataError(
        f"{path}: {which} is no picture, or one cut short",
        hint="the file is damaged; copy it again, or leave it out with --skip-bad",
        where=str(path),
    )


def _top(dataset: h5py.Dataset) -> float:
    """The largest number that raw pictures may hold; frames from all over tell 0..1 from 0..255."""
    if dataset.dtype.kind != "f":
        return 255.0
    looked_at = range(0, len(dataset), -(-len(dataset) // _FRAMES))
    return 1.0 if max(float(np.max(dataset[i])) for i in looked_at) <= 1.0 else 255.0


def _length_error(path: Path, what: str, found: int, unit: str, wanted: int) -> DataError:
    return DataError(
        f"{path}: {what} has {found} {unit} of {wanted}",
        hint="the recording is cut short; leave it out with --skip-bad",
        where=str(path),
    )
