"""Simulators by name. Each is another project's; only the glue is ours."""

from importlib import import_module

from motus_adapters.sims.catalogue import Family, families, find_entry, simulator_names
from motus_adapters.sims.contract import SimulatorCheck, check_simulator
from motus_adapters.sims.installing import InstallReport, environment_state, install, interpreter_of
from motus_adapters.sims.protocol import ImageSize, Observation, Simulator, SimulatorError
from motus_adapters.sims.worker import SERVE, Worker, WorkerSimulator
from motus_embodiments import MissingError, UsageError

__all__ = [
    "Family",
    "ImageSize",
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
    "scene_of",
    "simulator_names",
]


def open_simulator(name: str, image_size: ImageSize = 128) -> Simulator:
    """Start a simulator.

    Args:
        name: `FAMILY:TASK`, as `motus sim list` shows them.
        image_size: Of its pictures, in pixels.

    Raises:
        UsageError: When no simulator has this name, or it draws squares only.
        MissingError: When its package or its environment is not installed.
        SimulatorError: When its process does not start.
    """
    entry = find_entry(name)
    family = entry.family
    if family.host is not None:
        if not isinstance(image_size, int):
            raise UsageError(f"{name} draws square pictures only", hint="give one number")
        python = interpreter_of(entry.key, family)
        host = SERVE.with_name(family.host)
        command = [python, "-u", SERVE, host, entry.task, entry.robot, image_size]
        worker = Worker([str(part) for part in command])
        told = entry.instruction
        return WorkerSimulator(name, entry.card, told, worker, has_expert=entry.has_expert)
    try:
        module = import_module(f"motus_adapters.sims.{family.module}")
    except ImportError as error:
        raise MissingError(
            f"simulator '{name}' needs the package {family.package}: {error}",
            hint="pip install 'motus-cli[sim]'",
        ) from error
    simulator: Simulator = module.make(name, entry.task, entry.instruction, image_size)
    return simulator


def scene_of(name: str) -> str:
    """A task's scene as MJCF. As a card's model it has anchoring data drawn where the task is.

    Raises:
        UsageError: This simulator does not tell.
    """
    simulator = open_simulator(name)
    try:
        if isinstance(simulator, WorkerSimulator):
            return simulator.scene()
        raise UsageError(f"{name} does not tell its scene", hint="robosuite's tasks do")
    finally:
        simulator.close()
