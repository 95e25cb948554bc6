"""Reports of the lower floors as plain values: what --json prints and what the tables show."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """`value` in the words of JSON: dict, list, str, int, float, bool, None.

    Dataclasses and pydantic models become dicts, paths and dates strings, arrays and numpy
    scalars lists and numbers. A number JSON cannot write (nan, inf) becomes None.
    """
    if value is None or (isinstance(value, str | bool | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Path | date):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(item) for item in value]
    return str(value)


def document(report: Any) -> dict[str, Any]:
    """A report as the body of one JSON document; what is no record stands under `result`."""
    body = plain(report)
    return body if isinstance(body, dict) else {"result": body}


def text(value: Any) -> str:
    """One cell of a table, for people."""
    if value is None or value in ([], {}, ""):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {text(item)}" for key, item in value.items())
    if isinstance(value, list):
        # Sentences, which may hold commas themselves, stand below each other.
        are_sentences = any(isinstance(item, str) and " " in item for item in value)
        return ("\n" if are_sentences else ", ").join(map(text, value))
    return str(value)


def duration(seconds: float) -> str:
    """A span of time as a clock reads it: 7 s, 3:20, 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
