"""A policy with random weights in each simulator of this environment: it runs, it rarely solves."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from motus_recipes import evaluate
from motus_recipes.evaluation.driving import Solving

STEPS, EXECUTE = 16, 8
SIZE = 48  # pixels


@dataclass(frozen=True)
class Bed:
    """A simulator, the robot in it, and the views of that robot's card."""

    env: str
    card: str
    views: tuple[str, ...]


BEDS = (
    Bed("gym-hil:PandaPickCube", "franka", ("head", "left_wrist")),
    Bed("gym-aloha:TransferCube", "aloha", ("head", "left_wrist", "right_wrist")),
    Bed("gym-pusht:PushT", "pusht", ("head",)),
    Bed("metaworld:faucet-open-v3", "sawyer-metaworld", ("head",)),
)


@pytest.mark.parametrize("bed", BEDS, ids=lambda bed: bed.env)
def test_a_policy_is_measured_in_each_simulator(
    bed: Bed, toys, need_simulator, untrained, tmp_path: Path
):
    need_simulator(bed.env)
    sizes = dict.fromkeys(bed.views, (SIZE, SIZE))
    policy = untrained(tmp_path / "policy", bed.card, sizes, execute=EXECUTE)
    out, film = tmp_path / "result.json", tmp_path / "film.mp4"
    words = "do something else"
    report = evaluate(policy, bed.env, 2, opener=toys.short, instruction=words, out=out, film=film)
    assert [(e.success, e.steps, e.crash) for e in report.results] == [(False, STEPS, None)] * 2
    assert report.latency is not None
    assert report.latency.calls == 2 * STEPS / EXECUTE
    assert (report.protocol.embodiment, report.protocol.split) == (bed.card, "unseen")
    weights = json.loads((policy / "contract.json").read_text())["files"]["policy.safetensors"]
    assert (report.weights, report.solving) == (weights, Solving("vla", 2, EXECUTE))
    assert film.stat().st_size > 1000
    assert json.loads(out.read_text())["protocol"]["contract"] == report.protocol.contract


@pytest.mark.slow
@pytest.mark.parametrize(
    "env", [*(bed.env for bed in BEDS), "robosuite:Lift-Panda", "libero:libero_object/0"]
)
def test_one_worker_and_two_give_the_same_episodes(env: str, toys, need_simulator):
    need_simulator(env)
    one, two = (evaluate("random", env, 3, opener=toys.short, workers=n) for n in (1, 2))
    assert one.results == two.results
    assert one.protocol == two.protocol
    # Random commands tear gym-aloha's arms apart now and then: the same ones, with the same words.
    assert one.crashed < len(one.results)
