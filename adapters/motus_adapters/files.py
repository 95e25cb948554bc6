"""Writing files so that a reader sees the old one, the new one, or none, but never half of one."""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from motus_embodiments import DataError, UsageError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def user_cache() -> Path:
    """Where motus keeps what can be made again: its folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "motus"


def check_free(out: Path, *signs: str, force: bool, resumable: bool = False) -> None:
    """Refuse to write over what is there, unless an earlier result of the same kind is replaced.

    Args:
        out: File or folder to be written.
        signs: Files of which every such folder holds one; none where `out` is a file.
        force: Whether to replace an earlier result. Anything else is never replaced.
        resumable: Whether the command could go on with what is there; for the hint.

    Raises:
        UsageError: `out` must stay as it is.
    """
    if not out.exists() or (signs and out.is_dir() and not any(out.iterdir())):
        return
    ours = any((out / sign).exists() for sign in signs) if signs else out.is_file()
    if not ours or (out / "meta/motus.json").exists():
        raise UsageError(
            f"{out} is there and holds something else",
            hint="name a new file or folder; --force only replaces an earlier result of this kind",
            where=str(out),
        )
    if not force:
        go_on = "go on with it by --resume, " if resumable else ""
        raise UsageError(
            f"{out} exists",
            hint=f"{go_on}write it anew with --force, or name another",
            where=str(out),
        )


def check_writable(folder: Path) -> None:
    """Make a folder and a file in it, so that hours of work don't end where nothing can be kept.

    Raises:
        OSError: Either cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    TemporaryFile(dir=folder).close()


def plain(path: Path | str) -> Path:
    """A path whose beginning Arrow and FFmpeg do not take for a protocol (`run-10:30`)."""
    path = Path(path)
    return path.absolute() if any(":" in part for part in path.parts[:1]) else path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """A path beside `out`, for a file or a folder, that takes its place when the block ends well.

    Otherwise it is gone, and what was there before stays. Of a link it is what the link leads to.

    Raises:
        UsageError: Another process is writing `out`, or it is the working directory.
    """
    out = out.resolve() if out.is_symlink() else out
    if out.exists() and out.samefile(Path.cwd()):
        raise UsageError(
            f"{out} is the folder that the command runs in, which cannot be replaced",
            hint="name a folder in it",
            where=str(out),
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.parent / f".{out.name}.partial"
    beside.mkdir(exist_ok=True)
    with open(beside / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another process is writing {out}", hint="wait for it to end", where=str(out)
            ) from error
        try:
            result, old = beside / "result", beside / "old"
            if old.exists() and not out.exists():  # a process died between the two renames below
                os.replace(old, out)
            remove(old)
            remove(result)
            yield result
            for path in [result, *(result.rglob("*") if result.is_dir() else ())]:
                sync(path)
            if out.exists():
                os.replace(out, old)
            try:
                os.replace(result, out)
            except BaseException:
                if old.exists():
                    os.replace(old, out)
                raise
            sync(out.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def clear(folder: Path) -> None:
    """Remove what a folder holds; it stays itself, as it may be a link or the root of a disk."""
    for entry in folder.iterdir():
        remove(entry)


def sync(path: Path) -> None:
    """Have the kernel put a file, or a folder's entries, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON document atomically, keys sorted; infinities, which JSON lacks, are refused."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text)


def read_json(path: Path) -> Any:
    """Read a JSON document.

    Raises:
        DataError: The file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}", where=str(path)) from error


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn a full disk into an error that names the folder being written."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DataError(
            f"no space left while writing {out}",
            hint="free some space, then run the same command, with --resume if it has that",
            where=str(out),
        ) from error
