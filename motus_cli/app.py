"""The `motus` command: all commands by name, and the one place where errors are printed."""

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from io import TextIOWrapper
from types import FrameType
from typing import Annotated

from typer import Context, Exit, Option, Typer
from typer.exceptions import TyperException

from motus_cli import embodiments, recipes, sim
from motus_cli.add_embodiment import add_embodiment
from motus_cli.anchor import anchor
from motus_cli.command import StoppedError, command, explained, print_nowhere
from motus_cli.compare import compare
from motus_cli.console import Console, Outcome
from motus_cli.convert import convert
from motus_cli.demo import demo
from motus_cli.doctor import doctor
from motus_cli.eval import evaluate
from motus_cli.export import export
from motus_cli.import_ import import_
from motus_cli.inspection import inspect
from motus_cli.label import label
from motus_cli.plan import plan
from motus_cli.record import record
from motus_cli.report import report
from motus_cli.sample import sample
from motus_cli.score import score
from motus_cli.serve import serve
from motus_cli.train import train
from motus_embodiments import MotusError, UsageError, nearest

app = Typer(
    name="motus",
    help="Robot recordings in, policies out.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, dict[str, Callable[..., Outcome]]] = {
    "Robots and data": {
        "add-embodiment": add_embodiment,
        "anchor": anchor,
        "record": record,
        "convert": convert,
        "label": label,
        "inspect": inspect,
    },
    "Policies": {
        "plan": plan,
        "train": train,
        "sample": sample,
        "import": import_,
        "export": export,
        "eval": evaluate,
        "score": score,
        "compare": compare,
        "report": report,
        "serve": serve,
    },
    "Getting around": {
        "demo": demo,
        "doctor": doctor,
    },
}
for panel, members in COMMANDS.items():
    for name, function in members.items():
        app.command(name, rich_help_panel=panel)(command(function))
app.add_typer(embodiments.group, name="embodiments", rich_help_panel="Robots and data")
app.add_typer(sim.group, name="sim", rich_help_panel="Robots and data")
app.add_typer(recipes.group, name="recipes", rich_help_panel="Policies")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        sys.stdout.write(f"motus {version('motus-cli')}\n")
        sys.stdout.flush()
        raise Exit


@app.callback()
def _global_options(
    context: Context,
    version: Annotated[
        bool,
        Option("--version", callback=_print_version, is_eager=True, help="Print the version"),
    ] = False,
) -> None:
    """Robot recordings in, policies out."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help())
        sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and give its exit code (docs/reference/cli.md lists them)."""
    if arguments is None:
        signal.signal(signal.SIGTERM, _as_ctrl_c)
        _make_printable()
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = given[: given.index("--")] if "--" in given else given
    console = Console(json="--json" in options, debug="--debug" in options)
    try:
        return int(app(given, prog_name="motus", standalone_mode=False) or 0)
    except SystemExit as error:
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        print_nowhere()  # the reader of a help went away
        return 0
    except StoppedError as error:
        if error.hint:
            again = [argument for argument in given if argument not in ("--force", "--resume")]
            error.hint = f"continue with `motus {shlex.join(again)} --resume`"
        problem: MotusError = error
    except MotusError as error:
        problem = error
    except TyperException as error:
        problem = _usage_error(error)
    except Exception as error:
        problem = explained(error)
        problem.__cause__ = error
    console.error(problem)
    return problem.exit_code


def _make_printable() -> None:
    """Print nowhere where a stream is closed, and as escapes what the locale has no letters for."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _as_ctrl_c(_signal: int, _frame: FrameType | None, owner: int = os.getpid()) -> None:
    """Treat SIGTERM as Ctrl-C in this process; a forked worker simply ends."""
    if os.getpid() != owner:
        os._exit(128 + signal.SIGTERM)
    raise KeyboardInterrupt


# Where Typer's sentence goes over from what was wrong to what would have been right.
_LISTING = re.compile(r" is not one of |\s*\(Possible options: |\. Did you mean ")
_NAME = re.compile(r"[\w-]+")


def _usage_error(error: TyperException) -> MotusError:
    """Typer's words in the form of ours: the nearest of the names it lists becomes the hint."""
    told = error.format_message().replace("Value error, ", "").rstrip(".")
    path = getattr(getattr(error, "ctx", None), "command_path", "motus")
    hint = f"`{path} --help` lists what is possible"
    listing = _LISTING.search(told)
    if listing:
        wrong = _NAME.findall(told[: listing.start()])[-1]
        hint = nearest(wrong, _NAME.findall(told[listing.end() :]))
        if "not one of" not in listing.group():
            told = told[: listing.start()]
    return UsageError(told[:1].lower() + told[1:], hint=hint, where=path)


if __name__ == "__main__":
    sys.exit(main())
