"""Environments of their own, for simulators whose pins conflict with ours."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from motus_adapters.files import read_json, user_cache, write_json
from motus_adapters.sims.catalogue import Family, families, find_family
from motus_embodiments import MissingError, MotusError, UsageError, nearest

NOTE = "motus-sim.json"  # written last: an environment without it is none
Say = Callable[[str], None]


class InstallError(MotusError):
    """The packages of a simulator could not be installed (exit 3)."""

    code = "install"
    exit_code = 3


@dataclass(frozen=True)
class InstallReport:
    """What `install` did, or with `dry_run` would do.

    Attributes:
        name: The family.
        folder: Its environment.
        requirements: What it was built from.
        packages: What came of them, all packages with versions.
        written: Whether anything was written now.
    """

    name: str
    folder: Path
    requirements: tuple[str, ...]
    packages: tuple[str, ...]
    written: bool


def environments_folder() -> Path:
    """$MOTUS_SIMS, or motus/sims in the user's cache."""
    if told := os.environ.get("MOTUS_SIMS"):
        return Path(told)
    return user_cache() / "sims"


def environment_state(name: str, family: Family) -> str:
    """`installed`, `missing`, or `outdated` when it was built from other requirements."""
    note = environments_folder() / name / NOTE
    if not note.is_file():
        return "missing"
    fits = read_json(note)["requirements"] == list(family.requirements)
    return "installed" if fits else "outdated"


def interpreter_of(name: str, family: Family) -> Path:
    """The Python of a simulator's environment.

    Raises:
        MissingError: It is not installed, or was built from other requirements.
    """
    state = environment_state(name, family)
    if state != "installed":
        again = " --force" if state == "outdated" else ""
        raise MissingError(
            f"the environment of {name} is {state} in {environments_folder()}",
            hint=f"motus sim install {name}{again}",
        )
    return environments_folder() / name / "bin" / "python"


def install(
    name: str, *, force: bool = False, dry_run: bool = False, say: Say = lambda _: None
) -> InstallReport:
    """Build the environment of a family: made beside its place, tried, then renamed.

    Raises:
        UsageError: The family needs none, or it is there already.
        MissingError: uv is not here.
        InstallError: A package could not be had, or does not work.
    """
    family = find_family(name)
    if family.host is None:
        own = [key for key, other in families().items() if other.host]
        raise UsageError(
            f"{name} runs in this environment and needs none of its own",
            hint=f"pip install 'motus-cli[sim]'; with one of their own: {nearest('', own)}",
        )
    folder = environments_folder() / name
    state = environment_state(name, family)
    if state != "missing" and not force:
        raise UsageError(
            f"{name} is {state} in {folder}", hint="--force builds it anew", where=str(folder)
        )
    if dry_run:
        return InstallReport(name, folder, family.requirements, (), written=False)
    uv = _uv()
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{name}.{os.getpid()}")
    try:
        python = building / "bin" / "python"
        say(f"making an environment in {folder}")
        _run([uv, "venv", "--relocatable", "--python", sys.executable, str(building)])
        say(f"installing {', '.join(family.requirements)} from the package registry")
        _run([uv, "pip", "install", "--python", str(python), *family.requirements])
        say("trying it")
        _run([str(python), "-c", family.check])
        frozen = _run([uv, "pip", "freeze", "--python", str(python)]).split()
        about = {"requirements": list(family.requirements), "packages": frozen}
        write_json(building / NOTE, about)
        if folder.exists():
            (folder / NOTE).unlink(missing_ok=True)
            shutil.rmtree(folder)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return InstallReport(name, folder, family.requirements, tuple(frozen), written=True)


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.is_file() else shutil.which("uv")
    if found is None:
        raise MissingError("uv is not here, which builds environments", hint="pip install uv")
    return found


def _run(command: list[str]) -> str:
    """What a command says; its own Python, not one that our environment points at."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["UV_PYTHON_DOWNLOADS"] = "never"
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if ran.returncode:
        last = "\n".join((ran.stderr or ran.stdout).strip().splitlines()[-8:])
        raise InstallError(
            f"`{Path(command[0]).name} {' '.join(command[1:3])}` failed:\n{last}",
            hint="a package registry has to be reachable; nothing was left behind",
        )
    return ran.stdout
