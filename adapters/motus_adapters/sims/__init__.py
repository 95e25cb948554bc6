"""Simulators by name. Each is another project's; only the glue is ours."""

from importlib import import_module

from motus_adapters.sims.catalogue import Family, families, find_entry, simulator_names
from motus_adapters.sims.contract import SimulatorCheck, check_simulator
from motus_adapters.sims.installing import InstallReport, environment_state, install, interpreter_of
from motus_adapters.sims.protocol import Observation, Simulator, SimulatorError
from motus_adapters.sims.worker import SERVE, Worker, WorkerSimulator
from motus_embodiments import MissingError

__all__ = [
    "Family",
    "InstallReport",
    "Observation",
    "Simulator",
    "SimulatorCheck",
    "SimulatorError",
    "check_simulator",
    "environment_state",
    "families",
    "find_entry",
    "install",
    "open_simulator",
    "simulator_names",
]


def open_simulator(name: str, image_size: int = 128) -> Simulator:
    """Start a simulator.

    Args:
        name: `FAMILY:TASK`, as `motus sim list` shows them.
        image_size: Width and height of its pictures, in pixels.

    Raises:
        UsageError: When no simulator has this name.
        MissingError: When its package or its environment is not installed.
        SimulatorError: When its process does not start.
    """
    entry = find_entry(name)
    family = entry.family
    if family.host is not None:
        python = interpreter_of(entry.key, family)
        host = SERVE.with_name(family.host)
        command = [python, "-u", SERVE, host, entry.task, entry.robot, image_size]
        card = family.robots.get(entry.robot, family.card)
        worker = Worker([str(part) for part in command])
        return WorkerSimulator(name, card, entry.instruction, worker)
    try:
        module = import_module(f"motus_adapters.sims.{family.module}")
    except ImportError as error:
        raise MissingError(
            f"simulator '{name}' needs the package {family.package}: {error}",
            hint="pip install 'motus-cli[sim]'",
        ) from error
    simulator: Simulator = module.make(name, entry.task, entry.instruction, image_size)
    return simulator
