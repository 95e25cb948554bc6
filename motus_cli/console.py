"""What a person or a program sees: the result on stdout, everything else on stderr."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TextIO

from motus_cli import progress
from motus_cli.plain import document, plain, text
from motus_embodiments import MotusError

if TYPE_CHECKING:
    from rich.console import Console as Screen

SCHEMA_VERSION = 1
CELL = 60  # characters of a sentence in a table, in all columns but the last


@dataclass(frozen=True)
class Outcome:
    """What a command gives back: a report, and what to type next.

    Attributes:
        report: Any value of a lower floor; `--json` prints it as the document.
        show: The keys a person sees, in this order; None shows all.
        next: The next sensible command; None leaves it to the report's own `next`, if any.
        problem: Set when the work was done and what it found is bad (a failed check).
    """

    report: Any
    show: tuple[str, ...] | None = None
    next: str | None = None
    problem: MotusError | None = None


@dataclass(frozen=True)
class Console:
    """The one output layer of all commands, set by the options that all commands share."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False

    def progress(
        self, title: str, view: progress.View = progress.bar
    ) -> AbstractContextManager[progress.OnProgress]:
        """A context that gives the `on_progress(done, total, note)` of a lower floor.

        Args:
            title: What is going on.
            view: How it is drawn on a terminal.
        """
        if self.quiet:
            return progress.silence()
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            return view(_screen(sys.stderr), title)
        return progress.lines(sys.stderr, title)

    def note(self, message: str) -> None:
        """A remark for people, on stderr."""
        if not self.quiet:
            _say(sys.stderr, ("", message))

    def result(self, outcome: Outcome) -> None:
        """The result on stdout, as tables or as one JSON document; then what to do next."""
        body = document(outcome.report)
        following = outcome.next or body.pop("next", None)
        if self.json:
            _print_json(outcome.problem, body | ({"next": following} if following else {}))
            return
        keys = outcome.show or tuple(body)
        _print_tables({key: body[key] for key in keys if key in body})
        if outcome.problem:
            self.error(outcome.problem)
        elif following:
            self.note(f"\nnext: {following}")

    def error(self, error: MotusError) -> None:
        """What is wrong, a blank line, and the hint; one JSON document with --json."""
        if self.debug:
            sys.stderr.write("".join(traceback.format_exception(error)))
        if self.json:
            _print_json(error, {})
            return
        _say(sys.stderr, ("bold red", "error: "), ("", error.message))
        if error.hint:
            _say(sys.stderr, ("", "\n"), ("bold cyan", "hint: "), ("", error.hint))

    def set_up_logging(self) -> None:
        """Send log records and Python warnings to stderr, as many as the options ask for."""
        level = logging.ERROR if self.quiet else logging.INFO if self.verbose else logging.WARNING
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Sayer())
        logging.basicConfig(level=level, handlers=[handler])
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").setLevel(level if self.verbose else logging.ERROR)


class _Sayer(logging.Formatter):
    """Records of other packages with their name before them, ours as they are."""

    def format(self, record: logging.LogRecord) -> str:
        told = super().format(record)
        return told if record.name.startswith("motus_") else f"{record.name}: {told}"


def _print_json(error: MotusError | None, body: dict[str, Any]) -> None:
    head: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "ok": error is None}
    if error:
        names = ("code", "message", "hint", "where")
        head["error"] = {name: plain(getattr(error, name)) for name in names}
    sys.stdout.write(json.dumps(head | body, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def _screen(stream: TextIO) -> "Screen":
    """Rich on one stream: colour only on a terminal and without NO_COLOR, no guessing at markup."""
    from rich.console import Console as Screen

    width = None if stream.isatty() else 10_000
    return Screen(file=stream, width=width, markup=False, highlight=False, emoji=False)


def _say(stream: TextIO, *parts: tuple[str, str]) -> None:
    """Print styled parts as one line that a terminal wraps and a file does not."""
    if not stream.isatty():
        stream.write("".join(words for _, words in parts) + "\n")
        stream.flush()
        return
    from rich.text import Text

    _screen(stream).print(
        Text.assemble(*((words, style) for style, words in parts)), soft_wrap=True
    )


def _print_tables(body: dict[str, Any]) -> None:
    """Single values as one list of names and values; each list of records as a table of its own."""
    from rich.table import Table

    facts = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _facts(body):
        facts.add_row(name.replace("_", " "), text(value))
    tables = [_records_table(key, value) for key, value in body.items() if _is_records(value)]
    screen = _screen(sys.stdout)
    with screen.capture() as captured:
        for table in [facts, *tables] if facts.row_count else tables:
            screen.print(table)
    lines = captured.get().splitlines()
    sys.stdout.write("".join(line.rstrip() + "\n" for line in lines))
    sys.stdout.flush()


def _facts(body: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in body.items():
        if isinstance(value, dict) and value:
            yield from _facts(value, f"{prefix}{key} ")
        elif not _is_records(value):
            yield f"{prefix}{key}", value


def _is_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _is_nested(value: Any) -> bool:
    return (isinstance(value, dict) and bool(value)) or _is_records(value)


def _records_table(key: str, records: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    names = dict.fromkeys(name for record in records for name in record)
    # What is nested in a row is left to --json.
    columns = [n for n in names if not any(_is_nested(r.get(n)) for r in records)]
    table = Table(title=key.replace("_", " "), title_justify="left", box=None, pad_edge=False)
    for name in columns:
        numeric = all(isinstance(record.get(name), int | float | None) for record in records)
        table.add_column(name.replace("_", " "), justify="right" if numeric else "left")
    for record in records:
        cells = [text(record.get(name)) for name in columns]
        table.add_row(*map(_wrapped, cells[:-1]), *cells[-1:])
    return table


def _wrapped(cell: str) -> str:
    """Sentences in lines of their own, so that what stands beside them isn't far off."""
    lines = (
        wrap(line, CELL, break_long_words=False, break_on_hyphens=False)
        for line in cell.split("\n")
    )
    return "\n".join(part for line in lines for part in line)
