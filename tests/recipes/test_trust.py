"""What makes a result trustworthy: its protocol, its crashes, its comparison with another."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motus_adapters import UnifiedDataset
from motus_adapters.deployment.limits import Limits
from motus_embodiments import DataError, MismatchError, UsageError
from motus_recipes import compare, evaluate
from motus_recipes.evaluation.closed_loop import read_evaluation_file
from motus_recipes.evaluation.driving import Solving, run_episode
from motus_recipes.evaluation.intervals import mcnemar, newcombe, newcombe_paired

ENV = "toy:Slide"
SOLVED = st.integers(0, 40)
SHEET = """
task: toy:Slide
subgoals:
  past the middle: place > 256
  at the end: success
"""


@pytest.fixture
def sheet(tmp_path: Path) -> Path:
    file = tmp_path / "sheet.yaml"
    file.write_text(SHEET)
    return file


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        # Examples of Newcombe 1998 (873-890), as the tests of the R package m-Py/propint give them
        ((48, 80), (56, 70), 0.0524, 0.3339),
        ((3, 10), (9, 10), 0.1705, 0.8090),
        # statsmodels 0.15.0, confint_proportions_2indep(method="newcomb")
        ((2, 7), (6, 7), 0.0582, 0.8062),
        ((0, 29), (5, 56), -0.0381, 0.1926),
        ((0, 20), (0, 10), -0.1611, 0.2775),
        ((0, 20), (10, 10), 0.6791, 1.0),
    ],
)
def test_independent_differences_agree_with_published_intervals(a, b, low, high):
    assert newcombe(*a, *b) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("both", "only_a", "only_b", "neither", "low", "high"),
    [
        # Examples of Newcombe 1998 (2635-2650), as the tests of m-Py/propint give them
        (36, 2, 12, 0, 0.0569, 0.3404),
        (18, 2, 12, 18, 0.0562, 0.3290),
        (53, 0, 0, 1, -0.0729, 0.0729),
        (0, 0, 30, 0, 0.8395, 1.0),
        # Cavo 2012, as the tests of the R package contingencytables (Fagerland, Lydersen, Laake)
        # give it; there the difference is a less b
        (59, 6, 16, 80, 0.0046, 0.1186),
        # By hand: phi = (39 * 59 - 1 - 50) / (40 * 60), wilson 0.3094 to 0.4980 of 40/100
        (39, 1, 1, 59, -0.0341, 0.0341),
    ],
)
def test_paired_differences_agree_with_published_intervals(
    both, only_a, only_b, neither, low, high
):
    found = newcombe_paired(both, only_a, only_b, neither)
    assert found == pytest.approx((low, high), abs=1e-4)


def test_mcnemar_is_a_coin_toss():
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == 2 / 2**5
    assert mcnemar(2, 8) == pytest.approx(2 * (1 + 10 + 45) / 2**10)
    # statsmodels 0.15.0, mcnemar(table, exact=True)
    assert mcnemar(4, 9) == pytest.approx(0.266845703125)
    assert mcnemar(6, 16) == pytest.approx(0.052478790283203125)


@given(SOLVED, SOLVED, SOLVED, SOLVED)
def test_intervals_hold_the_difference_and_turn_with_it(both, only_a, only_b, neither):
    count = both + only_a + only_b + neither
    if not count:
        return
    low, high = newcombe_paired(both, only_a, only_b, neither)
    assert -1 <= low <= (only_b - only_a) / count + 1e-9
    assert (only_b - only_a) / count - 1e-9 <= high <= 1
    turned = newcombe_paired(both, only_b, only_a, neither)
    assert turned == pytest.approx((-high, -low), abs=1e-9)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


def test_the_same_seed_gives_the_same_result_with_its_protocol(toys, tmp_path: Path):
    file = tmp_path / "expert.json"
    one = evaluate("expert", ENV, 4, opener=toys.slide, out=file)
    again = evaluate("expert", ENV, 4, opener=toys.slide)
    assert one.results == again.results
    assert one.protocol == again.protocol
    assert one.successes == 4
    steps = [episode.steps for episode in one.results]
    assert one.time_to_success == pytest.approx(sum(steps) / 4 / 10)
    assert one.latency is not None
    assert one.latency.calls == sum(steps)
    assert 0 <= one.latency.median <= one.latency.p95 <= one.latency.p99 <= one.latency.worst
    card = one.protocol
    assert (card.tasks, card.horizon, card.rate) == (("Slide",), 14, 10.0)
    assert card.rendering["img"] == "48 x 48"
    assert card.seeds == (1_000_000, 1_000_003)
    assert card.split == "seen"
    assert card.code.startswith("motus-cli ")
    assert card.versions == {"toy": "1"}
    assert read_evaluation_file(file) == one
    with pytest.raises(UsageError):
        evaluate("expert", ENV, 4, opener=toys.slide, out=file)
    other = evaluate("expert", ENV, 1, opener=toys.slide, instruction="shove it")
    assert (other.protocol.split, other.protocol.instructions) == ("unseen", ("shove it",))


def test_a_crashed_episode_is_counted_and_named(toys, sheet):
    report = evaluate("expert", ENV, 3, opener=toys.crashing, sheet=sheet)
    assert [episode.success for episode in report.results] == [True, False, True]
    assert report.results[1].crash == "FloatingPointError: the physics exploded"
    assert (report.crashed, report.successes, report.episodes) == (1, 2, 3)
    assert report.rate == pytest.approx(2 / 3)
    assert report.partial == pytest.approx(2 / 3)


def test_a_driver_begins_anew_even_if_the_simulator_cannot():
    """Else the counts of the episode before would stand for this one."""
    begun = []

    def die(seed):
        raise OSError(f"no episode {seed}")

    simulator, driver = SimpleNamespace(reset=die), SimpleNamespace(reset=begun.append)
    with pytest.raises(OSError, match="no episode 3"):
        run_episode(simulator, driver, 3)
    assert begun == [3]


def test_partial_success_is_the_share_of_sub_goals(toys, sheet):
    report = evaluate("random", ENV, 6, opener=toys.slide, sheet=sheet)
    reached = [episode.reached for episode in report.results]
    assert ("past the middle",) in reached
    assert report.partial == pytest.approx(sum(map(len, reached)) / 12)
    assert report.partial > report.rate


def test_a_process_that_dies_takes_only_its_own_episode_with_it(toys):
    report = evaluate("expert", ENV, 3, opener=toys.dying, workers=2)
    assert [episode.success for episode in report.results] == [True, False, True]
    assert "died" in (report.results[1].crash or "")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_simulator_that_is_killed_costs_one_episode_and_is_named(toys, workers):
    report = evaluate("expert", "toy:Point", 4, opener=toys.killed, workers=workers)
    assert [episode.seed for episode in report.results] == list(range(1_000_000, 1_000_004))
    assert [episode.success for episode in report.results] == [True, False, True, True]
    assert report.crashed == 1
    assert "died (exit -9)" in (report.results[1].crash or "")


def test_episodes_and_totals_count_the_same(toys, untrained, tmp_path, monkeypatch):
    def cut(_limits, actions, _state, counts):
        counts.clipped += 2
        counts.slowed += 1
        return actions

    monkeypatch.setattr(Limits, "__call__", cut)
    policy = untrained(tmp_path / "policy", "pusht", {"head": (48, 48)})
    report = evaluate(policy, ENV, 2, opener=toys.slide)
    assert report.counts["clipped"] == 2 * report.counts["slowed"] > 0
    for kind in ("clipped", "slowed"):
        assert report.counts[kind] == sum(getattr(episode, kind) for episode in report.results)


def test_baselines_and_a_policy_run_under_one_protocol(
    toys, squares: Path, untrained, tmp_path, monkeypatch
):
    policy = untrained(tmp_path / "policy", "pusht", {"head": (48, 48)})
    reports = {
        name: evaluate(name, ENV, 2, opener=toys.slide)
        for name in ("expert", "random", f"replay:{squares}", str(policy))
    }
    for report in reports.values():
        assert replace(report.protocol, contract=None) == reports["expert"].protocol
    assert reports[f"replay:{squares}"].successes == 0  # its episodes end at the left
    assert reports["random"].results == evaluate("random", ENV, 2, opener=toys.slide).results
    own = reports[str(policy)]
    assert own.protocol.contract
    # a folder that is replaced meanwhile changes nothing of what was loaded
    gone = evaluate(
        policy,
        ENV,
        1,
        opener=toys.slide,
        on_progress=lambda *_: shutil.move(policy, tmp_path / "x"),
    )
    assert gone.weights == own.weights
    assert gone.solving == own.solving == Solving("vla", 2, 2)
    with pytest.raises(MismatchError, match="10 Hz"):
        evaluate(f"replay:{squares}", ENV, 1, opener=toys.faster)
    with pytest.raises(DataError):
        evaluate(f"replay:{tmp_path / 'nowhere'}", ENV, 1, opener=toys.slide)
    monkeypatch.setattr(UnifiedDataset, "arrays", lambda dataset, episode: {})
    with pytest.raises(DataError, match="no actions to replay"):
        evaluate(f"replay:{squares}", ENV, 1, opener=toys.slide)


def test_a_comparison_is_paired_where_seeds_are_the_same(toys, squares: Path, tmp_path: Path):
    a, b, c = (tmp_path / name for name in ("a.json", "b.json", "c.json"))
    evaluate(f"replay:{squares}", ENV, 6, opener=toys.slide, out=a)
    evaluate("expert", ENV, 6, opener=toys.slide, out=b)
    evaluate("expert", ENV, 8, seed=1, opener=toys.slide, out=c)
    (row,) = compare(a, b).differences
    assert (row.a, row.b, row.difference) == (0.0, 1.0, 1.0)
    assert (row.pairs, row.only_a, row.only_b) == (6, 0, 6)
    assert row.p_value == 2 / 2**6
    assert (row.low, row.high) == newcombe_paired(0, 0, 6, 0)
    apart = compare(a, c)
    assert apart.differences[0].pairs == 0
    assert (apart.differences[0].low, apart.differences[0].high) == newcombe(0, 6, 8, 8)
    assert any("seeds" in remark for remark in apart.remarks)
    evaluate("expert", ENV, 8, opener=toys.slide, out=c, force=True)
    document = json.loads(c.read_text())
    for number, crashed in ((7, 0), (5, 1)):  # six are compared
        document["results"][number]["crash"] = "out of memory"
        c.write_text(json.dumps(document))
        assert compare(a, c).differences[0].crashed == crashed
    folders = [tmp_path / "old", tmp_path / "new"]
    for folder, file in zip(folders, (a, b), strict=True):
        folder.mkdir()
        file.rename(folder / file.name)
    assert compare(*folders).differences == (row,)


def test_unlike_protocols_are_refused_with_the_first_difference(toys, tmp_path: Path, motus):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    evaluate("expert", ENV, 2, opener=toys.slide, out=a)
    evaluate("expert", ENV, 2, opener=toys.faster, out=b)
    with pytest.raises(MismatchError, match=r"rate is 10\.0 in the first, 20\.0 in the second"):
        compare(a, b)
    document = json.loads(a.read_text())
    document["protocol"]["versions"]["toy"] = "2"
    b.write_text(json.dumps(document))
    ran = motus("compare", a, b)
    assert ran.code == 1
    assert "versions.toy" in ran.err
    ran = motus("compare", a, a, "--json")
    assert ran.code == 0
    assert ran.document["differences"][0]["difference"] == 0
    for text in ("{}", "nothing", a.read_text()[:200]):
        b.write_text(text)
        assert motus("compare", a, b).code == 4
    assert motus("compare", a, tmp_path / "nowhere.json").code == 4
