"""Recordings of experts: what is kept, what is counted, and what stays when something fails."""

import os
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from motus_adapters import SimulatorError, check_record, open_source, record, recording
from motus_adapters.sims import installing
from motus_adapters.sims.catalogue import Family
from motus_adapters.sims.worker import SERVE, Worker, WorkerSimulator
from motus_embodiments import DataError, MissingError, UsageError

HOST = Path(__file__).with_name("sim_host.py")


def point(task, size, steps=20):
    command = [sys.executable, "-u", str(SERVE), str(HOST), task, "", str(size)]
    worker = Worker(command, 30.0, 5.0)
    simulator = WorkerSimulator(f"fake:{task}", "pusht", "walk", worker, has_expert=True)
    simulator.max_steps = steps
    return simulator


class Flaky:
    """Fails in the episodes of some seeds, as a simulator does now and then."""

    def __init__(self, seeds):
        self._simulator, self._seeds = point("well", 64), seeds

    def __getattr__(self, name):
        return getattr(self._simulator, name)

    def reset(self, seed):
        if seed in self._seeds:
            raise SimulatorError(f"seed {seed} fell over")
        self._simulator.reset(seed)


@pytest.fixture
def fake(monkeypatch):
    def use(make):
        monkeypatch.setattr(recording, "open_simulator", make)

    return use


def test_a_crashed_episode_is_counted_and_named(fake, tmp_path):
    fake(lambda name, size: Flaky({1, 2}))
    report = record("fake:well", tmp_path / "a.hdf5", episodes=3)
    assert (report.episodes, report.attempts) == (3, 5)
    assert [seed for seed, _ in report.crashed] == [1, 2]
    with h5py.File(report.out) as file:
        assert len(file["data"]) == 3
        assert file["data"].attrs["total"] == report.frames
        assert file["data/demo_0/obs/state"].shape[1:] == (1,)


def test_a_simulator_that_always_crashes_leaves_nothing(fake, tmp_path):
    fake(lambda name, size: point("raises", size))
    with pytest.raises(SimulatorError, match=r"crashed, first with seed 0.*fell through"):
        record("fake:raises", tmp_path / "a.hdf5", episodes=1)
    assert not list(tmp_path.iterdir())


def test_an_expert_that_never_solves_leaves_nothing(fake, tmp_path):
    fake(lambda name, size: point("well", size, steps=2))
    with pytest.raises(DataError, match="solved only 0 of 6"):
        record("fake:well", tmp_path / "a.hdf5", episodes=1)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_recorded_is_refused_before_it_starts(tmp_path):
    out = tmp_path / "a.hdf5"
    check_record("gym-hil:PandaPickCube", out)
    with pytest.raises(UsageError, match="no simulator named"):
        check_record("gym-hil:Pandas", out)
    with pytest.raises(UsageError, match="no scripted expert"):
        check_record("gym-pusht:PushT", out)
    with pytest.raises(UsageError, match="no name of an HDF5 file"):
        check_record("gym-hil:PandaPickCube", tmp_path / "a")
    out.touch()
    with pytest.raises(UsageError, match="exists"):
        check_record("gym-hil:PandaPickCube", out)


def test_what_is_there_stays_when_the_new_one_fails(fake, tmp_path):
    out = tmp_path / "a.hdf5"
    out.write_text("old")
    fake(lambda name, size: point("raises", size))
    with pytest.raises(UsageError, match="exists"):
        record("fake:raises", out, episodes=1)
    with pytest.raises(SimulatorError):
        record("fake:raises", out, episodes=1, force=True)
    assert out.read_text() == "old"


def test_a_file_is_named_so_that_it_is_found_again(tmp_path):
    with pytest.raises(UsageError, match="no name of an HDF5 file"):
        record("fake:well", tmp_path / "pick")


def test_an_unknown_format_is_named(tmp_path):
    with pytest.raises(UsageError, match="'hdf4'") as caught:
        record("fake:well", tmp_path / "a", layout="hdf4")
    assert "hdf5" in (caught.value.hint or "")


@pytest.mark.parametrize("layout", ["hdf5", "lerobot"])
def test_a_recording_is_read_back(layout, tmp_path):
    pytest.importorskip("metaworld")
    out, twin = tmp_path / f"a.{layout}", tmp_path / f"b.{layout}"
    report = record("metaworld:reach-v3", out, episodes=1, seed=2, image_size=64, layout=layout)
    again = record(
        "metaworld:reach-v3",
        twin,
        episodes=1,
        seed=2,
        image_size=64,
        layout=layout,
        instruction="go to the red ball",
    )
    assert (report.instruction, again.instruction) == (
        "move the hand to the goal",
        "go to the red ball",
    )
    assert [e.task for e in open_source(twin)[1]] == ["go to the red ball"]
    assert (report.frames, report.card) == (again.frames, "sawyer-metaworld")
    _, episodes = open_source(out)
    assert [episode.num_frames for episode in episodes] == [report.frames]
    if layout == "hdf5":
        with h5py.File(out) as one, h5py.File(twin) as two:
            for name in ("actions", "obs/joint_pos", "obs/gripper_pos", "obs/corner2_image"):
                key = f"data/demo_0/{name}"
                assert np.array_equal(one[key][()], two[key][()])
                assert len(one[key]) == report.frames


# The environments of simulators, with a uv of our own making.

FAMILY = Family(title="f", host="h.py", check="import a", requirements=("a==1",), tasks={"T": "go"})
UV = """#!/bin/sh
case "$1 $2" in
  "venv --relocatable") mkdir -p "$5/bin"; ln -s {python} "$5/bin/python";;
  "pip install") {install};;
  "pip freeze") echo a==1;;
esac
"""


@pytest.fixture
def uv(monkeypatch, tmp_path):
    monkeypatch.setenv("MOTUS_SIMS", str(tmp_path / "sims"))
    monkeypatch.setattr(installing, "find_family", lambda name: FAMILY)

    def write(install, check="pass"):
        script = tmp_path / "uv"
        script.write_text(UV.format(python=sys.executable, install=install))
        script.chmod(0o755)
        monkeypatch.setattr(installing, "_uv", lambda: str(script))
        family = FAMILY.model_copy(update={"check": check})
        monkeypatch.setattr(installing, "find_family", lambda name: family)
        return family

    return write


def test_an_environment_is_built_once(uv, tmp_path):
    family = uv("true")
    assert installing.install("f", dry_run=True).written is False
    assert not (tmp_path / "sims").exists()
    report = installing.install("f")
    assert report.packages == ("a==1",)
    assert installing.interpreter_of("f", family) == report.folder / "bin" / "python"
    with pytest.raises(UsageError, match="installed"):
        installing.install("f")
    newer = family.model_copy(update={"requirements": ("a==2",)})
    with pytest.raises(MissingError, match="outdated"):
        installing.interpreter_of("f", newer)


@pytest.mark.parametrize(
    ("install", "check"), [("echo no network >&2; false", "pass"), ("true", "import no_such_thing")]
)
def test_a_failed_installation_leaves_nothing_and_keeps_the_old(uv, tmp_path, install, check):
    uv("true")
    installing.install("f")
    uv(install, check)
    with pytest.raises(installing.InstallError, match=r"no network|no_such_thing"):
        installing.install("f", force=True)
    assert os.listdir(tmp_path / "sims") == ["f"]
    assert installing.interpreter_of("f", FAMILY).exists()


def test_a_simulator_of_this_process_needs_no_environment():
    with pytest.raises(UsageError, match="needs none"):
        installing.install("metaworld")
