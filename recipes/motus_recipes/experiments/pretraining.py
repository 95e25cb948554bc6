"""Does pretraining help? Stage 3 on few demonstrations, with and without stages 1 and 2 before it.

    python -m motus_recipes.experiments.pretraining --page docs/results/pretraining.md

Four arms are pretrained on, with anchoring data of a fifth; the fifth is fine-tuned on. A run that
was stopped goes on where it was: what is finished is never done again.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from motus_adapters import write_json
from motus_embodiments import MismatchError
from motus_recipes.evaluation.closed_loop import EvalReport, evaluate, read_evaluation_file
from motus_recipes.experiments.bed import HERE, LIFT, Bed, Data, Say
from motus_recipes.experiments.ending import exit_code
from motus_recipes.experiments.grid import ANCHORED, STARTS, Cell, Grid
from motus_recipes.experiments.pretraining_page import write_section
from motus_recipes.exporting import export
from motus_recipes.library import load_recipe
from motus_recipes.training.runs import train

PRETRAINING, FINETUNING = HERE / "pretraining.yaml", HERE / "finetuning.yaml"
ANCHORING = "anchoring"  # the recipe's name for it
DENOISING_STEPS = 3
EXECUTE = 6  # rows of a chunk, 0.3 s of robosuite's time


class Experiment:
    """The grid's runs, policies and results under one folder."""

    def __init__(self, bed: Bed, grid: Grid, folder: Path, say: Say, workers: int = 1) -> None:
        self.bed, self.grid, self.folder, self.workers = bed, grid, folder, workers
        self.data = Data(bed, folder, say, workers)
        self._say = say

    def run(self) -> Iterator[Cell]:
        """Do what is not done yet, a block of a cell at a time.

        Raises:
            MismatchError: The folder holds cells of another experiment.
        """
        self._settle()
        for cell, block in self.grid.cells():
            if not self._result(cell, block).is_file():
                self._measure(cell, block)
                yield cell

    def write(self, page: Path) -> None:
        """Put what is measured so far into a page."""
        found: dict[Cell, list[EvalReport]] = {}
        for cell, block in self.grid.cells():
            if self._result(cell, block).is_file():
                found.setdefault(cell, []).append(read_evaluation_file(self._result(cell, block)))
        if found:
            heldout = {c: self._heldout(c) for c in found if STARTS[c.start].trains}
            write_section(found, heldout, self._protocol(), page)

    def _heldout(self, cell: Cell) -> float:
        """Error of the actions on demonstrations that a cell's run did not train on."""
        report = json.loads((self._run(cell.run) / "run.json").read_text())
        return float(report["stages"][-1]["details"]["heldout"]["target"]["action"])

    def _protocol(self) -> str:
        bed, grid = self.bed, self.grid
        stages = load_recipe(str(PRETRAINING), overrides=grid.pretraining).spec.stages
        tuned = load_recipe(str(FINETUNING), overrides=grid.finetuning).spec.stages[-1]
        told = ", ".join(f"{s.name} {s.steps} steps of {s.batch}" for s in stages)
        return (
            f"Pretrained on {grid.recorded} episodes each of {', '.join(bed.arms)} and on "
            f"{grid.anchors} trajectories of {grid.anchor_frames} frames of anchoring data of the "
            f"target ({told}). Fine-tuned for `{bed.target.env}`: {tuned.steps} steps of "
            f"{tuned.batch} where the table says nothing else. Evaluated from the same places in "
            f"every row, at most {bed.horizon} control steps, {DENOISING_STEPS} denoising steps, "
            f"{EXECUTE} rows of a chunk at a time. A seed has demonstrations, an order and noise "
            "of its own; pretraining was done once. Intervals are over the episodes of all seeds "
            "together."
        )

    def _settle(self) -> None:
        """Note what every cell depends on; a folder with other notes is refused."""
        settings = {
            "bed": asdict(self.bed),
            "recipes": [yaml.safe_load(path.read_text()) for path in (PRETRAINING, FINETUNING)],
            "changes": [self.grid.pretraining, self.grid.finetuning],
            "data": [self.grid.recorded, self.grid.anchors, self.grid.anchor_frames],
            "driving": [self.grid.block, DENOISING_STEPS, EXECUTE],
        }
        file = self.folder / "experiment.json"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(file, settings)
        elif json.loads(file.read_text()) != json.loads(json.dumps(settings)):
            raise MismatchError(
                f"{self.folder} holds cells of an experiment with other settings",
                hint="name another folder: --out FOLDER",
                where=str(file),
            )

    def _measure(self, cell: Cell, block: int) -> None:
        policy = self._policy(cell)
        self._say(f"evaluating {cell.name}, block {block}")
        evaluate(
            policy,
            self.bed.target.env,
            self.grid.block,
            block,
            workers=self.workers,
            out=self._result(cell, block),
            opener=self.bed,
        )

    def _policy(self, cell: Cell) -> Path | str:
        """What drives: the cell's policy, trained and exported, or its demonstrations."""
        if not STARTS[cell.start].trains:
            return f"replay:{self.data.demonstrations(cell.demonstrations, cell.seed)}"
        policy = self.folder / "policies" / cell.name
        if not policy.is_dir():
            self._finetune(cell)
            export(
                self._run(cell.run),
                self.data.card().name,
                policy,
                mode=cell.mode,
                steps=DENOISING_STEPS,
                execute=EXECUTE,
            )
        return policy

    def _finetune(self, cell: Cell) -> None:
        if (self._run(cell.run) / "run.json").is_file():
            return
        start = STARTS[cell.start]
        changes = [*start.changes, *self.grid.finetuning, f"seed={cell.seed}"]
        if start.run is not None:
            changes.append(f"stages.stage3.start={self._pretrained(start.run) / start.stage}")
        self._say(f"fine-tuning {cell.run}")
        train(
            load_recipe(str(FINETUNING), overrides=changes),
            run=self._run(cell.run),
            data={"target": self.data.demonstrations(cell.demonstrations, cell.seed)},
            resume=True,
            device="cpu",
        )

    def _pretrained(self, name: str) -> Path:
        run, grid = self._run(f"pretrained-{name}"), self.grid
        if (run / "run.json").is_file():
            return run
        data = {arm: self.data.arm(arm, grid.recorded) for arm in self.bed.arms}
        changes = list(grid.pretraining)
        if name == ANCHORED:
            data[ANCHORING] = self.data.anchoring(grid.anchors, grid.anchor_frames)
        else:
            changes += _without(ANCHORING)
        self._say(f"pretraining, {name}")
        train(
            load_recipe(str(PRETRAINING), overrides=changes),
            run=run,
            data=data,
            resume=True,
            device="cpu",
        )
        return run

    def _run(self, name: str) -> Path:
        return self.folder / "runs" / name

    def _result(self, cell: Cell, block: int) -> Path:
        return self.folder / "results" / f"{cell.name}-{block}.json"


def _without(dataset: str) -> list[str]:
    """Changes of the pretraining recipe that take a dataset out of it."""
    spec = load_recipe(str(PRETRAINING)).spec
    kept = {n: d.model_dump() for n, d in spec.datasets.items() if n != dataset}
    changes = [f"datasets={json.dumps(kept)}"]
    for stage in spec.stages:
        sources = {n: weight for n, weight in stage.sources.items() if n != dataset}
        changes.append(f"stages.{stage.name}.sources={json.dumps(sources)}")
    return changes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment; the page is written anew after each block of episodes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("experiments/pretraining"))
    parser.add_argument("--page", type=Path, help="file that gets the table")
    parser.add_argument("--episodes", type=int, default=Grid.episodes, help="of each cell")
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate")
    given = parser.parse_args(arguments)
    if given.episodes < 1 or given.episodes % Grid.block:
        parser.error(f"--episodes is a multiple of {Grid.block}")
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {text}\n")

    experiment = Experiment(LIFT, Grid(episodes=given.episodes), given.out, say, given.workers)

    def work() -> None:
        for _ in experiment.run():
            if given.page is not None:
                experiment.write(given.page)
        if given.page is not None:
            experiment.write(given.page)

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
