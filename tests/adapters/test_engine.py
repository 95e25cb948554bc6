"""What the engine promises: bounded memory, one decode of a frame, workers and clusters alike."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from motus_adapters import UnifiedDataset, convert
from motus_adapters.workers import run
from motus_embodiments import DataError, MotusError, UsageError

# Conversions one after the other in one process. Prints the peak of resident memory that each
# adds to what the process holds after a first, small one, in MB; the kernel keeps the cap.
_PEAKS = """
import json, resource, sys
from pathlib import Path
import cv2
from motus_adapters import convert
from motus_embodiments import Card

def kilobytes(field):
    return int(Path("/proc/self/status").read_text().partition(field + ":")[2].split()[0])

def run(source, out):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    convert(source, out, card=card, codec=None, rate=10, task="go")
    return kilobytes("VmHWM")

cv2.setNumThreads(1)
base, card, cap = Path(sys.argv[1]), Card.model_validate_json(sys.argv[2]), int(sys.argv[3])
run(base / "first.hdf5", base / "first")
held = kilobytes("VmRSS")
room = (kilobytes("VmData") + cap * 1024) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (room, room))
peaks = {name: (run(base / f"{name}.hdf5", base / name) - held) / 1024 for name in sys.argv[4:]}
print(json.dumps(peaks))
"""
CAP = 50  # MB
STAGE = {
    "name": "stage",
    "title": "A stage",
    "arms": [{"side": "left", "joints": [{"name": n, "unit": "m", "axis": n} for n in ("x", "y")]}],
    "cameras": [{"name": "top", "role": "head"}],
    "rate": 10,
    "action": {"representation": "joint_position"},
}


def write_demos(path, episodes, frames, size):
    """robomimic's layout; a few pictures over and over, so that writing is quick."""
    wave = np.sin(np.arange(size[1]) / 5)[None, :, None] * np.ones((*size, 3))
    pictures = [(128 + 90 * np.roll(wave, 3 * i, 1)).astype(np.uint8) for i in range(8)]
    with h5py.File(path, "w") as h5:
        h5.create_group("data").attrs["env_args"] = "{}"
        for i in range(episodes):
            demo = h5.create_group(f"data/demo_{i}")
            demo.attrs["num_samples"] = frames
            values = np.linspace(0, 1, 2 * frames).reshape(frames, 2) + i
            demo["actions"] = demo["obs/robot0_joint_pos"] = values.astype(np.float32)
            images = demo.create_dataset(
                "obs/top", (frames, *size, 3), np.uint8, chunks=(1, *size, 3), compression="gzip"
            )
            for t in range(frames):
                images[t] = pictures[t % 8]


def peaks_of(base, names):
    (base / "peaks.py").write_text(_PEAKS)
    arguments = [base / "peaks.py", base, json.dumps(STAGE), CAP, *names]
    ran = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' /proc")
def test_memory_grows_neither_with_episodes_nor_with_their_length(tmp_path):
    write_demos(tmp_path / "first.hdf5", 3, 20, (120, 160))
    write_demos(tmp_path / "few.hdf5", 20, 5, (120, 160))
    write_demos(tmp_path / "many.hdf5", 200, 5, (120, 160))
    write_demos(tmp_path / "short.hdf5", 1, 400, (120, 160))
    write_demos(tmp_path / "long.hdf5", 1, 1500, (120, 160))
    peaks = peaks_of(tmp_path, ("few", "many", "short", "long"))
    assert all(peak < CAP for peak in peaks.values()), peaks
    assert peaks["many"] < peaks["few"] + 20, peaks  # 52 MB of pictures more
    assert peaks["long"] < peaks["short"] + 20, peaks  # 63 MB of pictures more


@pytest.fixture(scope="module")
def small_codec(tmp_path_factory):
    import torch

    from motus_model import CodecConfig, LatentActionCodec

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("codec")
    LatentActionCodec(CodecConfig(widths=(4, 4, 4), hidden=8)).save(folder, {})
    return folder


