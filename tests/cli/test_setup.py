"""The setup finds a Python that really runs, and says what to do when there is none."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

BASH = shutil.which("bash") or "bash"


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{BASH}\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def find_python(repository, tmp_path):
    """Run the search with only broken Pythons on PATH, as pyenv's shims can be."""
    tools = tmp_path / "tools"
    for name in ("python3", "python3.12", "python3.13"):
        write_program(tools / name, "exit 127")
    for name in ("ls", "sort"):
        (tools / name).symlink_to(shutil.which(name) or name)

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BASH, repository / "requirements" / "find_python.sh"],
            env={"PATH": str(tools), "PYENV_ROOT": str(tmp_path / "pyenv"), "HOME": os.devnull},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_a_broken_shim_is_passed_over_for_the_newest_of_pyenv(find_python, tmp_path):
    for version in ("3.11.7", "3.12.1", "3.12.10", "3.13.0"):
        write_program(tmp_path / f"pyenv/versions/{version}/bin/python", f"echo python {version}")
    ran = find_python()
    assert ran.returncode == 0
    assert ran.stdout == "python 3.12.10\n"


def test_no_python_is_an_error_with_a_hint(find_python):
    ran = find_python()
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.startswith("error: no Python 3.12 or 3.13")
    assert "\n\nhint: " in ran.stderr
