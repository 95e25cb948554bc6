"""A dataset whose conversion was cut short is one to every command."""

import pytest

from motus_adapters import UnifiedDataset, convert
from motus_cli.app import main
from motus_embodiments import DataError

OPTIONS = {"card": "aloha", "codec": None, "allow": {"motion"}}


@pytest.fixture
def act(layouts, tmp_path):
    truths = [layouts.truth(i, ("top",), (14, 14)) for i in range(3)]
    return layouts.act(tmp_path / "act", truths)


def test_half_a_dataset_is_none_to_every_command(act, tmp_path, capsys, monkeypatch):
    """Whatever takes a dataset says that it is half written, and exits with 4 or 2."""
    monkeypatch.chdir(tmp_path)

    def interrupt(done, total, key):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(act, "data/half", **OPTIONS, on_progress=interrupt)
    half = "data/half"
    lines = [
        ["inspect", half],
        ["inspect", half, "--health"],
        ["label", half],
        ["convert", half, "out", "-e", "aloha"],
        ["convert", str(act), half, "-e", "aloha", "--codec", "none", "--allow", "motion"],
        ["train", "--recipe", "full", "--data", f"target={half}"],
        ["train", "--recipe", "full"],
    ]
    for line in lines:
        assert main(line) in (2, 4), line
        told = capsys.readouterr().err
        assert "half written" in told, (line, told)
    with pytest.raises(DataError, match="half written"):
        UnifiedDataset(half)
    assert convert(act, half, **OPTIONS, resume=True).resumed == 1
