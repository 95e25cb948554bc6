"""One policy of size `tiny` for five tasks of Meta-World, told apart by its instruction.

    python -m motus_recipes.experiments.metaworld --out experiments/metaworld

Records Meta-World's experts, converts, trains, exports, and evaluates in closed loop, also with the
instruction of another task. What is on disk is not done again, so the same command goes on where it
was stopped. The table that it prints stands in docs/results/simulators.md.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from motus_adapters import convert, is_finished, record
from motus_recipes.evaluation.closed_loop import EvalReport, evaluate, read_evaluation_file
from motus_recipes.experiments.bed import HERE
from motus_recipes.experiments.costs import Costs, tell
from motus_recipes.experiments.ending import exit_code
from motus_recipes.exporting import export
from motus_recipes.library import load_recipe
from motus_recipes.training.runs import train

CARD = "sawyer-metaworld"
RECIPE = HERE / "metaworld.yaml"
EXECUTE = 8  # rows of 0.0125 s before the policy looks again

# Each task twenty-five times in the simulator's own words and as often in these.
TASKS: Mapping[str, str] = {
    "faucet-open": "rotate the handle of the faucet counter-clockwise",
    "faucet-close": "rotate the handle of the faucet clockwise",
    "drawer-open": "open the drawer by its handle",
    "button-press-topdown": "press down the button on top of the box",
    "window-open": "push the window to open it",
}
# Two tasks with the same scene: only the words tell which way to turn.
SWAPPED = {"faucet-open": "turn the faucet off", "faucet-close": "turn the faucet on"}


@dataclass(frozen=True)
class Scale:
    """How much of everything; `quick` shows that it runs, not that it works."""

    tasks: tuple[str, ...] = tuple(TASKS)
    demonstrations: int = 50
    episodes: int = 50
    swapped_episodes: int = 20
    changes: tuple[str, ...] = ()


def _quick() -> Scale:
    tasks = ("faucet-open", "faucet-close")
    datasets = ", ".join(f"{task}: {{level: 6}}" for task in tasks)
    sources = ", ".join(f"{task}: 1" for task in tasks)
    changes = {"sources": f"{{{sources}}}", "steps": 2, "batch": 4}
    stages = [stage.name for stage in load_recipe(str(RECIPE)).spec.stages]
    return Scale(
        tasks=tasks,
        demonstrations=4,
        episodes=1,
        swapped_episodes=1,
        changes=(
            f"datasets={{{datasets}}}",
            *(f"stages.{s}.{key}={value}" for s in stages for key, value in changes.items()),
        ),
    )


class Experiment:
    """Everything in one folder.

    Args:
        out: The folder.
        scale: How much.
        workers: Processes that record, convert and evaluate.
    """

    def __init__(self, out: Path, scale: Scale, workers: int = 1) -> None:
        self.out, self.scale, self.workers = out, scale, workers
        self.costs = Costs(out / "costs.json")
        self.policy = out / "policies" / CARD

    def run(self) -> str:
        """Do what is left to do; the table, in Markdown."""
        for task in self.scale.tasks:
            self._data(task)
        run = self.out / "runs" / RECIPE.stem
        if not (run / "run.json").is_file():
            with self.costs("train"):
                data = {task: self.out / "data" / task for task in self.scale.tasks}
                recipe = load_recipe(str(RECIPE), overrides=self.scale.changes)
                train(recipe, run=run, data=data, resume=True, on_progress=tell("train"))
        if not self.policy.is_dir():
            export(run, CARD, self.policy, execute=EXECUTE)
        own = {task: self._measure(task, self.scale.episodes) for task in self.scale.tasks}
        swapped = {
            task: self._measure(task, self.scale.swapped_episodes, words)
            for task, words in SWAPPED.items()
            if task in self.scale.tasks
        }
        return self._table(own, swapped)

    def _data(self, task: str) -> None:
        """Demonstrations of a task, and the dataset of them."""
        folder, data = self.out / "recordings" / task, self.out / "data" / task
        for number, words in enumerate((None, TASKS[task])):
            file = folder / f"{number}.hdf5"
            if not file.is_file():
                with self.costs("record"):
                    record(
                        f"metaworld:{task}-v3",
                        file,
                        episodes=self.scale.demonstrations // 2,
                        seed=1000 * number,
                        instruction=words,
                        workers=self.workers,
                        on_progress=tell(f"record {task}"),
                    )
        if not is_finished(data):
            with self.costs("convert"):
                convert(
                    folder,
                    data,
                    card=CARD,
                    codec=None,  # stage 3 alone has no use for latent actions
                    workers=self.workers,
                    resume=True,
                    on_progress=tell(f"convert {task}"),
                )

    def _measure(self, task: str, episodes: int, words: str | None = None) -> EvalReport:
        """Success of a task, told in its own words or in others."""
        folder = self.out / ("swapped" if words else "results")
        file = folder / f"{task}.json"
        if not file.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with self.costs("swapped" if words else "evaluate"):
                evaluate(
                    self.policy,
                    f"metaworld:{task}-v3",
                    episodes,
                    instruction=words,
                    workers=self.workers,
                    film=folder / f"{task}.mp4",
                    out=file,
                    force=True,  # a film may be there whose result an interruption kept away
                    on_progress=tell(f"evaluate {task}"),
                )
        return read_evaluation_file(file)

    def _table(self, own: Mapping[str, EvalReport], swapped: Mapping[str, EvalReport]) -> str:
        rows = ["| task | told | solved | 95 % interval | steps |", "|---|---|---|---|---|"]
        for reports in (own, swapped):
            rows += [_row(task, report) for task, report in reports.items()]
        mean = sum(report.rate for report in own.values()) / len(own)
        return "\n".join([*rows, "", f"Mean over the tasks: {100 * mean:.0f} %.", str(self.costs)])


def _row(task: str, report: EvalReport) -> str:
    steps = "-" if report.mean_steps is None else f"{report.mean_steps:.0f}"
    return (
        f"| {task} | {report.protocol.instructions[0]} | {report.successes} of {report.episodes} "
        f"| {100 * report.low:.0f} to {100 * report.high:.0f} % | {steps} |"
    )


def _show(table: str) -> None:
    sys.stdout.write(table + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="One policy for five Meta-World tasks.")
    parser.add_argument("--out", type=Path, default=Path("experiments/metaworld"))
    parser.add_argument("--workers", type=int, default=1, help="processes that simulate")
    parser.add_argument("--quick", action="store_true", help="a few steps: does it run")
    given = parser.parse_args(arguments)
    scale = _quick() if given.quick else Scale()
    experiment = Experiment(given.out, scale, given.workers)
    return exit_code(lambda: _show(experiment.run()))


if __name__ == "__main__":
    sys.exit(main())
