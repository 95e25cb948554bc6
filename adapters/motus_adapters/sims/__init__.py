"""Simulators by name. Each is another project's; only the glue is ours."""

from motus_adapters.sims.protocol import Observation, Simulator
from motus_embodiments import MissingError, UsageError, nearest

SIMULATORS = {"gym-hil:PandaPickCube": ("gym_hil", "PandaPickCube")}

__all__ = ["SIMULATORS", "Observation", "Simulator", "open_simulator"]


def open_simulator(name: str, image_size: int = 128) -> Simulator:
    """Start a simulator.

    Raises:
        UsageError: When no simulator has this name.
        MissingError: When its package is not installed.
    """
    if name not in SIMULATORS:
        raise UsageError(f"no simulator named '{name}'", hint=nearest(name, SIMULATORS))
    package, kind = SIMULATORS[name]
    if package == "gym_hil":
        try:
            from motus_adapters.sims import gym_hil
        except ImportError as error:
            raise MissingError(
                f"simulator '{name}' needs the package gym-hil: {error}",
                hint="pip install 'motus-cli[sim]'",
            ) from error
        return gym_hil.PandaPickCube(image_size)
    raise AssertionError(kind)
