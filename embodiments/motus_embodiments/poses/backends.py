"""Which pose sampler to take: cuRobo's on a GPU, MuJoCo's on any CPU."""

import importlib.util
from ctypes import CDLL
from typing import Literal, NamedTuple, get_args

from motus_embodiments.errors import MissingError, UsageError
from motus_embodiments.poses.mujoco_sampler import MujocoPoseSampler
from motus_embodiments.poses.sampling import PoseSampler
from motus_embodiments.poses.workspace import Survey
from motus_embodiments.schema import Card

Backend = Literal["auto", "mujoco", "curobo"]


class Chosen(NamedTuple):
    """A sampler, and what the user should be told about the choice."""

    sampler: PoseSampler
    backend: Literal["mujoco", "curobo"]
    note: str  # empty when it is what was asked for and nothing was assumed


def make_sampler(
    card: Card, backend: Backend = "auto", seed: int = 0, survey: Survey | None = None
) -> Chosen:
    """Choose a pose sampler; "auto" takes curobo where it can run and says when it cannot.

    Args:
        card: The robot.
        backend: "auto", "mujoco" or "curobo".
        seed: Draws the poses.
        survey: The survey of another sampler of the same card and seed, to save the time.

    Raises:
        MissingError: curobo was asked for and something that it needs is not here.
        UsageError: There is no such backend, or the card has no poses to sample.
        DataError: An arm reaches nothing without colliding, or nothing in sight.
    """
    if backend not in get_args(Backend):
        raise UsageError(f"no backend named '{backend}'", hint="known: auto, mujoco, curobo")
    sampler: PoseSampler
    notes: list[str] = []
    lacking = "" if backend == "mujoco" else curobo_lacks()
    if lacking and backend == "curobo":
        raise MissingError(
            f"the curobo backend cannot run here: it needs {lacking}",
            hint="--backend mujoco runs on any CPU",
        )
    if lacking:
        notes.append(f"curobo cannot run here (it needs {lacking}), so the mujoco backend samples")
    if lacking or backend == "mujoco":
        sampler = MujocoPoseSampler(card, seed, survey)
    else:
        from motus_embodiments.curobo.sampler import CuroboPoseSampler

        sampler = CuroboPoseSampler(card, seed, survey)
    notes += [sampler.note] if sampler.note else []
    return Chosen(sampler, sampler.backend, "; ".join(notes))


def curobo_lacks() -> str:
    """What the curobo backend would need and does not find; empty where it can run."""
    lacking = []
    try:
        CDLL("libcuda.so.1")
    except OSError:
        lacking.append("a CUDA device")
    # The PyPI packages `curobo` and `nvidia-curobo` are empty, version 0.7 has another interface.
    try:
        found = importlib.util.find_spec("curobo.motion_planner")
    except ModuleNotFoundError:
        found = None
    if found is None:
        lacking.append("cuRobo v2 installed from its source")
    return " and ".join(lacking)
