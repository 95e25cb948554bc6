"""Damages small recordings of every layout at random and converts them; run as a script.

    python tests/adapters/fuzz.py SECONDS SEED FOLDER

Prints one JSON document: how many conversions of each layout ended how, and what is wrong: an
error that is none of ours, one that does not name the file, memory or time without end, and
silent success, which is a dataset of other length, or of other content after damage that no
layout can hide. A bit that is flipped inside numbers or pictures without a checksum is none.
"""

import hashlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import cv2
import numpy as np
from reader_contract import ReaderContract

from motus_adapters import UnifiedDataset, convert
from motus_adapters.readers import Recording, open_source
from motus_embodiments import Card, MotusError

SECONDS_EACH = 30  # a conversion that takes longer hangs
MEMORY = 3 * 2**30  # bytes of data beyond what is loaded


def contracts() -> list[ReaderContract]:
    """One of every layout that a reader is held to."""
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        if "(ReaderContract)" in file.read_text():
            import_module(file.stem)
    found, classes = [], [ReaderContract]
    while classes:
        classes += (kind := classes.pop()).__subclasses__()
        found += [kind()] if hasattr(kind, "format") else []
    return sorted(found, key=lambda contract: type(contract).__name__)


def damage(path: Path, draw: np.random.Generator) -> tuple[str, bool]:
    """Spoil a file; what was done, and whether sound numbers cannot come of it."""
    content = bytearray(path.read_bytes())
    size = max(1, len(content))
    kind = str(draw.choice(["cut", "flip", "noise", "zeros", "text", "empty", "loop", "value"]))
    at = int(draw.integers(size))
    if kind == "cut":
        del content[at:]
    elif kind == "flip" and content:
        for _ in range(int(draw.integers(1, 9))):
            content[int(draw.integers(size))] ^= 1 << int(draw.integers(8))
    elif kind == "noise":
        content[at : at + 64] = draw.bytes(min(64, len(content) - at))
    elif kind == "zeros":
        content[at : at + 512] = bytes(min(512, len(content) - at))
    elif kind == "value" and path.suffix in (".json", ".jsonl", ".txt", ".csv"):
        value = draw.choice(["-1", "1e308", '"x"', "null", "[]", "../../../etc/passwd"])
        digits = [i for i, byte in enumerate(content) if chr(byte).isdigit()] or [0]
        place = int(draw.choice(digits))
        content[place : place + 1] = str(value).encode()
    elif kind == "loop":
        path.unlink()
        path.symlink_to(path)
        return kind, True
    else:
        content = bytearray(b"" if kind == "empty" else b"no recording at all\n" * 20)
    path.write_bytes(bytes(content))
    return f"{kind} at {at} of {size}", kind in ("empty", "text")


def card_for(recording: Recording) -> Card:
    """A robot with as many joints as the recording has numbers; any value is allowed."""
    state = recording.state
    count = 2 if state is None else state.shape[1]
    joints = [{"name": f"j{i}", "unit": "m"} for i in range(count)]
    return Card.model_validate(
        {
            "name": "any",
            "title": "Any robot",
            "arms": [{"side": "left", "joints": joints}],
            "rate": 10,
            "action": {"representation": "joint_position"},
        }
    )


class Layout:
    """Sound recordings of one layout, and what becomes of them."""

    def __init__(self, contract: ReaderContract, folder: Path) -> None:
        self.name = type(contract).__name__
        self.folder = folder / self.name
        self.folder.mkdir(parents=True)
        self.source = contract.write(self.folder / "in", [contract.truth(i) for i in range(3)])
        recording = open_source(self.source)[1][0]
        self.card, self.cameras = card_for(recording), recording.cameras
        if not self.cameras:
            return  # robosuite's raw files hold numbers alone
        self.sound = self.converted(self.source, self.folder / "sound")

    def converted(self, source: Path, out: Path) -> tuple[tuple[int, ...], str]:
        """Lengths of the episodes, and a hash over all their files."""
        mapping = {"cameras": {"head": self.cameras[0]}, "action": [], "rate": 10.0, "task": "lift"}
        convert(
            source, out, card=self.card, codec=None, mapping=mapping, allow={"limits", "motion"}
        )
        dataset, digest = UnifiedDataset(out), hashlib.sha256()
        for path in sorted((out / "data").rglob("*")) + sorted((out / "videos").rglob("*.mp4")):
            digest.update(path.read_bytes() if path.is_file() else b"")
        return tuple(episode.length for episode in dataset.episodes), digest.hexdigest()

    def attack(self, draw: np.random.Generator) -> tuple[str, str | None]:
        """Damage one file and convert: how it ended, and what is wrong with that."""
        source, out = self.folder / "bad", self.folder / "out"
        for folder in (source, out):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder / "in", source)
        source /= self.source.relative_to(self.folder / "in")
        files = [path for path in (source, *sorted(source.rglob("*"))) if path.is_file()]
        victim = files[int(draw.integers(len(files)))]
        done, hopeless = damage(victim, draw)
        what = f"{self.name}: {victim.relative_to(self.folder)}: {done}"
        signal.alarm(SECONDS_EACH)
        try:
            lengths, content = self.converted(source, out)
        except MotusError as error:
            where = f"{error.message} {error.where}"
            if error.exit_code not in (1, 2, 4):
                return "refused", f"{what}: exit code {error.exit_code}: {error.message}"
            named = str(source) in where or victim.name in where or "episode" in where
            named = named or "demo" in where or victim.stem in where
            return "refused", None if named else f"{what}: does not say where: {error.message}"
        except BaseException as error:
            told = traceback.format_exception_only(error)[-1].strip()
            last = traceback.extract_tb(error.__traceback__)[-1]
            return "crash", f"{what}: {told} ({Path(last.filename).name}:{last.lineno})"
        finally:
            signal.alarm(0)
        if (lengths, content) == self.sound:
            return "unharmed", None
        if lengths != self.sound[0]:
            return "silent", f"{what}: lengths {self.sound[0]} became {lengths}"
        return "changed", f"{what}: converted" if hopeless and victim.suffix != ".txt" else None


def main() -> None:
    seconds, seed, folder = float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])

    def hang(_signal: int, _frame: object) -> None:
        raise TimeoutError(f"no end after {SECONDS_EACH} s")

    signal.signal(signal.SIGALRM, hang)
    cv2.setNumThreads(1)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    layouts = [Layout(contract, folder) for contract in contracts()]
    layouts = [layout for layout in layouts if layout.cameras]
    status = Path("/proc/self/status").read_text()
    held = int(status.partition("VmData:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (held + MEMORY, held + MEMORY))
    ends, wrong = Counter[str](), list[str]()
    end, turn = time.process_time() + seconds, 0
    while time.process_time() < end:
        layout = layouts[turn % len(layouts)]
        sys.stderr.write(f"{turn} {layout.name}\n")
        how, problem = layout.attack(np.random.default_rng([seed, turn]))
        ends[how] += 1
        wrong += [problem] if problem else []
        turn += 1
    sys.stdout.write(json.dumps({"turns": turn, "ends": ends, "wrong": wrong}, indent=1))


if __name__ == "__main__":
    main()
