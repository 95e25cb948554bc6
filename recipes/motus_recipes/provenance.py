"""Which code made a result."""

import subprocess
from importlib.metadata import version
from pathlib import Path


def git_state(folder: Path | None = None) -> str | None:
    """Commit of a folder (the working one if left out), with `+` when files were changed.

    None outside of git.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain")
    return None if commit is None else commit + ("+" if changed else "")


def code_version() -> str:
    """The version of motus-cli; with its commit where it runs from its own repository."""
    here = Path(__file__)
    told = f"motus-cli {version('motus-cli')}"
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return told  # installed, perhaps below a repository of somebody else
    return f"{told} {git_state(here.parent)}"


def _git(folder: Path | None, *words: str) -> str | None:
    try:
        ran = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()
