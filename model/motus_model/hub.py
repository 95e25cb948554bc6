"""Pretrained networks, local or from a hub: frozen, and kept out of checkpoints."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from motus_model.official import WeightsError

SAMPLED = 256  # numbers of each tensor that a fingerprint looks at, at most


@dataclass(frozen=True)
class Place:
    """Where a pretrained model lies.

    Attributes:
        name: A local folder or a hub name.
        subfolder: Inside it; empty for the folder itself.
    """

    name: str
    subfolder: str = ""

    @classmethod
    def parse(cls, text: str) -> "Place":
        """`name` or `name:subfolder`."""
        name, _, subfolder = text.partition(":")
        return cls(name, subfolder)

    def __str__(self) -> str:
        return f"{self.name}:{self.subfolder}" if self.subfolder else self.name


def load(kind: Any, place: Place, **options: Any) -> Any:
    """`kind.from_pretrained` of a place; a local folder is never looked for on the hub.

    Raises:
        WeightsError: When it can't be loaded, saying what was looked for and where.
    """
    path = Path(place.name)
    if path.is_dir():
        options["local_files_only"] = True
    if place.subfolder:
        options["subfolder"] = place.subfolder
    try:
        return kind.from_pretrained(str(path) if path.is_dir() else place.name, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"no {kind.__name__} could be loaded from {place}: {first}") from error


class Frozen(nn.Module):
    """A pretrained network that never trains and stays out of checkpoints.

    It moves between devices with the model around it, but is no part of its `state_dict` or
    `parameters()`: it is loaded from its own place again.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._held = (network.eval().requires_grad_(False),)  # a tuple hides it from torch

    @property
    def network(self) -> Any:
        """The pretrained network itself."""
        return self._held[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights, and so the precision of what it computes."""
        return self.network.dtype

    def settings(self) -> dict[str, Any]:
        """What its results depend on beside the network."""
        return {}

    def fingerprint(self) -> str:
        """Names network and settings: 16 letters that change when a result may change.

        Evenly spread numbers of every tensor stand for all: reading 10 GB would take longer.
        """
        digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode())
        for name, value in sorted(self.network.state_dict().items()):
            flat = value.detach().flatten()
            sample = flat[:: len(flat) // SAMPLED + 1].double().cpu().numpy()
            digest.update(f"{name} {value.dtype} {list(value.shape)}".encode() + sample.tobytes())
        return digest.hexdigest()[:16]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Frozen":
        self.network._apply(fn)
        own: Any = super()
        own._apply(fn, recurse)
        return self
