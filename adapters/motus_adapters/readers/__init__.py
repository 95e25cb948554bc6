"""Readers of other people's dataset formats, one file each, and those that other packages bring."""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from motus_adapters.files import plain
from motus_adapters.readers.base import ColumnMap as ColumnMap
from motus_adapters.readers.base import EpisodeFile as EpisodeFile
from motus_adapters.readers.base import OnBad, Reader, dead_links
from motus_adapters.readers.base import Recording as Recording
from motus_adapters.readers.base import changed_at as changed_at
from motus_adapters.readers.base import content_hash as content_hash
from motus_adapters.readers.mapping import Part as Part
from motus_adapters.readers.mapping import View as View
from motus_adapters.readers.mapping import parts_of as parts_of
from motus_adapters.unified.staging import half_written, is_half_written
from motus_embodiments import DataError, UsageError, nearest

# Format -> (module, class).
_READERS = {
    "lerobot": ("lerobot", "LeRobotReader"),
    "zarr": ("replay_buffer", "ReplayBufferReader"),
    "rlds": ("rlds", "RldsReader"),
    "mcap": ("mcap", "McapReader"),
    "robomimic": ("robomimic", "RobomimicReader"),
    "libero": ("libero", "LiberoReader"),
    "robosuite": ("robosuite", "RobosuiteReader"),
    "act": ("act", "ActReader"),
    "rdt": ("rdt", "RdtReader"),
    "robotwin": ("robotwin", "RobotwinReader"),
    "robomind": ("robomind", "RobomindReader"),
    "egodex": ("egodex", "EgodexReader"),
    "agibot": ("agibot", "AgibotReader"),
    "motus": ("motus_folders", "MotusReader"),
    "video": ("video_folder", "VideoReader"),
}
FORMATS = tuple(_READERS)
GROUP = "motus.readers"  # of the entry points by which an installed package brings a reader


def formats() -> tuple[str, ...]:
    """Names of all formats: ours, then those of installed packages."""
    return (*FORMATS, *_others())


def get_reader(name: str) -> Reader:
    """The reader of a format.

    Raises:
        UsageError: There is none of that name, or the package that brings it is broken.
    """
    if name in _READERS:
        module, kind = _READERS[name]
        ours: Reader = getattr(import_module(f"{__name__}.{module}"), kind)()
        return ours
    others = _others()
    if name not in others:
        known = [*FORMATS, *others, "auto"]
        raise UsageError(f"no format named '{name}'", hint=nearest(name, known))
    package = _package(others[name])
    try:
        reader: Reader = others[name].load()()
    except Exception as error:  # whatever another package's import may raise
        raise UsageError(
            f"the reader '{name}' of the package '{package}' cannot be loaded: {error!r}",
            hint=f"mend or remove it: pip uninstall {package}",
            where=others[name].value,
        ) from error
    if getattr(reader, "name", None) != name:
        raise UsageError(
            f"the reader '{name}' of the package '{package}' calls itself "
            f"'{getattr(reader, 'name', None)}'",
            hint=f"its `name` must be that of its entry point in the group {GROUP}",
            where=others[name].value,
        )
    return reader


def _others() -> dict[str, EntryPoint]:
    """Format -> entry point of an installed package.

    Raises:
        UsageError: One takes a name that is taken.
    """
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, _package(p))):
        if point.name in FORMATS or point.name in found:
            owner = _package(found[point.name]) if point.name in found else "motus"
            raise UsageError(
                f"the package '{_package(point)}' brings a reader '{point.name}', as does {owner}",
                hint=f"remove one of them: pip uninstall {_package(point)}",
                where=point.value,
            )
        found[point.name] = point
    return found


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.module


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
        DataError: The path is missing, not recognised or ambiguous, damaged or without episodes.
        UsageError: The format or the mapping is not known.
    """
    path = plain(path)
    if not path.exists():
        raise DataError(f"{path} does not exist", hint="check the path", where=str(path))
    if is_half_written(path):
        raise half_written(path)
    if (path / "meta/motus.json").is_file():
        raise UsageError(
            f"{path} is a unified dataset already",
            hint="`motus inspect` looks at it, `motus label` labels it anew, "
            "`motus convert --to` writes it in other tools' layouts",
            where=str(path),
        )
    for link in dead_links(path):
        error = DataError(
            f"{link} is a link that leads nowhere, or in a circle",
            hint="fetch what it stands for, remove it, or leave it out with --skip-bad",
            where=str(link),
        )
        if on_bad is None:
            raise error
        on_bad(str(link.relative_to(path)), error)
    stated = ColumnMap.read(mapping)
    reader = _recognise(path) if format == "auto" else get_reader(format)
    bad: list[tuple[str, DataError]] = []

    def note(name: str, error: DataError) -> None:
        bad.append((name, error))
        assert on_bad is not None
        on_bad(name, error)

    episodes = reader.episodes(path, None if on_bad is None else note)
    if not episodes and bad:
        name, error = bad[0]
        raise DataError(
            f"{path}: no recording is left, all {len(bad)} are bad; '{name}': {error.message}",
            hint=error.hint,
            where=str(path),
        )
    if not episodes:
        raise DataError(
            f"{path} has no episode that can be read; looked for: {reader.looked_for}",
            hint="name the folder that holds the recordings",
            where=str(path),
        )
    return reader, [Recording(e, stated.over(e.defaults)) for e in episodes]


def _recognise(path: Path) -> Reader:
    """The one reader whose layout a source has.

    Raises:
        DataError: It is none's or several readers', or no file of it opens.
    """
    readers, problems = [get_reader(name) for name in formats()], []
    fitting = []
    for reader in readers:
        try:
            fitting += [reader] if reader.detect(path) else []
        except DataError as error:
            problems.append(error)
    if len(fitting) > 1:
        names = ", ".join(reader.name for reader in fitting)
        raise DataError(
            f"{path} has the layouts of several formats: {names}",
            hint=f"say which with --format {fitting[0].name}, or name the folder of one of them",
            where=str(path),
        )
    if fitting:
        return fitting[0]
    if problems:
        raise problems[0]
    looked = "".join(f"\n  {reader.name}: {reader.looked_for}" for reader in readers)
    raise DataError(
        f"{path} is in no format that is known here; looked for{looked}",
        hint="name the folder that holds the recordings, or a format with --format",
        where=str(path),
    )
