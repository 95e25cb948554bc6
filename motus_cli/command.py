"""The frame that every command runs in: common options, one kind of error, one way out."""

import errno
import inspect
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from typer.models import OptionInfo

from motus_cli.console import Console, Outcome
from motus_cli.options import COMMON
from motus_embodiments import DataError, MissingError, MotusError, UsageError


class StoppedError(MotusError):
    """Stopped by Ctrl-C or SIGTERM; what was finished is kept (exit 130)."""

    code = "interrupted"
    exit_code = 130


class InternalError(MotusError):
    """An error of ours, not the user's (exit 70)."""

    code = "internal"
    exit_code = 70


class DiskFullError(DataError):
    """No room left where the command writes (exit 4)."""

    code = "disk_full"


def command(function: Callable[..., Outcome]) -> Callable[..., int]:
    """Frame a command function for Typer.

    The function takes a Console first, then its own arguments and options, and returns an
    Outcome. The frame adds the common options, prints the outcome and gives the exit code;
    whatever goes wrong inside leaves as a MotusError, for `motus_cli.app.main` to print.
    """
    own = list(inspect.signature(function).parameters.values())[1:]

    def framed(*, json: bool, quiet: bool, verbose: bool, debug: bool, **arguments: Any) -> int:
        others = os.environ.get("RANK", "0") != "0"  # of a job of many processes, one speaks
        console = Console(json=json, quiet=quiet or others, verbose=verbose, debug=debug)
        console.set_up_logging()
        arguments = {name: _at_home(value) for name, value in arguments.items()}
        _check_finite(own, arguments)
        try:
            outcome = function(console, **arguments)
        except MotusError:
            raise
        except KeyboardInterrupt as error:
            raise _stopped("resume" in arguments and not arguments.get("to")) from error
        except Exception as error:
            raise explained(error, place=arguments.get("out") or arguments.get("run")) from error
        return 0 if others else _print(console, outcome)

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + list(COMMON)
    framed.__name__ = function.__name__
    framed.__doc__ = _flowing(function.__doc__ or "")
    framed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    framed.__annotations__ = {p.name: p.annotation for p in parameters}
    return framed


def _flowing(text: str) -> str:
    """A docstring without the line ends inside its paragraphs, which a help would keep."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _check_finite(own: list[inspect.Parameter], arguments: Mapping[str, Any]) -> None:
    """Refuse inf, which passes wherever an option has no upper bound, and nan where it has none."""
    for parameter in own:
        value = arguments[parameter.name]
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise UsageError(f"{_option(parameter)} is {number}", hint="give a finite number")


def _option(parameter: inspect.Parameter) -> str:
    """What a parameter is called on the command line; Typer keeps the first name as a default."""
    told = next((t for t in get_args(parameter.annotation) if isinstance(t, OptionInfo)), None)
    return parameter.name if told is None else str(told.default)


def _at_home(value: Any) -> Any:
    """Paths with their `~`, which a shell leaves alone in --out=~/data."""
    if isinstance(value, list):
        return [_at_home(item) for item in value]
    return Path(os.path.expanduser(value)) if isinstance(value, Path) else value


_REMEDIES = {
    errno.EROFS: "name a place that can be written to",
    errno.EACCES: "you may not use it (`ls -ld` shows who may); name another place",
    errno.EPERM: "you may not change it (`ls -ld` and `lsattr` show why); name another place",
    errno.ENOENT: "see whether its name is right, and its folder there",
    errno.ENOTDIR: "a part of this path is a file; name another place",
    errno.EISDIR: "this is a folder; name a file",
}


def explained(error: Exception, place: object = None) -> MotusError:
    """The MotusError that says what `error` means to a user.

    Args:
        error: Anything a lower floor let through.
        place: Where the command was writing, when the error itself does not know.
    """
    told = str(error)
    number = error.errno if isinstance(error, OSError) else None
    file = getattr(error, "filename", None) or place
    where = None if file is None else str(file)
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in told:
        target = where or os.getcwd()
        return DiskFullError(
            f"no space left on the disk of '{target}'",
            hint="free some space, then run the same command again with --resume or --force",
            where=target,
        )
    if isinstance(error, OSError) and error.filename is not None:
        return DataError(
            f"'{where}': {error.strerror}", hint=_REMEDIES.get(error.errno or 0), where=where
        )
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("motus_"):
        hint = "`motus doctor` says how to install it"
        return MissingError(f"the package '{error.name}' is not installed", hint=hint)
    summary = told.splitlines()[0] if told.strip() else "no message"
    return InternalError(
        f"internal error: {type(error).__name__}: {summary}",
        hint="run again with --debug for the traceback",
        where=where,
    )


def _stopped(is_resumable: bool) -> StoppedError:
    hint = "continue with the same command and --resume" if is_resumable else None
    return StoppedError("interrupted", hint=hint)


def _print(console: Console, outcome: Outcome) -> int:
    """Print the outcome; a reader that went away (`| head`) does not undo the work."""
    try:
        console.result(outcome)
    except BrokenPipeError:
        print_nowhere()
    return outcome.problem.exit_code if outcome.problem else 0


def print_nowhere() -> None:
    """Let go what is left to print for a reader that went away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
