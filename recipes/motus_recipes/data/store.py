"""A bounded folder of tensors by name, shared by any number of processes.

An entry is one safetensors file, written beside its place and renamed into it: a reader finds it
whole or not at all, and two writers of one name write the same. Past the limit, those entries go
that were used least recently. What is gone or damaged is made anew.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]

# A writer counts the folder each time it has written so much of the limit, and makes room down
# to the share: four writers at once stay below the limit, more may pass it by this step each.
STEP = 1 / 16
SHARE = 3 / 4


class TensorStore:
    """Entries by name.

    Args:
        folder: Of this store alone.
        limit: Bytes; 0 keeps nothing.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self._uncounted = float("inf")  # bytes written since the folder was counted

    def get(self, name: str, make: Callable[[], Tensors]) -> Tensors:
        """The entry of a name; made, and kept, where there is none.

        Args:
            name: A relative path, which must name the content.
            make: Gives the tensors, on the CPU.
        """
        path = self.folder / f"{name}.safetensors"
        if self.limit:
            try:
                found: Tensors = load_file(path)
                os.utime(path)
            except (OSError, SafetensorError, RuntimeError):
                pass  # RuntimeError: torch opens the file a second time, and by then it was gone
            else:
                return found
        tensors = make()
        if self.limit:
            self._keep(path, tensors)
        return tensors

    def _keep(self, path: Path, tensors: Tensors) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{os.getpid()}.{path.name}")  # counted, too, if it is left
        try:
            save_file({key: value.contiguous() for key, value in tensors.items()}, partial)
            with suppress(FileNotFoundError):  # taken for one that was left, by who made room
                self._uncounted += partial.stat().st_size
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        if self._uncounted > STEP * self.limit:
            self._make_room()
            self._uncounted = 0

    def _make_room(self) -> None:
        """Delete what was used least recently, if there is too much."""
        entries = []
        for path in self.folder.rglob("*.safetensors"):
            try:
                state = path.stat()
            except FileNotFoundError:  # another process made room
                continue
            entries.append((state.st_mtime_ns, state.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total <= (1 - STEP) * self.limit:
            return
        for _, size, path in sorted(entries):
            path.unlink(missing_ok=True)
            total -= size
            if total <= SHARE * self.limit:
                return
