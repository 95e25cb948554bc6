"""Anchoring data: the same bytes for any number of workers."""

import json

import numpy as np
import pytest

from motus_adapters.anchoring import TASK, anchor
from motus_adapters.dataset import UnifiedDataset
from motus_embodiments import ActionAdapter, MissingError, UsageError, load_card


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_anchoring_data_is_the_same_for_any_number_of_workers(toy, tmp_path):
    report = anchor(toy, tmp_path / "one", episodes=3, frames=8, size=32)
    assert (report.episodes, report.frames, report.backend) == (3, 24, "mujoco")
    assert "curobo" in report.note
    assert report.coverage["left"].hit > 0
    again = anchor(toy, tmp_path / "two", episodes=3, frames=8, size=32, workers=2)
    assert (again.rejected, again.coverage) == (report.rejected, report.coverage)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_actions_lead_to_the_next_state(toy, tmp_path):
    anchor(toy, tmp_path / "data", episodes=1, frames=10, size=32)
    arrays = UnifiedDataset(tmp_path / "data").arrays(0)
    np.testing.assert_allclose(arrays["action"][:-1], arrays["state"][1:], atol=1e-6)
    assert json.loads((tmp_path / "data" / "meta" / "motus.json").read_text())["level"] == 4
    assert UnifiedDataset(tmp_path / "data").episodes[0].task == TASK
    ActionAdapter(toy).check(arrays["state"], "state")


def test_a_dry_run_plans_and_writes_nothing(toy, tmp_path):
    report = anchor(toy, tmp_path / "data", episodes=2, frames=8, dry_run=True)
    assert not report.written
    assert report.moves >= 2
    assert not (tmp_path / "data").exists()


def test_what_cannot_be_anchored_is_refused(toy, tmp_path):
    with pytest.raises(UsageError, match="no dataset"):
        anchor(toy, tmp_path / "data", episodes=0)
    with pytest.raises((MissingError, UsageError)):
        anchor(load_card("pusht"), tmp_path / "data")
    with pytest.raises(MissingError, match="curobo"):
        anchor(toy, tmp_path / "data", backend="curobo")
    assert not (tmp_path / "data").exists()
