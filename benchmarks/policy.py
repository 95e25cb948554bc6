"""Actions per second of one policy by mode and by format, and how long it takes to start.

    python benchmarks/policy.py                  # a bundle with random weights, made for this
    python benchmarks/policy.py --bundle policies/franka --calls 20
    python benchmarks/policy.py --compile        # torch.compile too; needs a C++ compiler

One process, one thread, processor time (a shared machine's clock says nothing), all sides in turn
on the same observations; the fastest of the repeats counts. The peer is the eager policy in mode
`vla`; a ratio above 1 is faster. An action is one row of a chunk, for one control step. Start-up
is the processor time of a new process until its first actions.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from motus_adapters import (
    ActionSpace,
    BundleConfig,
    Layout,
    Normalizer,
    Observed,
    Policy,
    write_bundle,
    write_format,
)
from motus_adapters.deployment.bundle import model_config
from motus_adapters.exports.narrow import Precision
from motus_adapters.exports.runner import Runner, draw_noise
from motus_adapters.exports.torch_export import Programs
from motus_embodiments import load_card
from motus_model import MotusModel, Window

REPEATS = 3
Call = Callable[[int], object]  # with a seed

EAGER = """
import sys, numpy as np
from motus_adapters import Policy
policy = Policy.load(sys.argv[1])
canvas = np.zeros((1, *policy.model.config.canvas, 3), np.uint8)
policy.solve(canvas, np.asarray(policy.card.home())[None], [""], [0])
"""
ALONE = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from runner import Runner, draw_noise
runs = Runner(sys.argv[1], threads=1)
canvas = np.zeros((*runs.about["canvas"]["model"], 3), np.uint8)
state = np.zeros(len(runs.about["state_statistics"]["mean"]))
runs.solve(canvas, state, "", draw_noise([0], *runs.about["noise"]))
"""


def random_bundle(folder: Path) -> Path:
    """Size tiny for the card pusht; weights don't change the time."""
    card = load_card("pusht")
    flat = Normalizer(np.full(2, 0.2, np.float32), np.full(2, 0.1, np.float32))
    space = ActionSpace(card, flat, flat)
    layout = Layout(96, 96, {"head": (0, 0, 96, 96)})
    config = BundleConfig("tiny", Window(2, 2.5, 8, 10.0), layout, 10.0)
    torch.manual_seed(0)
    weights = MotusModel(model_config(config, space)).state_dict()
    write_bundle(folder, weights, config, space, "# A benchmark's policy\n")
    return folder


def observe(policy: Policy, count: int = 10) -> Observed:
    """Random canvases around the robot's rest."""
    generator = np.random.default_rng(0)
    height, width = policy.model.config.canvas
    canvases = generator.integers(0, 255, (count, height, width, 3), np.uint8)
    states = np.tile(np.asarray(policy.card.home()), (count, 1))
    return Observed(canvases, states, [policy.config.instruction] * count, "random")


def fastest(call: Call, calls: int) -> float:
    """Processor seconds of one call; the first, which warms up, is left out."""
    call(0)
    times = []
    for _ in range(REPEATS):
        started = time.process_time()
        for seed in range(calls):
            call(seed)
        times.append((time.process_time() - started) / calls)
    return min(times)


def start_up(script: str, folder: Path) -> float:
    """Processor seconds of a new process until its first actions."""
    best = float("inf")
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", script, str(folder)], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        best = min(best, spent)
    return best


def in_mode(policy: Policy, mode: str) -> Policy:
    config = replace(policy.config, mode=mode)
    return Policy(policy.model, config, policy.space, policy.device)


def eager(policy: Policy, seen: Observed) -> Call:
    canvas, state, task = seen.canvases[:1], seen.states[:1], seen.tasks[:1]
    return lambda seed: policy.solve(canvas, state, task, [seed])


def batched(policy: Policy, seen: Observed) -> Call:
    count = len(seen.tasks)
    return lambda seed: policy.solve(seen.canvases, seen.states, seen.tasks, [seed] * count)


def onnx(folder: Path, precision: str, seen: Observed) -> Call:
    runs = Runner(folder, precision, threads=1)
    state = runs.describe(seen.states[0])

    def call(seed: int) -> object:
        noise = draw_noise([seed], *runs.about["noise"])
        return runs.solve(seen.canvases[0], state, seen.tasks[0], noise)

    return call


def exported(policy: Policy, folder: Path, precision: Precision, seen: Observed) -> Call:
    programs = Programs(policy, folder, precision)
    return lambda seed: programs(seen.canvases[0], seen.states[0], seen.tasks[0], seed)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--bundle", type=Path, help="a policy folder; a random one if left out")
    options.add_argument("--calls", type=int, default=10)
    options.add_argument("--compile", action="store_true", help="torch.compile as well")
    given = options.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = given.bundle or random_bundle(Path(scratch) / "policy")
        policy = Policy.load(bundle)
        seen = observe(policy)
        sides: dict[str, tuple[Call, int]] = {
            "eager vla": (eager(in_mode(policy, "vla"), seen), 1),
            "eager joint": (eager(in_mode(policy, "joint"), seen), 1),
            f"eager vla, batch of {len(seen.tasks)}": (
                batched(in_mode(policy, "vla"), seen),
                len(seen.tasks),
            ),
        }
        starts = {"eager": start_up(EAGER, bundle)}
        vla = in_mode(policy, "vla")
        folder = Path(scratch) / "policy-onnx"
        report = write_format(vla, "onnx", folder, seen)
        for row in report.parity:
            sides[f"onnx {row.precision}"] = (onnx(folder, row.precision, seen), 1)
        starts["onnx float32, neither torch nor motus"] = start_up(ALONE, folder)
        folder = Path(scratch) / "policy-torch-export"
        for row in write_format(vla, "torch-export", folder, seen).parity:
            call = exported(vla, folder, row.precision, seen)
            sides[f"torch-export {row.precision}"] = (call, 1)
        if given.compile:
            fast = Policy.load(bundle)
            fast.model.network.forward = torch.compile(fast.model.network.forward)
            sides["compiled vla"] = (eager(in_mode(fast, "vla"), seen), 1)
        peer = 0.0
        print(f"{policy.config.size}, {policy.config.steps} steps, chunks of {policy.rows}")
        for name, (call, robots) in sides.items():
            seconds = fastest(call, given.calls)
            rate = robots * policy.rows / seconds
            peer = peer or rate
            print(f"{name:28s} {1000 * seconds:8.1f} ms  {rate:7.0f} actions/s  {rate / peer:5.2f}")
        for name, seconds in starts.items():
            print(f"start, {name:40s} {seconds:6.2f} s  {starts['eager'] / seconds:5.2f}")


if __name__ == "__main__":
    main()
