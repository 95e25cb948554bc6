"""Other formats of a policy, each in a folder of its own and held against the policy itself."""

import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from motus_adapters.deployment.policy import Policy
from motus_adapters.exports import onnx_export, torch_export
from motus_adapters.exports.narrow import PRECISIONS, Precision
from motus_adapters.exports.observed import Observed
from motus_adapters.files import appearing, check_free, disk_errors
from motus_embodiments import MismatchError, UsageError, nearest

FORMATS = ("onnx", "torch-export")
LIMIT = 1e-4  # worst difference of a normalised action in float32
WINDOWS = 100
PARITY = "parity.json"  # in each folder of a format


@dataclass(frozen=True)
class Parity:
    """How far a format's actions lie from the policy's, on real windows.

    Attributes:
        format: One of `FORMATS`.
        precision: float32, or a smaller variant.
        windows: How many windows were compared.
        worst: Largest difference of a normalised action (in standard deviations).
        mean: Mean of its absolute value.
        megabytes: Size of its two files.
    """

    format: str
    precision: Precision
    windows: int
    worst: float
    mean: float
    megabytes: float


@dataclass(frozen=True)
class FormatReport:
    """One exported format."""

    folder: Path
    limit: float
    parity: tuple[Parity, ...]


def write_format(
    policy: Policy, name: str, folder: Path, observed: Observed, *, force: bool = False
) -> FormatReport:
    """Write a format beside the bundle, if it gives the policy's actions.

    `parity.json` in the folder keeps what was measured.

    Raises:
        UsageError: Another format, or the folder exists and `force` is not given.
        MissingError: A package is not installed.
        MismatchError: In float32 an action differs by `LIMIT` or more; nothing is written.
    """
    check_format(name, folder, force=force)
    with disk_errors(folder), appearing(folder) as new, warnings.catch_warnings():
        for kind in (FutureWarning, UserWarning):  # torch's tracer about itself
            warnings.simplefilter("ignore", kind)
        new.mkdir()
        return _write(policy, name, new, folder, observed)


def check_format(name: str, folder: Path, *, force: bool) -> None:
    """Whether a format can be written there.

    Raises:
        UsageError: Another format, or the folder exists and `force` is not given.
        MissingError: A package is not installed.
    """
    if name not in FORMATS:
        raise UsageError(f"no format named '{name}'", hint=nearest(name, FORMATS))
    if name == "onnx":
        onnx_export.check_onnx()
    check_free(folder, PARITY, force=force)


def _write(policy: Policy, name: str, new: Path, folder: Path, observed: Observed) -> FormatReport:
    if name == "onnx":
        onnx_export.write_onnx(policy, new)
    else:
        torch_export.write_torch_export(policy, new)
    wanted = np.concatenate(
        [
            policy.denoise(canvas[None], state[None], [task], policy.noise([seed]))
            for canvas, state, task, seed in observed
        ]
    )
    rows = tuple(_compare(policy, name, new, observed, wanted, p) for p in PRECISIONS)
    if not rows[0].worst < LIMIT:
        raise MismatchError(
            f"{name} gives other actions than the policy: {rows[0].worst:.2e} apart at worst, "
            f"allowed are {LIMIT:g}",
            where=str(folder),
        )
    report = FormatReport(folder, LIMIT, rows)
    about = asdict(report) | {"bundle": policy.digest, "source": observed.source}
    del about["folder"]
    (new / PARITY).write_text(json.dumps(about, indent=2) + "\n")
    return report


def _compare(
    policy: Policy,
    name: str,
    folder: Path,
    observed: Observed,
    wanted: Float[np.ndarray, "n t a"],
    precision: Precision,
) -> Parity:
    if name == "onnx":
        found = onnx_export.run_onnx(folder, observed, precision)
    else:
        found = torch_export.run_torch_export(policy, folder, observed, precision)
    error = np.abs(found - wanted)
    ending = "" if precision == "float32" else f".{precision}"
    files = [p for p in folder.iterdir() if p.stem in (f"encode{ending}", f"step{ending}")]
    size = sum(file.stat().st_size for file in files) / 1e6
    worst, mean = float(error.max()), float(error.mean())
    return Parity(name, precision, len(wanted), worst, mean, round(size, 1))
