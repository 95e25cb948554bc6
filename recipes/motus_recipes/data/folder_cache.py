"""Folders that are made once and kept, by any number of processes, up to a limit.

One process makes at a time; the others wait for its lock, which the system lets go of when it
dies. A folder is made beside its place and renamed into it: it is there whole or not at all. Past
the limit, those go that were used least recently; a process that has their files open keeps them.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from motus_embodiments import UsageError

PARTIAL, GONE, LOCK = ".partial", ".gone", ".lock"


@dataclass(frozen=True)
class FolderCache:
    """Folders by name.

    Attributes:
        root: Where they are.
        limit: Bytes of all of them together.
        setting: The recipe's key that sets the limit.
    """

    root: Path
    limit: int
    setting: str = "engine.cache"

    def get(
        self, name: str, size: int, make: Callable[[Path], None], in_use: Sequence[str] = ()
    ) -> Path:
        """The folder of a name, made if it isn't there.

        Args:
            name: Must name the content.
            size: Bytes that it will take, about.
            make: Fills an empty folder.
            in_use: Others that must not go.

        Raises:
            UsageError: When it is larger than the limit.
        """
        folder = self.root / name
        if not _touch(folder):
            if size > self.limit:
                raise UsageError(
                    f"{self.root} would have to hold {size / 1e9:.3g} GB, and {self.setting} "
                    f"allows {self.limit / 1e9:.3g}",
                    hint=f"--set {self.setting}={size / 1e9 * 1.1:.2g} allows more",
                    where=str(self.root),
                )
            self.root.mkdir(parents=True, exist_ok=True)
            with self._locked():
                if not _touch(folder):  # the process before may have made it
                    self._make_room(self.limit - size, {name, *in_use})
                    self._make(folder, make)
        return folder

    def _make(self, folder: Path, make: Callable[[Path], None]) -> None:
        partial = self.root / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        try:
            make(partial)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _make_room(self, limit: int, spared: set[str]) -> None:
        """Delete what was used least recently, down to a limit."""
        gone = self.root / GONE
        shutil.rmtree(gone, ignore_errors=True)
        found = [path for path in self.root.iterdir() if path.is_dir() and path.name[0] != "."]
        sizes = {path: sum(file.stat().st_size for file in path.rglob("*")) for path in found}
        for path in sorted(found, key=lambda path: path.stat().st_mtime_ns):
            if sum(sizes.values()) <= limit:
                return
            if path.name not in spared:
                path.rename(gone)  # a reader finds the whole folder or none
                shutil.rmtree(gone)
                del sizes[path]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.root / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _touch(folder: Path) -> bool:
    """Note that a folder is used; whether it is there."""
    try:
        os.utime(folder)
    except FileNotFoundError:
        return False
    return True
