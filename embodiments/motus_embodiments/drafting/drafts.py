"""A card in the making: what its source states, and what is still to be asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from motus_embodiments.errors import UsageError

UNKNOWN = "?"  # stands in a card for what nothing states; such a card is not valid

# What belongs where the mark stands, by the last key.
MEANING = {
    "side": "left or right",
    "rate": "control rate in Hz",
    "representation": "joint_position, ee_pose or ee_position",
    "unit": "rad or deg, as recordings hold angles",
    "closed": "what recordings hold when the gripper is closed",
    "open": "what recordings hold when the gripper is open",
    "model_closed": "positions of the gripper's joints when closed, in rad or m",
    "model_open": "positions of the gripper's joints when open, in rad or m",
    "cameras": "a list of cameras with name and role (head, left_wrist, right_wrist), or []",
}


@dataclass(frozen=True)
class Draft:
    """A card's table with `UNKNOWN` for what its source does not state.

    Attributes:
        source: The robot model or dataset.
        data: The card's table; empty where too little is known for one.
        missing: Option of `motus add-embodiment` (without dashes) -> what it wants.
    """

    source: Path
    data: Mapping[str, Any]
    missing: Mapping[str, str]

    def ask(self) -> UsageError:
        """The error that asks for everything at once."""
        lines = [f"--{option.replace('_', '-')}: {what}" for option, what in self.missing.items()]
        return UsageError(
            f"{self.source} cannot say {', '.join(self.missing)}",
            hint="\n".join(["give", *lines]),
            where=str(self.source),
        )

    def text(self) -> str:
        """The card file, with a remark on top for each thing to be filled in.

        Raises:
            UsageError: Not even the arms are known.
        """
        if not self.data:
            raise self.ask()
        head = [
            f"# Not finished: fill in what is marked '{UNKNOWN}'. {self.source.name} cannot say"
        ]
        head += [f"# - {option}: {what}" for option, what in self.missing.items()]
        return "\n".join(head) + "\n" + table_text(self.data)


def table_text(data: Mapping[str, Any]) -> str:
    """A card's table as YAML."""
    return yaml.safe_dump(dict(data), sort_keys=False, default_flow_style=None, width=100)


def unfinished(data: Any, where: str = "") -> Iterator[str]:
    """Keys (such as `arms.0.gripper.open`) that are still marked."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from unfinished(value, f"{where}.{key}" if where else str(key))
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            yield from unfinished(value, f"{where}.{index}")
    elif data == UNKNOWN:
        yield where


def refuse_unfinished(data: Any, path: Path) -> None:
    """Refuse a card with marks.

    Raises:
        UsageError: Names every key that is not filled in, and what belongs there.
    """
    keys = list(unfinished(data))
    if not keys:
        return
    known = {key.rpartition(".")[2] for key in keys} & set(MEANING)
    raise UsageError(
        f"{path} is not finished: {', '.join(keys)} {'is' if len(keys) == 1 else 'are'} still "
        f"'{UNKNOWN}'",
        hint="\n".join(["fill in", *(f"{key}: {MEANING[key]}" for key in sorted(known))]),
        where=str(path),
    )
