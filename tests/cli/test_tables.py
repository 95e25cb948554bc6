"""Tables that stay readable: sentences below each other, nothing left out but what is nested."""

import pytest

from motus_cli.console import Console, Outcome
from motus_cli.plain import text


def shown(report: object, capsys: pytest.CaptureFixture[str]) -> list[str]:
    Console().result(Outcome(report))
    return capsys.readouterr().out.splitlines()


def test_warnings_stand_below_each_other(capsys):
    warnings = ["camera 'top' is missing, and was left out", "3 episodes are short"]
    rows = shown({"warnings": warnings, "names": ["a", "b"]}, capsys)
    assert rows[0].split(maxsplit=1) == ["warnings", warnings[0]]
    assert rows[1].strip() == warnings[1]
    assert rows[1].index("3") == rows[0].index("camera")
    assert rows[2].split(maxsplit=1) == ["names", "a, b"]


def test_numbers_and_names_are_a_list():
    assert text(["pick up", "put, then go"]) == "pick up\nput, then go"
    assert text([0.5, 2]) == "0.5, 2"
    assert text([[0.5, 2], [1, 3]]) == "0.5, 2, 1, 3"


def test_a_long_cell_is_wrapped_unless_it_is_the_last(capsys):
    told = "one two three four five " * 6
    rows = shown({"rows": [{"key": "k", "old": told, "new": told}]}, capsys)
    assert len(rows[2]) < 70 + len(told)
    assert rows[2].endswith(told.strip())
    assert sum(row.count("five") for row in rows) == 12


def test_an_empty_table_in_a_row_hides_no_column(capsys):
    rows = shown({"values": [{"key": "a", "value": {}}, {"key": "b", "value": 3}]}, capsys)
    assert [row.split() for row in rows[2:]] == [["a", "-"], ["b", "3"]]
