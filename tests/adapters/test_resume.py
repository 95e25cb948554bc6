"""A killed conversion, resumed, ends as if it had never been killed."""

import os
import signal
import subprocess
import sys
import time

import pytest

from motus_adapters import UnifiedDataset, convert
from motus_embodiments import DataError, MismatchError

# Runs a conversion in a process of its own and, if asked, slows each episode down so that the
# test can kill it in between.
_RUN = """
import sys, time
from motus_adapters.conversion import episodes as conversion
from motus_adapters import label_dataset
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


# Conversions with two workers, each killed after a share of the time that an undisturbed one takes:
# all of its processes at once, or one worker, or the parent alone. Forked, and all readers are
# there before, so that no time goes into imports. Prints the kills that left nothing to resume,
# and those that came out differently.
_KILLS = """
import filecmp, multiprocessing, os, random, shutil, signal, sys, time
from pathlib import Path
from motus_adapters.conversion import episodes as conversion
from motus_adapters import workers
from motus_adapters.readers import FORMATS, get_reader
import pandas
for name in FORMATS:
    get_reader(name)

source, calm, base, kills = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
fork = multiprocessing.get_context("fork")
workers.multiprocessing.get_context = lambda kind: fork

def start(out):
    child = os.fork()
    if child:
        return child
    os.setpgid(0, 0)
    try:
        conversion.convert(source, out, card="pusht", codec=None, workers=2, resume=True)
        os._exit(0)
    except BaseException:
        os._exit(1)

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def workers_of(parent):
    return [int(p) for p in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]

def same(a, b):
    files = [{p.relative_to(f) for p in f.rglob("*") if p.is_file()} for f in (a, b)]
    return files[0] == files[1] and not filecmp.cmpfiles(a, b, files[0], shallow=False)[1]

begun = time.monotonic()
assert end(start(base / "timed")) == 0 and same(base / "timed", calm)
whole, draw, late, bad = time.monotonic() - begun, random.Random(0), 0, []
for kill in range(kills):
    out = base / str(kill)
    child = start(out)
    time.sleep(whole * (kill + draw.random()) / kills)
    try:
        victims = workers_of(child)
        if kill % 3 == 0 or not victims:
            os.killpg(child, signal.SIGKILL)
        else:
            os.kill(child if kill % 3 == 1 else draw.choice(victims), signal.SIGKILL)
    except (OSError, ProcessLookupError):
        pass
    late += end(child) == 0
    if end(start(out)) != 0 or not same(out, calm):
        bad.append(kill)
    shutil.rmtree(out)
print(late, bad)
"""


@pytest.mark.parametrize("kills", [9, pytest.param(200, marks=pytest.mark.slow)])
def test_killed_at_any_moment_with_two_workers(pusht_source, tmp_path, undisturbed, kills):
    (tmp_path / "kills.py").write_text(_KILLS)
    arguments = [tmp_path / "kills.py", pusht_source, tmp_path / "calm", tmp_path, kills]
    ran = subprocess.run(
        [sys.executable, *map(str, arguments)], stdout=subprocess.PIPE, text=True, timeout=1200
    )
    late, _, bad = ran.stdout.partition(" ")
    assert bad.strip() == "[]"
    assert int(late) < kills / 2, "most kills must hit a run that is still at work"


def test_a_byte_that_the_hash_does_not_sample(layouts, tmp_path, monkeypatch):
    """A large file that changed while the conversion was cut short is refused by its name."""
    monkeypatch.setattr("motus_adapters.readers.base._SAMPLED_OVER", 1000)
    monkeypatch.setattr("motus_adapters.readers.base._SAMPLE", 16)
    monkeypatch.setattr("motus_adapters.readers.base._SAMPLES", 2)
    truths = [layouts.truth(i, ("top",), (14, 14)) for i in range(3)]
    source, out = layouts.act(tmp_path / "act", truths), tmp_path / "set"
    options = {"card": "aloha", "codec": None, "allow": {"motion"}}

    def interrupt(done, total, key):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, out, **options, on_progress=interrupt)
    file = source / "episode_1.hdf5"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(MismatchError, match=r"changed.*episode_1\.hdf5"):
        convert(source, out, **options, resume=True)
    convert(source, out, **options, force=True)


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
