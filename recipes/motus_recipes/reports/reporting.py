"""Runs side by side on one page: losses, mixture, latents, success, films, protocol."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from motus_adapters import check_free
from motus_recipes.evaluation.closed_loop import EvalReport
from motus_recipes.reports.charts import latent_chart, loss_chart, success_chart
from motus_recipes.reports.demo_page import latent_rows
from motus_recipes.reports.markup import details, drawing, escape, figure, table, write_html
from motus_recipes.reports.mode_page import mode_sections
from motus_recipes.reports.rerun_file import check_rerun, write_rerun
from motus_recipes.reports.run_files import RunFiles, read_run

COUNTED = ("clipped", "slowed", "outside", "frozen")  # what a policy counts while it drives


@dataclass(frozen=True)
class ReportReport:
    """What `motus report` wrote.

    Attributes:
        missing: What the page could not show, and the command that would make it.
        rerun: The recording for the rerun viewer; None where none was asked for.
    """

    page: Path
    runs: tuple[str, ...]
    stages: int
    results: int
    samples: int
    missing: tuple[str, ...]
    rerun: Path | None = None


def report(
    runs: Sequence[Path], out: Path, *, rerun: Path | None = None, force: bool = False
) -> ReportReport:
    """Write one HTML page about training runs; everything it shows lies inside it.

    Args:
        runs: Their folders. What lies in a run's `evaluations/` and `samples/` is shown as well.
        out: The page.
        rerun: Also write a recording for the rerun viewer, here.
        force: Replace them.

    Raises:
        UsageError: `out` or `rerun` is there already.
        MissingError: `rerun` is asked for, and the package rerun-sdk is not installed.
        DataError: A folder is no run, or a file in it is damaged.
    """
    check_free(out, force=force)
    if rerun is not None:
        check_rerun(rerun, force=force)
    names = [folder.resolve().name for folder in runs]
    unlike = len({*names}) == len(names)
    found = [
        read_run(folder, name if unlike else str(folder))
        for folder, name in zip(runs, names, strict=True)
    ]
    sections = [
        *_runs(found),
        *_losses(found),
        *_mixture(found),
        *_latents(found),
        *_success(found),
        *_modes(found),
    ]
    title = "Run " + found[0].name if len(found) == 1 else f"{len(found)} runs"
    write_html(out, title, sections)
    if rerun is not None:
        samples = [(run.name, sample) for run in found for sample in run.samples]
        write_rerun(rerun, found, samples, force=force)
    return ReportReport(
        page=out,
        runs=tuple(run.name for run in found),
        stages=len({name for run in found for name in run.stages}),
        results=sum(len(run.results) for run in found),
        samples=sum(len(run.samples) for run in found),
        missing=tuple(_missing(runs, found)),
        rerun=rerun,
    )


def _missing(folders: Sequence[Path], runs: Sequence[RunFiles]) -> Iterator[str]:
    for folder, run in zip(folders, runs, strict=True):
        if not run.results:
            yield f"success: motus eval POLICY --env ENV --out {folder}/evaluations/NAME.json"
        if not run.samples:
            made = f"motus sample POLICY --dataset DATASET --all-modes --out {folder}/samples"
            yield f"films: {made}"


def _runs(runs: Sequence[RunFiles]) -> list[str]:
    rows = [
        {
            "run": run.name,
            "recipe": run.settings["recipe"]["name"],
            "size": run.settings["recipe"]["size"],
            "seed": run.settings["recipe"].get("seed", ""),
            "data": ", ".join(run.settings["data"]),
            "stages done": sum(stage.report is not None for stage in run.stages.values()),
            "started": run.environment.get("started", ""),
            "code": _code(run),
        }
        for run in runs
    ]
    return ["<h2>Runs</h2>", table(rows, "runs")]


def _code(run: RunFiles) -> str:
    told = [run.environment.get(key) for key in ("motus", "git")]
    return " ".join(str(part)[:12] for part in told if part)


def _losses(runs: Sequence[RunFiles]) -> Iterator[str]:
    yield "<h2>Losses</h2>"
    rows = []
    for name in dict.fromkeys(stage for run in runs for stage in run.stages):
        has = {run.name: run.stages[name] for run in runs if name in run.stages}
        curves = {run: stage.losses for run, stage in has.items() if stage.losses}
        if curves:
            ends = "; ".join(
                f"{run} from {points[0][1]:.4g} to {points[-1][1]:.4g}"
                for run, points in curves.items()
            )
            found = {
                run: stage.report["heldout_loss"] for run, stage in has.items() if stage.report
            }
            heldout = {run: loss for run, loss in found.items() if loss is not None}
            yield figure(drawing(loss_chart(curves, heldout), f"loss of {name}: {ends}"), name)
        rows += [_stage_row(run, stage.report) for run, stage in has.items() if stage.report]
    yield table(rows, "stages")


def _stage_row(run: str, stage: Any) -> dict[str, Any]:
    held = stage["heldout_loss"]
    return {
        "run": run,
        "stage": stage["name"],
        "steps": stage["steps"],
        "first loss": f"{stage['first_loss']:.4f}",
        "last loss": f"{stage['loss']:.4f}",
        "held out": "" if held is None else f"{held:.4f}",
        "seconds": f"{stage['seconds']:.0f}",
    }


def _mixture(runs: Sequence[RunFiles]) -> list[str]:
    """Realised shares: a row a stage, a column a source."""
    found = {
        (run.name, name): stage.report["details"]["shares"]
        for run in runs
        for name, stage in run.stages.items()
        if stage.report and "shares" in stage.report["details"]
    }
    sources = dict.fromkeys(source for shares in found.values() for source in shares)
    rows = [
        {
            "run": run,
            "stage": stage,
            **{name: f"{shares[name]:.1%}" if name in shares else "" for name in sources},
        }
        for (run, stage), shares in found.items()
    ]
    return ["<h2>Mixture, as it came out</h2>", table(rows, "mixture")] if rows else []


def _latents(runs: Sequence[RunFiles]) -> list[str]:
    found = [
        (run.name, stage.report["details"]["health"])
        for run in runs
        for stage in run.stages.values()
        if stage.report and stage.report["details"].get("health")
    ]
    if not found:
        return []
    kl = {f"{run}, {data}": h["kl"] for run, health in found for data, h in health.items()}
    told = "KL of each latent dimension: " + "; ".join(
        f"{name} from {min(values):.2g} to {max(values):.2g}" for name, values in kl.items()
    )
    rows = [{"run": run, **row} for run, health in found for row in latent_rows(health)]
    return [
        "<h2>Latent actions, on held-out episodes</h2>",
        figure(drawing(latent_chart(kl), told), "information in each latent dimension"),
        table(rows, "latents"),
    ]


def _success(runs: Sequence[RunFiles]) -> Iterator[str]:
    results = [(run.name, name, result) for run in runs for name, result in run.results.items()]
    if not results:
        return
    yield "<h2>Success in closed loop</h2>"
    named = [(f"{run}: {name}, {result.env}", result) for run, name, result in results]
    told = "; ".join(f"{name} {result.rate:.0%}" for name, result in named)
    yield figure(drawing(success_chart(named), f"success: {told}"), "rate and 95 % interval")
    yield table([_result_row(run, name, result) for run, name, result in results], "success")
    for name, result in named:
        facts = [{"": key, "value": _flat(value)} for key, value in asdict(result.protocol).items()]
        yield details(f"Protocol of {name}", table(facts, f"protocol of {name}"))
        crashed = [
            {"seed": episode.seed, "crash": episode.crash}
            for episode in result.results
            if episode.crash
        ]
        if crashed:
            yield details(f"Crashed episodes of {name}", table(crashed, f"crashes of {name}"))


def _result_row(run: str, name: str, result: EvalReport) -> dict[str, Any]:
    seconds, latency = result.time_to_success, result.latency
    return {
        "run": run,
        "result": name,
        "environment": result.env,
        "success": f"{result.rate:.1%}",
        "95 % interval": f"{result.low:.1%} to {result.high:.1%}",
        "episodes": result.episodes,
        "crashed": result.crashed,
        "sub-goals": "" if result.partial is None else f"{result.partial:.1%}",
        "time to success (s)": "" if seconds is None else f"{seconds:.1f}",
        **{name: result.counts.get(name, "") for name in COUNTED},
        "latency p50, p95, p99 (ms)": ""
        if latency is None
        else f"{latency.median:.1f}, {latency.p95:.1f}, {latency.p99:.1f}",
        "policy": result.policy,
    }


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _modes(runs: Sequence[RunFiles]) -> Iterator[str]:
    sampled = [run for run in runs if run.samples]
    if not sampled:
        return
    named = [(run.name if len(runs) > 1 else "", run) for run in sampled]
    yield "<h2>Five modes on a recorded episode</h2>"
    yield (
        "<p>"
        + "; ".join(
            escape(f"{name or run.name}: episode {run.samples[0].episode}") for name, run in named
        )
        + "</p>"
    )
    yield from mode_sections([(name, sample) for name, run in named for sample in run.samples])
