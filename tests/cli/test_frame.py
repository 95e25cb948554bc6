"""The frame of all commands: documents, exit codes, errors, interruption."""

import errno
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console as Screen

import motus_adapters
from motus_cli.progress import Pace, bar, lines
from motus_embodiments import DataError, MismatchError, MissingError, UsageError

CONVERT = ("convert", "recordings", "data/pick", "--embodiment", "franka")


@dataclass(frozen=True)
class Report:
    path: Path
    episodes: int
    share: float
    sources: tuple[dict[str, object], ...] = ()


@pytest.fixture
def converting(monkeypatch):
    """Put a function in the place of the conversion room."""

    def put(function):
        monkeypatch.setitem(vars(motus_adapters), "convert", function)

    return put


def fails_with(error):
    def convert(*_args, **_options):
        raise error

    return convert


def test_a_report_is_printed_as_a_table_with_the_next_command_on_stderr(motus, converting):
    report = Report(Path("data/pick"), 1200, 0.51234, ({"name": "a", "frames": 7},))
    converting(lambda *_args, **_options: report)
    ran = motus(*CONVERT)
    assert ran.code == 0
    assert "1,200" in ran.out
    assert "0.5123" in ran.out
    assert "frames" in ran.out
    assert "next:" not in ran.out
    assert "next: motus train --recipe full" in ran.err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("serve", "policies/a"), "--message"),
        (CONVERT, "--rate"),
        (("label", "data/a"), "--rate"),
        (("plan",), "--utilisation"),
    ],
)
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_is_refused(motus, converting, command, option, number):
    converting(lambda *_args, **_options: Report(Path("data/pick"), 3, 0.5))
    ran = motus(*command, option, number, "--json")
    assert ran.code == 2
    assert ran.document["error"]["code"] == "usage"
    assert option in ran.document["error"]["message"]


