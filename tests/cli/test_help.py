"""Help is light, and the same everywhere; benchmarks/startup.py says how quick it is."""

import json
import os
import subprocess
import sys

import pytest
from typer.main import get_command

from motus_cli.app import app

HEAVY = ("torch", "numpy", "mujoco", "lerobot", "cv2", "av", "pyarrow", "h5py", "zarr", "pandas")
SCRIPT = """
import json, sys
from motus_cli.app import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "modules": list(sys.modules)}), file=sys.stderr)
"""
COMPLETE = """
try:
    code = main([])
except SystemExit as end:  # so a shell's question ends
    code = end.code
"""


def leaf_commands():
    found = {}
    for name, command in get_command(app).commands.items():
        children = getattr(command, "commands", None)
        found |= {(name, k): c for k, c in children.items()} if children else {(name,): command}
    return found


@pytest.mark.parametrize("arguments", [[], ["train"], ["convert"], ["add-embodiment"], ["doctor"]])
def test_help_is_light(arguments):
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(ran.stderr)
    assert told["code"] == 0
    assert not set(HEAVY) & set(told["modules"])


def test_recipes_are_completed_without_waiting_for_torch():
    script = SCRIPT.replace("code = main(sys.argv[1:])", COMPLETE)
    asked = {"COMP_WORDS": "motus train --recipe codec", "COMP_CWORD": "3"}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | asked | {"_MOTUS_COMPLETE": "complete_bash"},
    )
    assert ran.stdout.split() == ["codec", "codec-robots"]
    assert not {"torch", "numpy"} & set(json.loads(ran.stderr)["modules"])


@pytest.mark.parametrize("names", sorted(leaf_commands()), ids=" ".join)
def test_every_command_explains_itself(names):
    command = leaf_commands()[names]
    assert "Example: motus " + " ".join(names) in (command.help or "")
    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert {"--json", "--quiet", "-q", "--verbose", "-v", "--debug"} <= flags
    for parameter in command.params:
        assert parameter.help, f"{parameter.name} has no help"
        assert not parameter.help.endswith("."), "help has no full stop"


def test_what_writes_can_be_rehearsed():
    flags = {
        names[0]: {flag for parameter in command.params for flag in parameter.opts}
        for names, command in leaf_commands().items()
    }
    for name in ("add-embodiment", "anchor", "record", "convert", "label", "train", "export"):
        assert {"--dry-run", "-n", "--force"} <= flags[name], name
    for name in ("add-embodiment", "anchor", "convert", "label", "train", "demo"):
        assert "--resume" in flags[name], name


def test_version(motus):
    ran = motus("--version")
    assert ran.code == 0
    assert ran.out.startswith("motus 0.")
