"""The protocol that made a result: what has to agree before two results may be compared."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from motus_adapters import Simulator
from motus_recipes.evaluation.driving import Driver
from motus_recipes.evaluation.sheet import Sheet, subgoals_of
from motus_recipes.provenance import code_version

# What may differ: other seeds are other episodes of the same task, and the policy and the code are
# what a comparison is about.
FREE = ("seeds", "episodes", "contract", "code")


@dataclass(frozen=True)
class ProtocolCard:
    """How a policy was measured.

    Attributes:
        env: Simulator and task.
        versions: Of the packages that decide how an episode goes.
        tasks: The tasks that were driven.
        embodiment: The robot's card.
        instructions: What the policy was told.
        split: `seen` for the simulator's own words, which its recordings carry; else `unseen`.
        subgoals: What has to be reached on the way, as the sheet has it.
        horizon: Control steps after which an episode has failed.
        rate: Control rate, Hz.
        rendering: Camera to width x height, and under `gl` who draws.
        seeds: The first and the last.
        episodes: How many.
        contract: Digest of the policy's contract; of LeRobot's, release, kind and digest; None for
            a baseline.
        code: Version of motus-cli, with the commit where there is one.
        sheet: Digest of the sheet; "" where there is none.
    """

    env: str
    versions: Mapping[str, str]
    tasks: tuple[str, ...]
    embodiment: str
    instructions: tuple[str, ...]
    split: str
    subgoals: tuple[str, ...]
    horizon: int
    rate: float
    rendering: Mapping[str, str]
    seeds: tuple[int, int]
    episodes: int
    contract: str | None
    code: str
    sheet: str = ""


def describe_protocol(
    simulator: Simulator,
    driver: Driver,
    seeds: range,
    instruction: str | None,
    sheet: Sheet | None,
) -> ProtocolCard:
    """The protocol of an evaluation that is about to start."""
    simulator.reset(0)
    images = simulator.observe().images
    rendering = {name: f"{p.shape[1]} x {p.shape[0]}" for name, p in images.items()}
    words = instruction or simulator.instruction
    return ProtocolCard(
        env=simulator.name,
        versions=dict(simulator.versions),
        tasks=(simulator.name.partition(":")[2],),
        embodiment=simulator.card,
        instructions=(words,),
        split="seen" if words == simulator.instruction else "unseen",
        subgoals=tuple(goal.line for goal in subgoals_of(sheet, simulator)),
        horizon=simulator.max_steps,
        rate=simulator.rate,
        rendering={**rendering, "gl": os.environ.get("MUJOCO_GL", "default")},
        seeds=(seeds[0], seeds[-1]),
        episodes=len(seeds),
        contract=driver.contract,
        code=code_version(),
        sheet=sheet.digest if sheet else "",
    )


def protocol_differences(
    one: ProtocolCard, other: ProtocolCard
) -> tuple[list[tuple[str, Any, Any]], list[tuple[str, Any, Any]]]:
    """Where two protocols differ: in what has to agree, and in what may differ."""
    found = list(_differences("", asdict(one), asdict(other)))
    binding = [row for row in found if row[0] not in FREE]
    return binding, [row for row in found if row[0] in FREE]


def _differences(key: str, one: Any, other: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        names = dict.fromkeys([*one, *other])
        rows = [_differences(f"{key}.{n}".lstrip("."), one.get(n), other.get(n)) for n in names]
        return [row for found in rows for row in found]
    return [] if one == other else [(key, one, other)]
