"""The half-written dataset: `OUT/.partial`, one folder an episode, each put there by one rename.

An output folder is in one of four states: empty, half-written (has `.partial`, no
`meta/motus.json`, or new labels being put in), finished (has `meta/motus.json`), or somebody
else's (refused).
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from motus_adapters.files import read_json, sync, write_json
from motus_adapters.unified.manifest import differences
from motus_embodiments import DataError, MismatchError, UsageError

MANIFEST = Path("meta/motus.json")
PARTIAL = ".partial"
CLAIM = "header.json"  # in `.partial`: what is being written
APPLYING = "applying"  # in `.partial`: labels in the data files are being replaced


def is_finished(out: Path) -> bool:
    """Whether `out` is a finished unified dataset."""
    return (out / MANIFEST).is_file() and not (out / PARTIAL / APPLYING).exists()


def is_half_written(out: Path) -> bool:
    """Whether a run that wrote or labelled `out` was cut short."""
    return (out / PARTIAL).is_dir() and not is_finished(out)


def half_written(out: Path) -> DataError:
    """The error of every command that is given such a dataset."""
    return DataError(
        f"{out} is half written: the run that made it was cut short",
        hint="finish it: the same command with --resume",
        where=str(out),
    )


def check_dataset_free(out: Path, *, resume: bool, force: bool) -> None:
    """Refuse a folder that must not be written.

    Raises:
        UsageError: `out` holds a finished or half-written dataset and neither option says what
            to do with it, or it holds something else.
    """
    if resume and force:
        raise UsageError("--resume and --force contradict each other", hint="give one of them")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", hint="name a folder to write", where=str(out))
    if is_finished(out) or (out / PARTIAL).is_dir():
        if resume or force:
            return
        if is_finished(out):
            state, hint = "is a finished dataset already", "write it anew with --force"
        else:
            state, hint = "is half written: an earlier run was cut short", "go on with --resume"
        hint += ", or name another folder" if is_finished(out) else ", or begin anew with --force"
        raise UsageError(f"{out} {state}", hint=hint, where=str(out))
    if out.exists() and any(out.iterdir()):
        raise UsageError(
            f"{out} is not empty and no dataset of ours",
            hint="name a new or empty folder; --force only replaces a dataset",
            where=str(out),
        )


def clear(out: Path) -> None:
    """Remove a dataset, its manifest first, and nothing else that lies in its folder."""
    (out / MANIFEST).unlink(missing_ok=True)
    for name in ("data", "videos", "meta", ".cache", PARTIAL):
        shutil.rmtree(out / name, ignore_errors=True)


class Staging:
    """The episodes finished so far.

    Args:
        root: The staging folder; created if need be.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._created = [p for p in (root, root.parent) if not p.exists()]
        root.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from writing the same dataset.

        Raises:
            UsageError: Another process is writing it now.
        """
        with open(self.root / "lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    f"another process is writing {self.root.parent}",
                    hint="wait for it to end, or name another folder",
                    where=str(self.root.parent),
                ) from error
            yield

    def claim(self, identity: dict[str, Any]) -> None:
        """Note what is being written, or check that it is what an earlier run began.

        Raises:
            MismatchError: The earlier run had another card, source or options.
        """
        if noted := claimed(self.root):
            refuse_difference(noted, identity, self.root.parent)
        else:
            write_json(self.root / CLAIM, identity)

    def episode(self, index: int) -> Path:
        """Folder of episode `index`, there once it is complete."""
        return self.root / f"{index:06d}"

    def record(self, index: int) -> dict[str, Any]:
        """What `index` came to: its summary, or `{"skipped": ...}`."""
        record: dict[str, Any] = read_json(self.episode(index) / "summary.json")
        return record

    @contextmanager
    def writing(self, index: int) -> Iterator[Path]:
        """A folder to fill, renamed to `episode(index)` when the block ends well."""
        temporary = self.root / f".{index:06d}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.iterdir():
                sync(file)
            try:
                os.rename(temporary, self.episode(index))
            except OSError as error:
                # Another worker finished the same episode, with the same bytes.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            sync(self.root)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed workers left behind."""
        for leftover in self.root.glob(".*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)

    def empty(self) -> None:
        """Remove everything that was staged, but not the lock, nor the mark of a half dataset."""
        for entry in self.root.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name not in ("lock", APPLYING):
                entry.unlink()

    def forget(self) -> None:
        """Remove the staging folder, and the dataset's own if this run made it and it is empty."""
        shutil.rmtree(self.root, ignore_errors=True)
        for folder in self._created[1:]:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    def num_done(self) -> int:
        """Episodes finished so far."""
        return sum(1 for p in self.root.glob("[0-9]*") if p.is_dir())


def claimed(root: Path) -> dict[str, Any]:
    """What `Staging.claim` noted in a staging folder, empty if nothing was begun there."""
    path = root / CLAIM
    noted: dict[str, Any] = read_json(path) if path.is_file() else {}
    return noted


def refuse_difference(old: Any, new: Any, out: Path) -> None:
    """Raise MismatchError with a line for every difference between two identities."""
    lines = differences(old, new)
    if lines:
        raise MismatchError(
            f"{out} was begun with other settings:\n  " + "\n  ".join(lines),
            hint="repeat the earlier command with --resume, or begin anew with --force",
            where=str(out),
        )
