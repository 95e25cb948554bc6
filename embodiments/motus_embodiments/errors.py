"""The one family of errors that a user can mend."""

import difflib
from collections.abc import Iterable


class MotusError(Exception):
    """Something a user can put right; everything else is our own defect.

    Args:
        message: What is wrong, with the value and the place.
        hint: What to do next, or the nearest valid name.
        where: The file, episode or key the error is about.
    """

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip back from a worker process with hint and place."""
        return (_rebuild, (type(self), self.message, self.hint, self.where))


def _rebuild(
    kind: type[MotusError], message: str, hint: str | None, where: str | None
) -> MotusError:
    return kind(message, hint=hint, where=where)


class MismatchError(MotusError):
    """Two things that must agree do not (exit 1)."""

    code = "mismatch"
    exit_code = 1


class UsageError(MotusError):
    """A wrong option, name or configuration value (exit 2)."""

    code = "usage"
    exit_code = 2


class MissingError(MotusError):
    """An optional dependency or device that is not here (exit 3)."""

    code = "missing"
    exit_code = 3


class DataError(MotusError):
    """A file or recording that cannot be what it claims to be (exit 4)."""

    code = "bad_data"
    exit_code = 4


def nearest(name: str, options: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest valid one, or all of them."""
    options = sorted(options)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(options)}" if options else "none is known here"
