"""Readers of other people's dataset formats, one file each."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from motus_adapters.readers.base import ColumnMap as ColumnMap
from motus_adapters.readers.base import EpisodeFile as EpisodeFile
from motus_adapters.readers.base import OnBad, Reader
from motus_adapters.readers.base import Recording as Recording
from motus_adapters.readers.base import content_hash as content_hash
from motus_embodiments import DataError, UsageError, nearest

# Format -> (module, class), in the order in which they are tried.
_READERS = {
    "lerobot": ("lerobot", "LeRobotReader"),
    "zarr": ("replay_buffer", "ReplayBufferReader"),
    "robomimic": ("robomimic", "RobomimicReader"),
    "act": ("act", "ActReader"),
}
FORMATS = tuple(_READERS)


def get_reader(name: str) -> Reader:
    """The reader of a format.

    Raises:
        UsageError: There is none of that name.
    """
    if name not in _READERS:
        raise UsageError(f"no format named '{name}'", hint=nearest(name, [*FORMATS, "auto"]))
    module, kind = _READERS[name]
    reader: Reader = getattr(import_module(f"{__name__}.{module}"), kind)()
    return reader


def open_source(
    path: Path | str,
    format: str = "auto",  # noqa: A002
    *,
    mapping: ColumnMap | Mapping[str, Any] | Path | str | None = None,
    on_bad: OnBad | None = None,
) -> tuple[Reader, list[Recording]]:
    """Recognise a source and list its recordings; no frame is decoded.

    Args:
        path: A file or folder.
        format: A format, or "auto" to have it recognised.
        mapping: What to read as state, action and cameras instead of the reader's own choice.
        on_bad: Called with name and error of each unreadable episode; None raises it.

    Raises:
        DataError: The path is missing, not recognised, damaged or without episodes.
        UsageError: The format or the mapping is not known.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist", hint="check the path", where=str(path))
    if (path / "meta/motus.json").is_file():
        raise UsageError(
            f"{path} is a unified dataset already",
            hint="look at it with `motus inspect`, or label it anew with `motus label`",
            where=str(path),
        )
    stated = ColumnMap.read(mapping)
    readers = [get_reader(name) for name in (FORMATS if format == "auto" else [format])]
    reader = next((r for r in readers if r.detect(path)), None)
    if reader is None:
        looked = "; ".join(r.looked_for for r in readers)
        raise DataError(
            f"{path} is in no format that is known here; looked for: {looked}",
            hint="name the folder that holds the recordings, or a format with --format",
            where=str(path),
        )
    episodes = reader.episodes(path, on_bad)
    if not episodes:
        raise DataError(f"{path} has no episode that can be read", where=str(path))
    return reader, [Recording(e, stated.over(e.defaults)) for e in episodes]
