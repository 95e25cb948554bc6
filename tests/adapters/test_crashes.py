"""Death at every single rename, then resume: the same bytes as an undisturbed run."""

import subprocess
import sys

import pytest

from motus_adapters import convert, label_dataset

# The work in children: one dies at its n-th rename, without any clean-up, the next one resumes;
# for n = 0, 1, 2 ... until a child survives. Prints n, then the folders that came out differently.
_CRASHES = """
import filecmp, os, shutil, sys
from pathlib import Path
from motus_adapters import convert, label_dataset
from motus_adapters.readers import FORMATS, get_reader
import motus_adapters.conversion.episodes, motus_adapters.relabel, pandas
for name in FORMATS:  # here, so that no child has to
    get_reader(name)
if sys.argv[4] != "none":
    import motus_model

source, calm, base, codec = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
renames = {name: getattr(os, name) for name in ("rename", "replace")}

def work(out, death, resume):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = 0
    def dying(name):
        def call(*paths):
            nonlocal count
            if count == death:
                os._exit(9)
            count += 1
            renames[name](*paths)
        return call
    for name in renames:
        setattr(os, name, dying(name))
    try:
        if codec == "none":
            convert(source, out, card="pusht", codec=None, resume=resume)
        else:
            label_dataset(out, codec, resume=resume)
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)

def same(a, b):
    files = [{p.relative_to(f) for p in f.rglob("*") if p.is_file()} for f in (a, b)]
    return files[0] == files[1] and not filecmp.cmpfiles(a, b, files[0], shallow=False)[1]

death, bad = 0, []
while True:
    out = base / str(death)
    if codec != "none":
        shutil.copytree(base / "unlabelled", out)
    code = work(out, death, False)
    if code == 0:
        break
    if code != 9 or work(out, -1, True) != 0 or not same(out, calm):
        bad.append(death)
    shutil.rmtree(out)
    death += 1
print(death, bad)
"""


def _die_everywhere(tmp_path, source, codec):
    script = tmp_path / "crashes.py"
    script.write_text(_CRASHES)
    arguments = map(str, (script, source, tmp_path / "calm", tmp_path, codec))
    ran = subprocess.run(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True, timeout=200
    )
    deaths, _, bad = ran.stdout.partition(" ")
    assert bad.strip() == "[]"
    return int(deaths)


@pytest.fixture
def short_source(layouts, tmp_path):
    """Two recordings, so that the many deaths do not take long."""
    episodes = [layouts.truth(i, ("img",), (2, 2)) for i in (0, 1)]
    return layouts.zarr(tmp_path / "short.zarr", episodes)


def test_death_at_every_rename(short_source, tmp_path):
    convert(short_source, tmp_path / "calm", card="pusht", codec=None)
    assert _die_everywhere(tmp_path, short_source, "none") > 10


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    import torch

    from motus_model import CodecConfig, LatentActionCodec

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("codec")
    LatentActionCodec(CodecConfig(widths=(4, 4, 4), hidden=8)).save(folder, {})
    return folder


@pytest.mark.slow
def test_label_dies_at_every_rename(short_source, tmp_path, codec):
    for name in ("unlabelled", "calm"):
        convert(short_source, tmp_path / name, card="pusht", codec=None)
    label_dataset(tmp_path / "calm", codec)
    assert _die_everywhere(tmp_path, short_source, codec) > 8
