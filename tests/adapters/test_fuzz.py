"""Random damage to recordings of every layout: no crash, no hang, no silent success."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("seconds", [8, pytest.param(400, marks=pytest.mark.slow)])
def test_fuzz(tmp_path, seconds):
    """Random damage to recordings of every layout: no crash, no hang, no silent success."""
    seed = 0 if seconds < 60 else int.from_bytes(os.urandom(4))
    script = [sys.executable, str(Path(__file__).with_name("fuzz.py"))]
    ran = subprocess.run(
        [*script, str(seconds), str(seed), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=40 * seconds + 100,
    )
    assert ran.returncode == 0, f"seed {seed}: {ran.stderr[-2000:]}"
    found = json.loads(ran.stdout)
    assert found["wrong"] == [], f"seed {seed}"
    assert found["ends"]["refused"] > 3 * seconds
