"""Scripts that start a recipe on a cluster: torchrun, accelerate, Slurm, SkyPilot."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template

from motus_adapters import check_free
from motus_embodiments import UsageError, nearest
from motus_recipes.training.planning import parse_devices

TEMPLATES = Path(__file__).parent / "launch"
LAUNCHERS = {file.stem: file for file in sorted(TEMPLATES.iterdir())}
START = {
    "accelerate": "bash {}",
    "skypilot": "sky jobs launch {}",
    "slurm": "sbatch {}",
    "torchrun": "bash {}",
}


@dataclass(frozen=True)
class LaunchReport:
    """A written script, and the command that starts it."""

    script: Path
    nodes: int
    devices_per_node: int
    next: str


def write_launch_script(
    launcher: str,
    train: list[str],
    devices: str,
    *,
    out: Path | None = None,
    per_node: int = 8,
    force: bool = False,
) -> LaunchReport:
    """Write the script that runs `motus train` on so many devices.

    Every process runs the same command with `--resume`, so that a job that was put back in the
    queue goes on where it stopped.

    Args:
        launcher: A name of `LAUNCHERS`.
        train: Arguments of `motus train`.
        devices: Number and kind, as `64xH100`.
        out: The script; `motus-LAUNCHER.sh` or `.yaml` if left out.
        per_node: Devices of a full node.
        force: Replace a script that is there.

    Raises:
        UsageError: For an unknown launcher, devices that don't fill whole nodes, or a script
            that is there already.
    """
    if launcher not in LAUNCHERS:
        raise UsageError(
            f"no launch template '{launcher}' is known", hint=nearest(launcher, LAUNCHERS)
        )
    count, kind = parse_devices(devices)
    each = min(count, per_node)
    if count % each:
        raise UsageError(
            f"{count} devices don't fill nodes of {per_node}",
            hint=f"take a multiple of {per_node}, or say how many a node has with --per-node",
        )
    template = LAUNCHERS[launcher]
    script = out or Path(f"motus-{template.name}")
    check_free(script, force=force)
    text = Template(template.read_text()).substitute(
        nodes=count // each,
        per_node=each,
        count=count,
        kind=kind,
        command=shlex.join(["motus", "train", *train, "--resume"]),
    )
    script.write_text(text)
    return LaunchReport(
        script, count // each, each, START[launcher].format(shlex.quote(str(script)))
    )
