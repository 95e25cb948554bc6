"""The sheet of a real robot: asked, kept trial by trial, compared like any other result."""

import io

import pytest

from motus_recipes import compare
from motus_recipes.evaluation.closed_loop import read_evaluation_file

SHEET = """
task: push
subgoals: [touched, moved, in place]
robot:
  embodiment: pusht
  instruction: push the block
  split: seen
  trials: 3
  rate: 10
  limit: 30
  setup: white table
"""


@pytest.fixture
def fill(motus, tmp_path, monkeypatch):
    """Answer the form of `motus score`."""
    (tmp_path / "sheet.yaml").write_text(SHEET)

    def answer(text: str, *options: str, name: str = "a"):
        monkeypatch.setattr("sys.stdin", io.StringIO(text.replace(" ", "\n")))
        out = tmp_path / f"{name}.json"
        return motus("score", "sheet.yaml", "--policy", name, "--out", out, *options), out

    return answer


def test_partial_success_is_the_share_of_sub_goals(fill):
    ran, out = fill("y y y 4.5 y n n n n n ", "--json")
    assert ran.code == 0, ran.err
    assert "trial 3 of 3: in place?" in ran.err
    told = ran.document
    assert (told["successes"], told["episodes"]) == (1, 3)
    assert told["partial"] == pytest.approx((3 + 1 + 0) / 9)
    assert told["time_to_success"] == 4.5
    kept = read_evaluation_file(out)
    assert kept.results[1].reached == ("touched",)
    assert kept.protocol.env == "robot:push"
    assert (kept.protocol.horizon, kept.protocol.subgoals[-1]) == (300, "in place")


def test_what_cannot_be_read_is_asked_again_and_too_late_is_no_success(fill):
    ran, out = fill("maybe Y yes y soon -1 31 n n n n n n ", "-q")
    assert ran.code == 0, ran.err
    assert ran.err.count("answer y or n") == 1
    assert ran.err.count("a number above 0") == 2
    assert read_evaluation_file(out).successes == 0
    assert read_evaluation_file(out).partial == pytest.approx(1 / 3)


def test_answers_that_end_early_are_kept_and_go_on(fill, tmp_path):
    ran, out = fill("y y y 4 y ")
    assert ran.code == 2
    assert read_evaluation_file(out).episodes == 1
    assert fill("y ")[0].code == 2  # exists
    ran, out = fill("y y n n n n ", "--resume")
    assert ran.code == 0, ran.err
    assert [e.success for e in read_evaluation_file(out).results] == [True, False, False]
    (tmp_path / "sheet.yaml").write_text(SHEET.replace("limit: 30", "limit: 20"))
    ran, _ = fill("y ", "--resume")
    assert ran.code == 1
    assert "horizon" in ran.err


def test_two_policies_are_compared_in_pairs(fill):
    _, a = fill("n n n n n n n n n ", name="a")
    _, b = fill("y y y 4 y y y 4 y y y 4 ", name="b")
    (row,) = compare(a, b).differences
    assert (row.pairs, row.only_b, row.difference) == (3, 3, 1.0)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("trials: 3", "trails: 3", "did you mean"),
        ("trials: 3", "trials: 0", "trials"),
        ("embodiment: pusht", "embodiment: pusth", "pusht"),
        ("split: seen", "", "split"),
        ("task: push", "task: [", "cannot read"),
        ("task: push", "task: [push, pull]", "several tasks"),
        ("  setup: white table", "---\ntask: pull\nsubgoals: [moved]", "several tasks"),
        ("subgoals: [touched, moved, in place]", "subgoals: []", "at least 1"),
        (SHEET[SHEET.index("robot:") :], "", "says nothing of a robot"),
    ],
)
def test_a_wrong_sheet_is_named(fill, tmp_path, old, new, named):
    (tmp_path / "sheet.yaml").write_text(SHEET.replace(old, new))
    ran, out = fill("y ")
    assert ran.code == 2
    assert named in ran.err
    assert not out.exists()
