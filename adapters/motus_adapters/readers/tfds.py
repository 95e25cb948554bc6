"""A TFDS folder: the schema in features.json, and the shards that ought to lie beside it."""

import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from motus_adapters.files import read_json
from motus_adapters.readers.base import natural_key
from motus_embodiments import DataError

FEATURES = "features.json"
STEPS = "steps/"
_INFO = "dataset_info.json"
_NUMBERS = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_SHARD = re.compile(
    r"^(?P<name>[^.].*)-(?P<split>[^-.]+)\.tfrecord(-(?P<number>\d+)-of-(?P<count>\d+))?$"
)


@dataclass(frozen=True)
class Spec:
    """How features.json describes one feature.

    Attributes:
        kind: image, tensor or text.
        shape: Of one step's value; -1 where it varies.
        dtype: NumPy's name of the type; "string" for text.
        encoding: Of a tensor: none, bytes or zlib.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    encoding: str = "none"

    @property
    def is_view(self) -> bool:
        """Whether it is a colour picture."""
        return self.dtype == "uint8" and len(self.shape) == 3 and self.shape[2] in (-1, 3)

    @property
    def is_numeric(self) -> bool:
        """Whether it is a number or vector of known size."""
        numeric = self.kind == "tensor" and self.dtype in _NUMBERS
        return numeric and not self.is_view and -1 not in self.shape

    @property
    def size(self) -> int:
        """Numbers of one step."""
        return max(1, math.prod(self.shape))


def step_specs(root: Path) -> Mapping[str, Spec]:
    """Feature of a step -> how it is stored."""
    path = root / FEATURES
    specs = _specs(path, path.stat().st_mtime_ns)
    return {n.removeprefix(STEPS): s for n, s in specs.items() if n.startswith(STEPS)}


@lru_cache(maxsize=64)
def _specs(path: Path, _changed: int) -> Mapping[str, Spec]:
    """All features, nested names joined with slashes."""
    document = read_json(path)
    try:
        return dict(_flatten(document, "")) if isinstance(document, dict) else {}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path} is no schema of TFDS: {error!r}",
            hint="copy it again; it lies beside the TFRecord files",
            where=str(path),
        ) from error


def _flatten(node: Mapping[str, Any], name: str) -> Iterator[tuple[str, Spec]]:
    below = (node.get("featuresDict") or {}).get("features")
    if below is not None:
        for key, child in below.items():
            yield from _flatten(child, f"{name}/{key}" if name else key)
    elif "sequence" in node and name == "steps":
        yield from _flatten(node["sequence"]["feature"], name)
    elif "text" in node:
        yield name, Spec("text", (), "string")
    elif "image" in node or "tensor" in node:
        kind = "image" if "image" in node else "tensor"
        told = node[kind]
        shape = (told.get("shape") or {}).get("dimensions") or ()
        yield (
            name,
            Spec(
                kind,
                tuple(int(length) for length in shape),
                str(told.get("dtype") or "uint8"),
                str(told.get("encoding") or "none"),
            ),
        )


def shards_of(root: Path) -> list[tuple[Path, re.Match[str]]]:
    """The TFRecord files in order, each with what its name says: name, split, number, count.

    Raises:
        DataError: There is none.
    """
    matches = [(path, _SHARD.match(path.name)) for path in root.iterdir() if path.is_file()]
    shards = [(path, match) for path, match in matches if match is not None]
    if shards:
        return sorted(shards, key=lambda shard: natural_key(shard[0].name))
    told = (
        f", and its files are said to be {kind}" if (kind := _info(root).get("fileFormat")) else ""
    )
    raise DataError(
        f"{root} has a {FEATURES} but no TFRecord file{told}",
        hint="only TFRecord files are read; was the copy complete?",
        where=str(root),
    )


def missing_parts(
    root: Path, shards: list[tuple[Path, re.Match[str]]], counts: Mapping[str, int]
) -> list[str]:
    """Shards and episodes that ought to be there, by file names and dataset_info.json."""
    lines = []
    for split in dict.fromkeys(match["split"] for _, match in shards):
        own = [match for _, match in shards if match["split"] == split]
        stated = int(own[0]["count"] or 1)
        if len(own) != stated:
            lines.append(f"split '{split}' has {len(own)} of its {stated} shards")
    try:
        stated_counts = {
            str(entry["name"]): sum(int(length) for length in entry["shardLengths"])
            for entry in _info(root)["splits"]
        }
    except (LookupError, TypeError, ValueError):
        return [*lines, f"no {_INFO} says how many episodes there are; they are not counted over"]
    for split, count in stated_counts.items():
        if counts.get(split, 0) != count:
            lines.append(
                f"{_INFO}: split '{split}' has {count} episodes, "
                f"the files have {counts.get(split, 0)}"
            )
    return lines


def _info(root: Path) -> dict[str, Any]:
    """dataset_info.json; empty where it is missing."""
    path = root / _INFO
    info = read_json(path) if path.is_file() else {}
    return info if isinstance(info, dict) else {}


def unpacked(blob: memoryview, spec: Spec) -> np.ndarray:
    """A tensor stored as raw or deflated bytes.

    Raises:
        ValueError: It has another size than the schema says, or cannot be inflated.
    """
    kind = np.dtype(bool if spec.dtype == "bool" else spec.dtype)
    if spec.encoding != "zlib":
        return np.frombuffer(blob, kind).reshape(spec.shape)
    wanted = spec.size * kind.itemsize
    # One byte more than is wanted, so that a bomb is an error of size and not of memory.
    try:
        content = zlib.decompressobj().decompress(blob, wanted + 1)
    except zlib.error as error:
        raise ValueError(error) from error
    return np.frombuffer(content, kind).reshape(spec.shape)
