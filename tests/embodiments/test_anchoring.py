"""Anchoring data: the same bytes for any number of workers, however often it was killed."""

import json
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from motus_adapters import anchoring
from motus_adapters.anchoring import COVERAGE, TASK, AnchorJob, anchor
from motus_adapters.unified.reading import UnifiedDataset
from motus_adapters.unified.writing import write_dataset
from motus_embodiments import ActionAdapter, MissingError, UsageError, load_card, save_card

SIZES = {"episodes": 3, "frames": 8, "size": 32}


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_anchoring_data_is_the_same_for_any_number_of_workers(toy, tmp_path):
    report = anchor(toy, tmp_path / "one", **SIZES)
    assert (report.episodes, report.frames, report.backend) == (3, 24, "mujoco")
    assert "curobo" in report.note
    assert report.coverage["left"].hit > 0
    again = anchor(toy, tmp_path / "two", **SIZES, workers=2)
    assert (again.rejected, again.coverage) == (report.rejected, report.coverage)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    other = anchor(toy, tmp_path / "three", **SIZES, seed=1)
    assert other.coverage != report.coverage


KILLED = """
import os, sys
from pathlib import Path
from motus_adapters.unified import writing as unified
from motus_adapters import anchoring
from motus_embodiments import load_card

def die_at(done, total, note):
    if done == int(sys.argv[3]):
        os.kill(os.getpid(), 9)

anchoring.anchor(load_card(sys.argv[1]), Path(sys.argv[2]), episodes=3, frames=8, size=32,
                 on_progress=die_at)
"""


@pytest.mark.parametrize("done", [1, 2, 3])
def test_killed_and_resumed_is_never_killed(toy, tmp_path, done):
    card = save_card(toy, tmp_path / "cards")
    anchor(load_card(card), tmp_path / "calm", **SIZES)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, card, tmp_path / "data", str(done)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "data" / "meta" / "motus.json").exists()
    with pytest.raises(UsageError, match="half written"):
        anchor(load_card(card), tmp_path / "data", **SIZES)
    report = anchor(load_card(card), tmp_path / "data", **SIZES, resume=True)
    assert report.moves >= 3  # those of the killed run are counted, too
    assert files(tmp_path / "data") == files(tmp_path / "calm")


@pytest.mark.slow
def test_the_command_survives_sigkill_with_two_workers(toy, tmp_path):
    card = save_card(toy, tmp_path / "cards")
    command = [sys.executable, "-m", "motus_cli.app", "anchor", str(card)]
    sizes = ["--episodes", "30", "--frames", "20", "--image-size", "32", "--workers", "2", "-q"]
    subprocess.run([*command, str(tmp_path / "calm"), *sizes], check=True, capture_output=True)
    out = tmp_path / "data"
    running = subprocess.Popen([*command, str(out), *sizes])
    while len(list(out.glob(".partial/0*"))) < 5:
        assert running.poll() is None
        time.sleep(0.05)
    running.kill()
    running.wait()
    resumed = [*command, str(out), *sizes, "--resume"]
    subprocess.run(resumed, check=True, capture_output=True)
    assert files(out) == files(tmp_path / "calm")


def test_a_finished_dataset_resumed_says_the_same(toy, tmp_path):
    report = anchor(toy, tmp_path / "data", **SIZES)
    before = files(tmp_path / "data")
    report.picture.unlink()  # as if killed between the manifest and the picture
    again = anchor(toy, tmp_path / "data", **SIZES, resume=True)
    assert again == report
    assert files(tmp_path / "data") == before


def test_actions_lead_to_the_next_state(toy, tmp_path):
    report = anchor(toy, tmp_path / "data", episodes=1, frames=10, size=32)
    dataset = UnifiedDataset(tmp_path / "data")
    arrays = dataset.arrays(0)
    assert dataset.meta.rate == 30
    np.testing.assert_allclose(arrays["action"][:-1], arrays["state"][1:], atol=1e-6)
    motion, mask = ActionAdapter(toy).kinematics.motion(arrays["state"])
    np.testing.assert_allclose(arrays["motion"][:-1], motion[:-1], atol=1e-5)
    assert dataset.meta.motion_mask == tuple(mask)
    assert dataset.meta.level == 4
    assert dataset.episodes[0].task == TASK
    assert dataset.episodes[0].notes["accepted"] == report.moves
    ActionAdapter(toy).check(arrays["state"], "state")


def test_the_report_lies_in_the_dataset_as_numbers_and_as_a_picture(toy, tmp_path):
    report = anchor(toy, tmp_path / "data", **SIZES)
    assert report.picture == (tmp_path / "data" / COVERAGE).with_suffix(".png")
    assert report.picture.read_bytes()[:4] == b"\x89PNG"
    written = json.loads(report.picture.with_suffix(".json").read_text())
    assert written["coverage"]["left"]["hit"] == report.coverage["left"].hit
    assert written["rejected"] == dict(report.rejected)


def test_a_dry_run_plans_and_writes_nothing(toy, tmp_path):
    planned = anchor(toy, tmp_path / "data", **SIZES, dry_run=True)
    assert planned.picture is None
    assert not (tmp_path / "data").exists()
    written = anchor(toy, tmp_path / "data", **SIZES)
    assert (planned.moves, planned.checked) == (written.moves, written.checked)


def test_no_trajectory_is_held_by_the_parent(toy, tmp_path, monkeypatch):
    given = []

    def keep(out, header, jobs, **options):
        given.extend(jobs)
        return write_dataset(out, header, jobs, **options)

    monkeypatch.setattr(anchoring, "write_dataset", keep)
    anchor(toy, tmp_path / "data", **SIZES)
    assert all(isinstance(job, AnchorJob) for job in given)
    assert len({id(job.scene) for job in given}) == 1
    alone = len(pickle.dumps(given[0]))
    assert len(pickle.dumps(given)) < alone + 300 * len(given)


def test_a_fall_back_is_said_at_once(toy, tmp_path):
    said = []
    anchor(toy, tmp_path / "data", **SIZES, dry_run=True, on_note=said.append)
    assert len(said) == 1
    assert "curobo cannot run here" in said[0]
    anchor(toy, tmp_path / "data", **SIZES, dry_run=True, backend="mujoco", on_note=said.append)
    assert len(said) == 1


def test_what_cannot_be_anchored_is_refused(toy, tmp_path):
    for wrong in ({"episodes": 0}, {"frames": 1}, {"size": 8}, {"rate": 0.0}):
        with pytest.raises(UsageError, match="no dataset"):
            anchor(toy, tmp_path / "data", **(SIZES | wrong))
    with pytest.raises(MissingError, match="'pusht' has no robot model"):
        anchor(load_card("pusht"), tmp_path / "data")
    with pytest.raises(MissingError, match="curobo"):
        anchor(toy, tmp_path / "data", backend="curobo")
    assert not (tmp_path / "data").exists()
