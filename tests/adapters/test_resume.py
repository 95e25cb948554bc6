"""A killed conversion, resumed, ends as if it had never been killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from motus_adapters import UnifiedDataset, convert
from motus_embodiments import DataError

# Runs a conversion in a process of its own and, if asked, slows each episode down so that the
# test can kill it in between.
_RUN = """
import sys, time
from motus_adapters import conversion, label_dataset
source, out, workers, resume = sys.argv[1:5]
tell = lambda done, total, key: (print(done, flush=True), time.sleep(0.3))
if __name__ == "__main__":
    conversion.convert(source, out, card="pusht", codec=None, workers=int(workers),
                       resume=resume == "resume", on_progress=tell)
"""


def _start(script, *arguments):
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def undisturbed(pusht_source, tmp_path, layouts):
    convert(pusht_source, tmp_path / "calm", card="pusht", codec=None)
    return layouts.tree(tmp_path / "calm")


@pytest.mark.parametrize("workers", [1, 2])
def test_sigkill_and_resume(pusht_source, tmp_path, layouts, undisturbed, workers):
    script, out = tmp_path / "run.py", tmp_path / "set"
    script.write_text(_RUN)
    for kill_at in (1, 3):
        process = _start(script, pusht_source, out, workers, "resume")
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= kill_at:
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(DataError, match="half written"):
            UnifiedDataset(out)
    report = convert(pusht_source, out, card="pusht", codec=None, resume=True)
    assert report.resumed >= 3
    assert layouts.tree(out) == undisturbed


def test_no_worker_outlives_a_killed_parent(pusht_source, tmp_path):
    script, out = tmp_path / "run.py", tmp_path / "set"
    script.write_text(_RUN)
    process = _start(script, pusht_source, out, 2, "resume")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    children = _children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert children
    deadline = time.monotonic() + 10
    while any(_alive(child) for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(child) for child in children)


def test_interrupt_leaves_a_state_to_resume(pusht_source, tmp_path, layouts, undisturbed):
    out = tmp_path / "set"

    def interrupt(done, total, key):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(pusht_source, out, card="pusht", codec=None, workers=2, on_progress=interrupt)
    assert convert(pusht_source, out, card="pusht", codec=None, resume=True).resumed >= 2
    assert layouts.tree(out) == undisturbed


def _children(pid):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat:
                    fields = stat.read().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry))
    return found


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
