"""Diffusion-policy replay buffers: zarr v2 with data/<key> and meta/episode_ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from motus_adapters.readers.base import ColumnMap, EpisodeFile, OnBad, natural_key
from motus_embodiments import DataError

_MARKERS = (".zgroup", "zarr.json")


class ReplayBufferReader:
    """A zarr group with data/ and meta/episode_ends (cumulative ends of the episodes).

    Layout: real-stanford/diffusion_policy replay_buffer.py. Neither rate nor task is stored.
    """

    name = "zarr"
    looked_for = "a zarr group with data/ and meta/episode_ends (diffusion-policy replay buffer)"

    def detect(self, path: Path) -> bool:
        """Whether it is, or holds, a zarr group with `data`."""
        return bool(_roots(path))

    def episodes(self, path: Path, on_bad: OnBad | None = None) -> list[EpisodeFile]:
        """The spans between the episode ends, in order."""
        roots = _roots(path)
        found: list[EpisodeFile] = []
        for root in roots:
            prefix = "" if len(roots) == 1 else f"{root.stem}/"
            try:
                found += _describe(root, prefix)
            except DataError as error:
                if on_bad is None:
                    raise
                on_bad(prefix or root.name, error)
        return found


@dataclass(frozen=True)
class ReplayEpisode:
    """Rows `start` to `stop` of a replay buffer."""

    path: Path
    name: str
    start: int
    stop: int
    cameras: tuple[str, ...]
    columns: tuple[str, ...]
    defaults: ColumnMap
    unit_range: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        """Rows."""
        return self.stop - self.start

    @property
    def files(self) -> tuple[Path, ...]:
        """The zarr folder."""
        return (self.path,)

    def column(self, name: str) -> np.ndarray:
        """Rows of data/<name>."""
        return self._read(name, _array(self.path, name), self.start, self.stop)

    def frames(self, camera: str) -> Iterator[np.ndarray]:
        """Frames of data/<camera>; floats are brought to 0..255."""
        array = _array(self.path, camera)
        scale = 255.0 if camera in self.unit_range else 1.0
        chunk = int(array.chunks[0])
        start = self.start
        while start < self.stop:
            # Up to the next chunk border, so that no chunk is decompressed twice here.
            stop = min(self.stop, (start // chunk + 1) * chunk)
            for frame in self._read(camera, array, start, stop):
                if frame.dtype == np.uint8:
                    yield frame
                else:
                    yield np.clip(np.rint(frame * scale), 0, 255).astype(np.uint8)
            start = stop

    def _read(self, name: str, array: Any, start: int, stop: int) -> np.ndarray:
        _check_chunks(self.path / "data" / name, array, start, stop)
        try:
            rows: np.ndarray = array[start:stop]
        except Exception as error:  # codecs raise what they like on damaged chunks
            raise DataError(
                f"{self.path}: cannot read rows {start} to {stop} of '{name}': {error}",
                hint="the zarr is damaged; copy it again",
                where=str(self.path),
            ) from error
        return rows


def _roots(path: Path) -> list[Path]:
    """The zarr groups with a `data` group: the path itself, or what lies just below it."""
    if not path.is_dir():
        return []
    if _is_buffer(path):
        return [path]
    return sorted((p for p in path.iterdir() if p.is_dir() and _is_buffer(p)), key=natural_key)


def _is_buffer(path: Path) -> bool:
    return any((path / m).exists() for m in _MARKERS) and (path / "data").is_dir()


def _array(path: Path, name: str) -> Any:
    return zarr.open_array(str(path / "data" / name), mode="r")


def _check_chunks(folder: Path, array: Any, start: int, stop: int) -> None:
    """Refuse truncated Blosc chunks, which decompress to chance memory without an error.

    A Blosc chunk tells its own size in bytes 12 to 15 (Blosc chunk format, version 1).
    """
    if not any(type(codec).__name__.startswith("Blosc") for codec in array.compressors):
        return
    length = int(array.chunks[0])
    for index in range(start // length, (stop - 1) // length + 1):
        patterns = (f"{index}", f"{index}.*", f"{index}/**/*", f"c/{index}", f"c/{index}/**/*")
        for file in (f for pattern in patterns for f in folder.glob(pattern) if f.is_file()):
            with open(file, "rb") as stream:
                header = stream.read(16)
            if len(header) < 16 or int.from_bytes(header[12:], "little") != file.stat().st_size:
                raise DataError(
                    f"{file} is cut short",
                    hint="copy the zarr again, or leave the episode out with --skip-bad",
                    where=str(file),
                )


def _describe(path: Path, prefix: str) -> list[ReplayEpisode]:
    try:
        group = zarr.open_group(str(path), mode="r")
        arrays = dict(group["data"].arrays())
        ends = group["meta/episode_ends"][:] if "meta/episode_ends" in group else None
    except Exception as error:  # zarr has no common error type
        raise DataError(f"cannot read {path} as zarr: {error}", where=str(path)) from error
    if ends is None:
        raise DataError(
            f"{path} has no meta/episode_ends, so its episodes cannot be told apart",
            hint="a replay buffer of diffusion_policy has it; was the copy complete?",
            where=str(path),
        )
    ends = np.asarray(ends, np.int64)
    if len(ends) == 0 or ends[0] <= 0 or np.any(np.diff(ends) <= 0):
        raise DataError(
            f"{path}: meta/episode_ends does not increase: {ends[:5]}...", where=str(path)
        )
    for name, array in arrays.items():
        if array.shape[0] != ends[-1]:
            raise DataError(
                f"{path}: data/{name} has {array.shape[0]} rows, episode_ends says {ends[-1]}",
                where=str(path),
            )
    cameras = tuple(n for n, a in arrays.items() if len(a.shape) == 4 and a.shape[3] == 3)
    columns = tuple(n for n, a in arrays.items() if n not in cameras and a.dtype.kind in "fiu")
    unit = tuple(n for n in cameras if _is_unit_range(arrays[n]))
    starts = np.concatenate([[0], ends[:-1]])
    warnings = tuple(
        f"data/{n} lacks {a.nchunks - a.nchunks_initialized} of {a.nchunks} chunks; they read as 0"
        for n, a in arrays.items()
        if a.nchunks_initialized < a.nchunks
    )
    return [
        ReplayEpisode(
            path=path,
            name=f"{prefix}episode_{i}",
            start=int(start),
            stop=int(stop),
            cameras=tuple(sorted(cameras)),
            columns=tuple(sorted(columns)),
            defaults=_defaults(arrays),
            unit_range=unit,
            warnings=warnings,
        )
        for i, (start, stop) in enumerate(zip(starts, ends, strict=True))
    ]


def _is_unit_range(array: Any) -> bool:
    """Whether float frames lie in 0..1; the first chunk decides for the whole buffer."""
    if array.dtype.kind != "f":
        return False
    return bool(np.max(array[: int(array.chunks[0])]) <= 1.0)


def _defaults(arrays: dict[str, Any]) -> ColumnMap:
    state: tuple[str, ...] | None = None
    if "agent_pos" in arrays:
        state = ("agent_pos",)
    elif "state" in arrays and "keypoint" in arrays and arrays["state"].shape[1:] == (5,):
        state = ("state[0:2]",)  # PushT: the agent's x and y, then the pose of the block
    elif "state" in arrays:
        state = ("state",)
    return ColumnMap(state=state, action=("action",) if "action" in arrays else None)