def test_json_is_one_document_and_nan_is_null(motus, converting):
    converting(lambda *_args, **_options: Report(Path("data/pick"), 3, float("nan")))
    ran = motus(*CONVERT, "--json")
    assert ran.code == 0
    assert ran.document["schema_version"] == 1
    assert ran.document["ok"] is True
    assert ran.document["share"] is None
    assert ran.document["path"] == "data/pick"


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (MismatchError("m", hint="h"), 1, "mismatch"),
        (UsageError("m", hint="h"), 2, "usage"),
        (MissingError("m", hint="h"), 3, "missing"),
        (DataError("m", hint="h", where="a.hdf5"), 4, "bad_data"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "disk_full"),
        (RuntimeError("write failed: No space left on device"), 4, "disk_full"),
        (PermissionError(errno.EACCES, "Permission denied", "data/pick"), 4, "bad_data"),
        (ModuleNotFoundError("No module named 'gym'", name="gym"), 3, "missing"),
        (ZeroDivisionError("oh"), 70, "internal"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_each_error_has_its_exit_code_and_document(motus, converting, error, code, name):
    converting(fails_with(error))
    ran = motus(*CONVERT, "--json")
    assert ran.code == code
    assert ran.document["ok"] is False
    assert ran.document["error"]["code"] == name
    assert set(ran.document["error"]) == {"code", "message", "hint", "where"}


def test_an_error_is_two_lines_with_a_blank_one_between(motus, converting):
    converting(fails_with(UsageError("no embodiment named 'frankaa'", hint="did you mean it?")))
    ran = motus(*CONVERT)
    assert ran.out == ""
    assert ran.err == "error: no embodiment named 'frankaa'\n\nhint: did you mean it?\n"


def test_a_full_disk_names_the_place(motus, converting):
    converting(fails_with(OSError(errno.ENOSPC, "No space left on device")))
    ran = motus(*CONVERT)
    assert "error: no space left on the disk of 'data/pick'" in ran.err


def test_a_place_that_may_only_be_read_is_named_with_a_way_out(motus, converting):
    converting(fails_with(OSError(errno.EROFS, "Read-only file system", "data/pick")))
    ran = motus(*CONVERT)
    assert ran.err.startswith("error: 'data/pick': Read-only file system\n\nhint: name a place")


def test_a_traceback_is_shown_only_with_debug(motus, converting):
    converting(fails_with(ZeroDivisionError("oh")))
    ran = motus(*CONVERT)
    assert "Traceback" not in ran.err
    assert "error: internal error: ZeroDivisionError: oh" in ran.err
    assert "hint: run again with --debug for the traceback" in ran.err
    assert "Traceback" in motus(*CONVERT, "--debug").err


def test_what_begins_anew_says_nothing_of_resuming(motus, monkeypatch):
    monkeypatch.setitem(vars(motus_adapters), "convert_out", fails_with(KeyboardInterrupt()))
    ran = motus("convert", "data/pick", "out.hdf5", "--to", "robomimic")
    assert (ran.code, "--resume" in ran.err) == (130, False)


def test_our_own_warnings_are_told_without_a_modules_name(capfd):
    code = (
        "import logging; from motus_cli.console import Console; Console().set_up_logging(); "
        "[logging.getLogger(n).warning('oh') for n in ('motus_embodiments.x', 'other')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert capfd.readouterr().err == "oh\nother: oh\n"


def test_an_interrupted_command_says_how_to_continue(motus, converting):
    converting(fails_with(KeyboardInterrupt()))
    ran = motus(*CONVERT, "--force")
    assert ran.err.startswith("error: interrupted\n")
    assert (
        "hint: continue with `motus convert recordings data/pick --embodiment franka --resume`"
        in ran.err
    )


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["convrt"], "no such command 'convrt'", "did you mean 'convert'?"),
        (["convert", "a", "b", "--forse"], "no such option: --forse", "did you mean '--force'?"),
        (["convert", "a"], "missing argument 'out'", "`motus convert --help` lists what is"),
        (["embodiments", "shw"], "no such command 'shw'", "did you mean 'show'?"),
        (["sample", "a", "--dataset", "b", "--mode", "jont"], "'jont'", "did you mean 'joint'?"),
        (["train", "--data", "target"], "--data 'target' is not SOURCE=PATH", "data/pick"),
        (["record", "--env", "e", "--out", "o"], "nothing was named to drive", "add --expert"),
    ],
)
def test_usage_errors_are_ours_too(motus, arguments, message, hint):
    ran = motus(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert message in ran.err
    assert hint in ran.err
    document = motus(*arguments, "--json").document
    assert document["error"]["code"] == "usage"
    assert message in document["error"]["message"]


def test_motus_alone_prints_its_help(motus):
    ran = motus()
    assert ran.code == 0
    assert "convert" in ran.out


def test_quiet_prints_the_result_and_nothing_else(motus, converting):
    def convert(*_args, on_progress, **_options):
        on_progress(1, 1, "")
        return Report(Path("d"), 1, 0.5)

    converting(convert)
    ran = motus(*CONVERT, "--quiet")
    assert ran.err == ""
    assert "0.5" in ran.out


STOPPABLE = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # background of a script ignores it
import motus_adapters
def convert(*args, **options):
    print("ready", file=sys.stderr, flush=True)
    time.sleep(60)
motus_adapters.convert = convert
sys.argv = ["motus", "convert", "a", "b", "-e", "franka"]
from motus_cli.app import main
sys.exit(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_with_130(number):
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPABLE], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert err.startswith("error: interrupted")
    assert "--resume" in err


BROKEN_PIPE = """
import sys
import motus_adapters
motus_adapters.convert = lambda *args, **options: {"rows": [{"n": n} for n in range(100000)]}
from motus_cli.app import main
sys.exit(main(["convert", "a", "b", "-e", "franka", "--json"]))
"""


def test_a_reader_that_goes_away_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-c", BROKEN_PIPE], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(timeout=30) == 0
    assert err == b""


MOTUS = [sys.executable, "-c", "import sys; from motus_cli.app import main; sys.exit(main())"]


@pytest.mark.parametrize("arguments", [[], ["--version"], ["train", "--help"]])
def test_a_reader_of_help_that_goes_away_is_no_error(arguments):
    here, there = os.pipe()
    os.close(here)
    ran = subprocess.run([*MOTUS, *arguments], stdout=there, stderr=subprocess.PIPE, check=False)
    os.close(there)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_nothing_to_print_on_is_no_error():
    command = f"{shlex.join([*MOTUS, 'recipes', 'list'])} >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], check=False).returncode == 0


def test_letters_that_the_locale_lacks_are_escaped(tmp_path):
    (tmp_path / "recipes").mkdir()
    text = "name: mine\nsize: tiny\ntitle: K\xe4fig\n"
    (tmp_path / "recipes" / "mine.yaml").write_text(text, encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    ran = subprocess.run(
        [*MOTUS, "recipes", "list"],
        cwd=tmp_path,
        env=os.environ | plain,
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert b"K\\xe4fig" in ran.stdout


def test_no_colour_reaches_a_file_or_a_careful_terminal(motus, converting, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    converting(fails_with(UsageError("m", hint="h")))
    assert "\x1b" not in motus(*CONVERT).err


def test_a_failed_check_prints_its_findings_and_the_error_in_one_document(motus, monkeypatch):
    from motus_cli import doctor

    monkeypatch.setattr(doctor, "REQUIRED_PACKAGES", ("no-such-package",))
    ran = motus("doctor", "--json")
    assert ran.code == 3
    assert ran.document["error"]["code"] == "missing"
    assert any(check["name"] == "no-such-package" for check in ran.document["checks"])
    assert os.isatty(0) or json.loads(ran.out)["ok"] is False


def test_progress_off_a_terminal_is_a_line_with_rate_and_time_left(capsys):
    now = 0.0
    with lines(sys.stderr, "train", clock=lambda: now) as on_progress:
        for step in range(41):
            on_progress(step, 80, "stage 1")
            now += 0.25
    assert capsys.readouterr().err.splitlines() == [
        "train (stage 1): 20/80  25 %  4/s  15 s left",
        "train (stage 1): 40/80  50 %  4/s  10 s left",
    ]


def test_pace_of_a_resumed_run_counts_only_its_own_work():
    now = time.monotonic()
    pace = Pace(clock=lambda: now)
    pace.update(900, 1000)
    now += 10
    pace.update(910, 1000)
    assert pace.rate == pytest.approx(1.0)
    assert pace.left == pytest.approx(90.0)


def test_progress_on_a_terminal_is_a_bar_with_rate_and_time_left():
    screen = Screen(file=io.StringIO(), force_terminal=True, width=100)
    with bar(screen, "train") as on_progress:
        for step in range(4):
            on_progress(step, 10, "stage 1")
            time.sleep(0.01)
        time.sleep(0.2)
    drawn = screen.file.getvalue()
    assert "train (stage 1)" in drawn
    assert "3/10  30 %" in drawn
    assert "/s" in drawn
    assert "left" in drawn
