"""Outward conversion killed, on a full disk, twice at once, and with much data in little memory."""

import errno
import os
import subprocess
import sys
import threading
import time

import pytest
from layouts.unified import write_unified

from motus_adapters import LAYOUTS, convert_out, open_source
from motus_embodiments import DataError, UsageError

LENGTHS = (9, 5, 12)
NAMES = {"lerobot-v2.1": "set", "robomimic": "demos.hdf5", "replay-buffer": "replay.zarr"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_unified(tmp_path_factory.mktemp("data") / "set", "aloha", LENGTHS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_and_run_again(tmp_path, layout):
    dataset = write_unified(tmp_path / "set", "aloha", (60,) * 6)
    out = tmp_path / "out" / NAMES[layout]
    code = "import sys; from motus_adapters import convert_out; convert_out(*sys.argv[1:])"
    run = subprocess.Popen([sys.executable, "-c", code, dataset, out, layout])
    beside = out.parent / f".{out.name}.partial" / "result"
    until = time.monotonic() + 60
    while not beside.exists() and run.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    run.kill()
    run.wait()
    assert not out.exists()
    convert_out(dataset, out, layout)
    assert [p.name for p in out.parent.iterdir()] == [out.name]
    assert len(open_source(out)[1]) == 6


def test_two_runs_do_not_write_at_once(dataset, tmp_path):
    inside, go_on = threading.Event(), threading.Event()

    def wait(*_):
        inside.set()
        go_on.wait(20)

    first = threading.Thread(
        target=convert_out,
        args=(dataset, tmp_path / "r.hdf5", "robomimic"),
        kwargs={"on_progress": wait},
    )
    first.start()
    try:
        assert inside.wait(20)
        with pytest.raises(UsageError, match="another process"):
            convert_out(dataset, tmp_path / "r.hdf5", "robomimic")
    finally:
        go_on.set()
        first.join()
    assert len(open_source(tmp_path / "r.hdf5")[1]) == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.parametrize(
    ("layout", "kilobytes"), [*((layout, 40) for layout in LAYOUTS), ("robomimic", 1050)]
)
def test_full_disk(tmp_path, layout, kilobytes):
    """The larger disk is full somewhere inside an HDF5 file, which is another way out."""
    dataset = write_unified(tmp_path / "set", "aloha", (30,) * 3)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        code = (
            "import sys; from motus_cli.app import main\n"
            f"sys.exit(main(['convert', {str(dataset)!r}, {str(disk / NAMES[layout])!r},"
            f" '--to', {layout!r}]))"
        )
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert ran.returncode == 4, ran.stderr
        assert "no space left" in ran.stderr
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_full_disk_without_root(dataset, tmp_path, monkeypatch):
    def fsync(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("motus_adapters.files.os.fsync", fsync)
    with pytest.raises(DataError, match="no space left"):
        convert_out(dataset, tmp_path / "r.hdf5", "robomimic")
    assert list(tmp_path.iterdir()) == []


_PEAK = """
import resource, sys
from motus_adapters import convert_out
convert_out(sys.argv[1], sys.argv[2], sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_does_not_grow_with_episodes_or_frames(tmp_path, layout):
    """250 frames in 5 episodes, and 2,000 in 20: the frames alone would be 24 MB more."""
    peaks: list[float] = []
    for count, length in ((5, 50), (20, 100)):
        source = write_unified(tmp_path / f"{count}", "aloha", (length,) * count)
        command = [sys.executable, "-c", _PEAK, source, tmp_path / f"{count}-out", layout]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(int(ran.stdout) / 1024)
    assert peaks[1] - peaks[0] < 12, peaks