def test_a_frame_is_decoded_once(layouts, tmp_path, monkeypatch, small_codec):
    """Canvas, video, statistics and flow share it; the first frame is looked at for its size."""
    cameras = ("cam_high", "cam_left_wrist")
    truths = [layouts.truth(i, cameras, (14, 14)) for i in range(3)]
    source = layouts.act(tmp_path / "act", truths, compress=True)
    decode, count = cv2.imdecode, 0

    def counting(*arguments):
        nonlocal count
        count += 1
        return decode(*arguments)

    monkeypatch.setattr(cv2, "imdecode", counting)
    report = convert(source, tmp_path / "set", card="aloha", codec=small_codec, allow={"motion"})
    assert "latent_action" in UnifiedDataset(tmp_path / "set").meta.channels
    assert count == report.frames * len(cameras) + len(cameras)


def test_workers_change_no_byte(pusht_source, tmp_path, layouts):
    for workers in (1, 2, 3):
        convert(pusht_source, tmp_path / str(workers), card="pusht", codec=None, workers=workers)
    trees = [layouts.tree(tmp_path / str(workers)) for workers in (1, 2, 3)]
    assert trees[0] == trees[1] == trees[2]


@pytest.mark.parametrize(("workers", "engine"), [(-1, "local"), (1, "slurm")])
def test_wrong_engine_leaves_nothing(pusht_source, tmp_path, workers, engine):
    with pytest.raises(UsageError):
        convert(pusht_source, tmp_path / "s", card="pusht", workers=workers, engine=engine)
    assert not (tmp_path / "s").exists()


def _die_once(arguments):
    """Kills its own process on the first call for a number."""
    folder, number = arguments
    first = Path(folder) / str(number)
    if number == 2 and not first.exists():
        first.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        raise DataError("five", hint="leave it out", where="five")
    return number


def test_a_killed_local_worker_is_told(tmp_path):
    with pytest.raises(MotusError, match="was killed") as caught:
        list(run(_die_once, [(tmp_path, n) for n in range(5)], 2))
    assert "--resume" in caught.value.hint


# Ray starts slowly: one script does all that is to be seen, on one cluster of two workers.
_RAY = """
import json, os, signal, sys, threading, time
from pathlib import Path
import psutil, ray
from motus_adapters import convert
from motus_embodiments import DataError

source, bad, base = map(Path, sys.argv[1:])
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)

def kill_one_worker():
    for _ in range(600):
        found = [p for p in psutil.process_iter(["name", "cmdline"])
                 if "_write_one" in " ".join(p.info["cmdline"] or ())
                 and me in [q.pid for q in p.parents()]]
        if found:
            found[0].send_signal(signal.SIGKILL)
            killed.append(found[0].pid)
            return
        time.sleep(0.01)

me, killed = os.getpid(), []
convert(source, base / "calm-ray", card="pusht", codec=None, workers=2, engine="ray")
thread = threading.Thread(target=kill_one_worker)
thread.start()
convert(source, base / "killed-ray", card="pusht", codec=None, workers=2, engine="ray")
thread.join()
try:
    convert(bad, base / "bad", card="pusht", codec=None, workers=2, engine="ray")
except DataError as error:
    told = error.message
print(json.dumps({"killed": len(killed), "told": told}))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: the extra `ray`")
def test_a_ray_cluster_writes_the_same_bytes(layouts, tmp_path):
    truths = [layouts.truth(i % 5, ("img",), (2, 2), size=(96, 128)) for i in range(24)]
    for truth in truths:
        truth.state[:] += 200
        truth.action[:] += 200
    source = layouts.zarr(tmp_path / "source.zarr", truths)
    convert(source, tmp_path / "calm", card="pusht", codec=None)
    bad = layouts.zarr(tmp_path / "bad.zarr", truths[:6])
    chunk = next((bad / "data/img").glob("[1-9]*"))
    chunk.write_bytes(chunk.read_bytes()[:50])
    (tmp_path / "on_ray.py").write_text(_RAY)
    arguments = [tmp_path / "on_ray.py", source, bad, tmp_path]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    ran = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["killed"] == 1
    assert "img" in told["told"]
    for name in ("calm-ray", "killed-ray"):
        assert layouts.tree(tmp_path / name) == layouts.tree(tmp_path / "calm")
