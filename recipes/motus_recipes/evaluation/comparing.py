"""Two evaluations held against each other: refused where their protocols differ."""

from dataclasses import dataclass
from pathlib import Path

from motus_embodiments import DataError, MismatchError
from motus_recipes.evaluation.closed_loop import EvalReport, read_evaluation_file
from motus_recipes.evaluation.intervals import mcnemar, newcombe, newcombe_paired
from motus_recipes.evaluation.protocol_card import protocol_differences

EVALUATIONS = "evaluations"  # folder in a run


@dataclass(frozen=True)
class Difference:
    """What b reaches more than a in one environment, with its 95 % interval.

    Attributes:
        a: Success of a.
        b: Success of b.
        difference: b less a.
        pairs: Episodes of the same seeds; 0 for independent ones.
        only_a: Pairs that a alone solved.
        only_b: Pairs that b alone solved.
        p_value: That they solve pairs equally often (exact McNemar); None without pairs.
        crashed: Of the episodes compared, those that crashed; they count as failures.
    """

    env: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    pairs: int
    only_a: int | None
    only_b: int | None
    p_value: float | None
    crashed: int


@dataclass(frozen=True)
class CompareReport:
    """A comparison, a row an environment.

    Attributes:
        remarks: In what else the two differ, as far as a comparison allows it.
    """

    a: Path
    b: Path
    differences: tuple[Difference, ...]
    remarks: tuple[str, ...]


def compare(a: Path, b: Path) -> CompareReport:
    """Compare two results of `motus eval`, or two folders of results by their environments.

    Raises:
        DataError: A file is no result, or a folder has none, or two of one environment.
        MismatchError: The protocols differ; the first difference is named.
    """
    ones, others = read_evaluations(a), read_evaluations(b)
    for env in sorted({*ones} ^ {*others}):
        lacking = b if env in ones else a
        raise MismatchError(
            f"{lacking} has no result in '{env}'",
            hint="both sides need the same environments",
            where=str(lacking),
        )
    rows, remarks = [], []
    for env, one in ones.items():
        binding, free = protocol_differences(one.protocol, others[env].protocol)
        if binding:
            key, was, now = binding[0]
            raise MismatchError(
                f"{a} and {b} were not measured under one protocol: "
                f"{key} is {_brief(was)} in the first, {_brief(now)} in the second",
                hint="measure one of them again as the other was",
            )
        rows.append(_difference(one, others[env]))
        remarks += [f"{env}: {key} {_brief(was)} and {_brief(now)}" for key, was, now in free]
    return CompareReport(a, b, tuple(rows), tuple(remarks))


def read_evaluations(path: Path) -> dict[str, EvalReport]:
    """Results by environment: of a file, of a folder, or of a run's `evaluations/`.

    Raises:
        DataError: There are none, or two of one environment.
    """
    if not path.is_dir():
        files = [path]
    else:
        folder = path / EVALUATIONS if (path / EVALUATIONS).is_dir() else path
        files = sorted(folder.glob("*.json"))
    found: dict[str, EvalReport] = {}
    for file in files:
        report = read_evaluation_file(file)
        if report.env in found:
            raise DataError(
                f"{path} has two results in '{report.env}'", hint="name the file", where=str(file)
            )
        found[report.env] = report
    if not found:
        hint = "motus eval POLICY --env ENV --out FILE makes one"
        raise DataError(f"{path} has no result", hint=hint, where=str(path))
    return found


def _difference(one: EvalReport, other: EvalReport) -> Difference:
    """Over the seeds that both have; where there are none, over all episodes of each."""
    a, b = ({e.seed: e.success for e in report.results} for report in (one, other))
    shared = sorted({*a} & {*b})
    compared = (e for report in (one, other) for e in report.results)
    crashed = sum(e.crash is not None for e in compared if not shared or e.seed in shared)
    if not shared:
        low, high = newcombe(one.successes, one.episodes, other.successes, other.episodes)
        more = other.rate - one.rate
        return Difference(
            one.env, one.rate, other.rate, more, low, high, 0, None, None, None, crashed
        )
    both = sum(a[seed] and b[seed] for seed in shared)
    only_a = sum(a[seed] and not b[seed] for seed in shared)
    only_b = sum(b[seed] and not a[seed] for seed in shared)
    count = len(shared)
    low, high = newcombe_paired(both, only_a, only_b, count - both - only_a - only_b)
    return Difference(
        env=one.env,
        a=(both + only_a) / count,
        b=(both + only_b) / count,
        difference=(only_b - only_a) / count,
        low=low,
        high=high,
        pairs=count,
        only_a=only_a,
        only_b=only_b,
        p_value=mcnemar(only_a, only_b),
        crashed=crashed,
    )


def _brief(value: object) -> str:
    if isinstance(value, tuple | list):
        return " to ".join(map(str, value)) if len(value) == 2 else ", ".join(map(str, value))
    return "none" if value is None else f"'{value}'" if isinstance(value, str) else str(value)
