"""The pretraining experiment on a toy: every cell once, whatever stops it, and an honest table."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from motus_adapters import Simulator, UnifiedDataset, environment_state, families
from motus_embodiments import MismatchError
from motus_recipes import EvalReport, wilson
from motus_recipes.evaluation.closed_loop import summarize
from motus_recipes.evaluation.driving import Episode
from motus_recipes.evaluation.protocol_card import ProtocolCard
from motus_recipes.experiments.bed import LIFT, Arm, Bed, Data
from motus_recipes.experiments.grid import Cell, Grid
from motus_recipes.experiments.pretraining import Experiment
from motus_recipes.experiments.pretraining_page import rows_of, table

SMALL = [
    f"stages.{stage}.{key}={value}"
    for stage in ("codec", "stage1", "stage2")
    for key, value in (("steps", 2), ("batch", 4))
]
GRID = Grid(
    counts=(2,),
    seeds=(0,),
    modes=("vla",),
    episodes=2,
    block=2,
    pretraining=tuple(SMALL),
    finetuning=("stages.stage3.steps=2", "stages.stage3.batch=4"),
)


class ToyBed(Bed):
    """Opens the toy, whatever it is asked for."""

    def __call__(self, env: str) -> Simulator:
        from toy_sim import Slide

        simulator = Slide()
        simulator.max_steps = self.horizon
        return simulator


BED = ToyBed({"kinova3": Arm("toy", "pusht"), "xarm7": Arm("toy", "pusht")}, Arm("toy", "pusht"))


@pytest.fixture
def folder(tmp_path: Path, write, monkeypatch) -> Path:
    """Datasets that are made already: the toy can be neither recorded nor drawn."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    for name, level in (("kinova3", 5), ("xarm7", 5), ("anchoring", 4), ("target-2-0", 6)):
        write(tmp_path / "data" / name, episodes=3, level=level)
    return tmp_path


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}


@pytest.mark.slow
def test_a_stopped_experiment_goes_on(folder):
    said = []
    first = Experiment(replace(BED, horizon=3), GRID, folder, said.append)
    cells = first.run()
    done = [next(cells) for _ in range(3)]
    cells.close()
    assert [cell.start for cell in done] == ["none", "stage1", "stage2"]
    before = stamps(folder / "results")
    assert len(before) == 3

    second = Experiment(replace(BED, horizon=3), GRID, folder, said.append)
    rest = list(second.run())
    everything = [cell for cell, _ in GRID.cells()]
    assert sorted([*done, *rest]) == sorted(everything)
    after = stamps(folder / "results")
    assert {path: after[path] for path in before} == before
    assert len([line for line in said if line.startswith("pretraining")]) == 2
    assert len([line for line in said if line.startswith("fine-tuning")]) == 5
    assert list(second.run()) == []

    page = folder / "page.md"
    page.write_text("# Results\n\n## Another\n\nkept\n")
    second.write(page)
    once = page.read_text()
    second.write(page)
    assert page.read_text() == once
    assert "## Another\n\nkept" in once
    assert (folder / "page.png").stat().st_size > 1000
    rows = re.findall(r"^\| (?:VLA|joint) \| 2 \|.* of 2 \(", once, re.MULTILINE)
    assert len(rows) == 5
    assert len(re.findall(r"^\|  \| 2 \| no policy, .* of 2 \(", once, re.MULTILINE)) == 1

    with pytest.raises(MismatchError, match="other settings"):
        list(Experiment(replace(BED, horizon=4), GRID, folder, said.append).run())


def test_what_decides_most_comes_first():
    order = list(Grid().cells())
    deciding, seeds, blocks, counts = 3, 3, 2, 3
    at_once = deciding * seeds * blocks
    assert len(order) == len(set(order))
    assert len(order) == at_once * counts + 2 * seeds * blocks + (1 + 4) * at_once
    assert {(c.start, c.demonstrations) for c, _ in order[:at_once]} == {
        ("none", 10),
        ("stage1", 10),
        ("stage2", 10),
    }
    starts = [cell.start for cell, _ in order]
    assert starts.index("none-long") == at_once
    assert starts.count("none-long") == starts.count("replay") == seeds * blocks
    assert starts.index("stage2-bare") == at_once * counts + 2 * seeds * blocks
    assert Cell("none", 10, 0, "vla").run == Cell("none", 10, 0, "joint").run


@pytest.mark.slow
def test_the_bed_is_real(tmp_path):
    if environment_state("robosuite", families()["robosuite"]) != "installed":
        pytest.skip("the environment of robosuite is not built: motus sim install robosuite")
    data = Data(LIFT, tmp_path, lambda _: None)
    demonstrations = UnifiedDataset(data.demonstrations(2, 0))
    anchoring = UnifiedDataset(data.anchoring(2, 6))
    arm = UnifiedDataset(data.arm("kinova3", 2))
    assert [len(d.episodes) for d in (demonstrations, anchoring, arm)] == [3, 2, 2]
    assert [d.meta.level for d in (demonstrations, anchoring, arm)] == [6, 4, 5]
    assert demonstrations.meta.card == anchoring.meta.card
    assert anchoring.meta.card.action.relative
    assert any(anchoring.meta.motion_mask)
    twists = [known for n, known in enumerate(arm.meta.motion_mask) if n % 7 < 6]
    assert not any(twists)  # the gripper's state is recorded; no codec is shown it
    # One scene: far from the arm, a rendered frame is the simulator's own.
    seen, drawn = (next(iter(d.frames(0))) for d in (demonstrations, anchoring))
    assert seen.shape == drawn.shape == (144, 96, 3)
    corner = np.s_[70:96, :20]
    assert np.abs(seen[corner].astype(int) - drawn[corner].astype(int)).mean() < 3


PROTOCOL = ProtocolCard(
    env="toy:Slide", versions={}, tasks=("Slide",), embodiment="pusht", instructions=("push",),
    split="seen", subgoals=(), horizon=3, rate=10.0, rendering={}, seeds=(0, 9), episodes=10,
    contract=None, code="0",
)  # fmt: skip


def evaluated(solved: str) -> EvalReport:
    """A result whose episodes were solved where there is a 1."""
    found = [(Episode(seed, mark == "1", 3), [], {}) for seed, mark in enumerate(solved)]
    return summarize("policy", found, PROTOCOL)


def test_the_table_pools_seeds_and_compares_the_same_episodes():
    results = {
        Cell("stage2", 5, 0, "vla"): [evaluated("1111111110")],
        Cell("none", 5, 1, "vla"): [evaluated("0000011111")],
        Cell("none", 5, 0, "vla"): [evaluated("1000000000")],
    }
    heldout = {cell: 0.2 if cell.seed else 0.4 for cell in results}
    plain, trained = rows_of(results, heldout)
    assert (plain.successes, plain.episodes, plain.heldout) == (6, 20, pytest.approx(0.3))
    assert plain.seeds == {0: (1, 10), 1: (5, 10)}
    lines = table([plain, trained]).splitlines()[2:]
    low, high = wilson(6, 20)
    assert f"| 6 of 20 (30%) | {low:.0%} to {high:.0%} | 1/10, 5/10 |" in lines[0]
    # Seed 1 has no pair yet: eight episodes more of ten, one of a coin in 2^8 each way.
    assert "+80 points (" in lines[1]
    assert f"p = {2 / 2**8:.3f}" in lines[1]
