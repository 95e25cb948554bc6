"""How long a policy takes on this machine: `measured.json`, beside the bundle's own files."""

import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from motus_adapters.deployment.policy import Policy
from motus_adapters.files import write_json

CALLS = 20
MEASURED = "measured.json"


@dataclass(frozen=True)
class Measured:
    """Times of one machine, ms.

    Attributes:
        load: Opening the bundle, files checked.
        median: Of one call of `act`.
        worst: Of one call, the first left out.
        first: The first call.
    """

    load: float
    median: float
    worst: float
    first: float
    device: str
    threads: int
    machine: str


def measure(folder: Path, device: str = "cpu") -> Measured:
    """Time a bundle, and write the figures into its folder.

    They are no part of the contract: the same policy takes another time elsewhere.
    """
    started = time.perf_counter()
    policy = Policy.load(folder, device)
    load = time.perf_counter() - started
    canvas = np.zeros((1, *policy.model.config.canvas, 3), np.uint8)
    state = np.asarray(policy.card.home())[None]
    times = []
    for seed in range(CALLS):
        started = time.perf_counter()
        policy.solve(canvas, state, [policy.config.instruction], [seed])
        times.append(1000 * (time.perf_counter() - started))
    found = Measured(
        load=round(1000 * load, 1),
        median=round(float(np.median(times[1:])), 2),
        worst=round(max(times[1:]), 2),
        first=round(times[0], 2),
        device=device,
        threads=torch.get_num_threads(),
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
    )
    write_json(folder / MEASURED, asdict(found))
    return found
