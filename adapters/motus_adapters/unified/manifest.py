"""What a unified dataset says about itself: `meta/motus.json`, written last."""

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from motus_adapters.conversion.canvas import Layout
from motus_embodiments import Card, Channel, DataError, UsageError, card_hash

SCHEMA_VERSION = 1
CONVERTER_VERSION = "2"  # raised whenever the same input would give other bytes

CANVAS = "observation.images.canvas"
STATE = "observation.state"
ACTION = "action"
MOTION = "motion"
LATENT = "latent_action"

_PER_ARM = ("dx", "dy", "dz", "rx", "ry", "rz", "grip")
_RATE_SLACK = 0.02  # share by which frames may miss a rate: 29.97 Hz has latents of 5 Hz

MOTION_NAMES = tuple(f"{side}_{name}" for side in ("left", "right") for name in _PER_ARM)


@dataclass(frozen=True)
class Source:
    """Where a dataset's recordings came from: format, relative name, content hash."""

    format: str
    name: str
    hash: str


@dataclass(frozen=True)
class Header:
    """Everything that gives a dataset's numbers their meaning.

    Attributes:
        card: The robot, embedded whole.
        rate: Frames a second.
        level: Rung of the data pyramid, 1 to 6.
        source: Where the recordings came from.
        layout: The canvas.
        has_state: Whether `observation.state` is there.
        has_action: Whether `action` is there.
        motion_mask: Which of the 14 motion channels exist.
        codec: Hash of the codec that wrote `latent_action`; None without latent actions.
        flow: Name of the flow estimator behind it.
        latent_rates: How many latent actions a second there are, each a feature of its own.
        options: Whatever else decides the bytes (mapping, what `--allow` let through, seed).
    """

    card: Card
    rate: float
    level: int
    source: Source
    layout: Layout
    has_state: bool = True
    has_action: bool = True
    motion_mask: tuple[bool, ...] = (False,) * 14
    codec: str | None = None
    flow: str | None = None
    latent_rates: tuple[float, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def labelled(self, codec: str, flow: str, rates: Collection[float] = ()) -> "Header":
        """The same dataset with latent actions of this codec.

        Args:
            codec: Its hash.
            flow: Name of the flow estimator.
            rates: Latent actions a second; none means one a frame.

        Raises:
            UsageError: A latent action would not span a whole number of frames.
        """
        for rate in rates:
            span = self.rate / rate if rate > 0 else 0.0
            if span < 1 - _RATE_SLACK or abs(round(span) - span) > _RATE_SLACK * span:
                fitting = ", ".join(f"{self.rate / n:g}" for n in range(1, 7))
                raise UsageError(
                    f"{rate:g} latent actions a second do not fit {self.rate:g} frames a second",
                    hint=f"rates that fit: {fitting}, ...",
                )
        fastest_first = tuple(sorted({*rates} or {self.rate}, reverse=True))
        return replace(self, codec=codec, flow=flow, latent_rates=fastest_first)

    @property
    def latent_steps(self) -> dict[str, int]:
        """Feature -> frames that each of its latent actions spans."""
        return {
            LATENT if span == 1 else f"{LATENT}_{rate:g}hz": span
            for rate in self.latent_rates
            for span in [round(self.rate / rate)]
        }

    @property
    def channels(self) -> dict[str, tuple[str, ...]]:
        """Feature -> names of its channels, in the order of the columns."""
        names: dict[str, tuple[str, ...]] = {}
        if self.has_state:
            names[STATE] = tuple(c.name for c in self.card.state_channels)
        if self.has_action:
            names[ACTION] = tuple(c.name for c in self.card.action_channels)
        names[MOTION] = MOTION_NAMES
        latents = tuple(f"z{i}" for i in range(14))
        return names | dict.fromkeys(self.latent_steps, latents)

    @property
    def contract(self) -> str:
        """Hash over channel order, units, limits, representation, rate, canvas, codec and flow."""
        terms = {
            "schema_version": SCHEMA_VERSION,
            "state": _describe(self.card.state_channels) if self.has_state else None,
            "action": _describe(self.card.action_channels) if self.has_action else None,
            "representation": self.card.action.model_dump(mode="json"),
            "motion": MOTION_NAMES,
            "rate": self.rate,
            "canvas": self.layout.to_dict(),
        }
        if self.codec is not None:
            terms["latent_action"] = self._latents()
        return hash_json(terms)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form; two headers are equal when these are."""
        return {
            "schema_version": SCHEMA_VERSION,
            "converter": CONVERTER_VERSION,
            "contract": self.contract,
            "card": {
                "name": self.card.name,
                "hash": card_hash(self.card),
                "data": self.card.model_dump(mode="json"),
            },
            "level": self.level,
            "source": vars(self.source).copy(),
            "rate": self.rate,
            "canvas": self.layout.to_dict(),
            "state": _describe(self.card.state_channels) if self.has_state else None,
            "action": _describe(self.card.action_channels) if self.has_action else None,
            "motion": {"names": list(MOTION_NAMES), "mask": list(self.motion_mask)},
            "latent_action": None if self.codec is None else self._latents(),
            "options": dict(self.options),
        }

    def _latents(self) -> dict[str, Any]:
        return {"codec": self.codec, "flow": self.flow, "rates": list(self.latent_rates)}

    @staticmethod
    def from_dict(data: Mapping[str, Any], where: Path) -> "Header":
        """Read back `to_dict`.

        Raises:
            DataError: Another schema version, or a field is missing or malformed.
        """
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(
                f"{where} has schema version {version}; this release reads {SCHEMA_VERSION}",
                hint="convert the recordings again with this release",
                where=str(where),
            )
        try:
            latent = data["latent_action"] or {}
            return Header(
                card=Card.model_validate(data["card"]["data"]),
                rate=float(data["rate"]),
                level=int(data["level"]),
                source=Source(**data["source"]),
                layout=Layout.from_dict(data["canvas"]),
                has_state=data["state"] is not None,
                has_action=data["action"] is not None,
                motion_mask=tuple(bool(m) for m in data["motion"]["mask"]),
                codec=latent.get("codec"),
                flow=latent.get("flow"),
                latent_rates=tuple(latent.get("rates", [data["rate"]] if latent else [])),
                options=data["options"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{where} is damaged: {error}",
                hint="convert the recordings again with --force",
                where=str(where),
            ) from error


def hash_json(value: Any) -> str:
    """SHA-256 of the canonical JSON text of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Lines `key: old -> new` for every leaf in which two JSON documents differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines: list[str] = []
        for key in sorted(set(old) | set(new)):
            name = f"{prefix}.{key}" if prefix else str(key)
            lines += differences(old.get(key), new.get(key), name)
        return lines
    return [] if old == new else [f"{prefix}: {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _describe(channels: tuple[Channel, ...]) -> list[dict[str, Any]]:
    """Name, unit, limits (null where unknown) and kind of each channel."""
    return [
        {
            "name": c.name,
            "unit": c.unit,
            "low": c.low if math.isfinite(c.low) else None,
            "high": c.high if math.isfinite(c.high) else None,
            "kind": c.kind,
        }
        for c in channels
    ]
