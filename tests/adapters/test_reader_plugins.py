"""Readers that other packages bring: found by their entry point, and told apart from ours."""

import sys
from textwrap import dedent

import numpy as np
import pytest

from motus_adapters import convert, open_source
from motus_adapters.readers import FORMATS, formats, get_reader
from motus_embodiments import UsageError

MODULE = """
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from motus_adapters import ColumnMap


@dataclass(frozen=True)
class NpyEpisode:
    path: Path
    name: str
    num_frames: int
    cameras: tuple[str, ...] = ("top",)
    columns: tuple[str, ...] = ("pose",)
    warnings: tuple[str, ...] = ()

    @property
    def defaults(self):
        return ColumnMap(state=("pose",), rate=10.0, task="roll")

    @property
    def files(self):
        return (self.path,)

    def column(self, name):
        return np.load(self.path)

    def frames(self, camera):
        for row in np.load(self.path):
            yield np.full((48, 64, 3), int(row[0]) % 255, np.uint8)


class NpyReader:
    name = "npy"
    looked_for = "*.npy files"

    def detect(self, path):
        return any(path.glob("*.npy"))

    def episodes(self, path, on_bad=None):
        files = sorted(path.glob("*.npy"))
        return [NpyEpisode(f, f.stem, len(np.load(f, mmap_mode="r"))) for f in files]
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution on sys.path, as pip would: a module and its metadata."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))

    def add(package, entry, module=MODULE):
        name = package.replace("-", "_")
        (site / f"{name}.py").write_text(dedent(module))
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[motus.readers]\n{entry}\n")

    yield add
    for name in [n for n in sys.modules if n.startswith("motus_npy")]:
        del sys.modules[name]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    for i in range(2):
        rows = 200 + np.cumsum(np.full((6 + i, 2), 0.5), axis=0)
        np.save(folder / f"take_{i}.npy", rows)
    return folder


def test_a_package_brings_a_reader(install, source, tmp_path):
    assert formats() == FORMATS
    install("motus-npy", "npy = motus_npy:NpyReader")
    assert formats() == (*FORMATS, "npy")
    reader, recordings = open_source(source)
    assert (reader.name, [r.num_frames for r in recordings]) == ("npy", [6, 7])
    report = convert(source, tmp_path / "out", card="pusht", codec=None)
    assert (report.format, report.episodes, report.frames, report.rate) == ("npy", 2, 13, 10.0)


def test_its_name_is_offered(install):
    install("motus-npy", "npy = motus_npy:NpyReader")
    with pytest.raises(UsageError) as caught:
        get_reader("npz")
    assert caught.value.hint == "did you mean 'npy'?"


@pytest.mark.parametrize(
    ("entry", "module", "message"),
    [
        ("npy = motus_npy:Missing", MODULE, "'npy' of the package 'motus-npy' cannot be loaded"),
        ("npy = motus_npy:NpyReader", "import no_such_thing", "cannot be loaded: ModuleNotFound"),
        ("other = motus_npy:NpyReader", MODULE, "the reader 'other' .* calls itself 'npy'"),
        ("zarr = motus_npy:NpyReader", MODULE, "'motus-npy' brings a reader 'zarr', as does motus"),
    ],
)
def test_a_broken_package_is_named(install, source, entry, module, message):
    install("motus-npy", entry, module)
    with pytest.raises(UsageError, match=message) as caught:
        open_source(source)
    assert "pip uninstall motus-npy" in caught.value.hint or "entry point" in caught.value.hint


def test_two_packages_with_one_name(install, source):
    install("motus-npy", "npy = motus_npy:NpyReader")
    install("motus-npy2", "npy = motus_npy2:NpyReader")
    with pytest.raises(UsageError, match="'motus-npy2' brings a reader 'npy', as does motus-npy"):
        open_source(source)
