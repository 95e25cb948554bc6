"""Embodiment cards on disk: find, read, check, write, hash."""

import hashlib
import json
import re
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from motus_embodiments.drafting.drafts import refuse_unfinished, table_text
from motus_embodiments.errors import UsageError, nearest
from motus_embodiments.schema import NAME
from motus_embodiments.schema import ActionSpec as ActionSpec
from motus_embodiments.schema import Arm as Arm
from motus_embodiments.schema import Box as Box
from motus_embodiments.schema import Camera as Camera
from motus_embodiments.schema import Card as Card
from motus_embodiments.schema import Channel as Channel
from motus_embodiments.schema import Gripper as Gripper
from motus_embodiments.schema import Joint as Joint
from motus_embodiments.schema import Mount as Mount
from motus_embodiments.schema import RobotModel as RobotModel
from motus_embodiments.yaml_loader import Loader

SHIPPED = Path(__file__).parent / "cards"
OWN = Path("embodiments")  # the user's cards, relative to where the command runs

# What a person reads, not what the numbers mean.
_TEXT = {"title", "sources", "notes"}


def load_card(name_or_path: str | Path) -> Card:
    """Read a card by name or path; a user's ./embodiments/NAME.yaml wins over a shipped one.

    Raises:
        UsageError: No such card, or it is not valid; the message names the key and the file.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")) or "/" in text:
        path = Path(text)
        if not path.is_file():
            raise UsageError(f"no card at {path}", hint="motus embodiments list has the known ones")
        return read_card(path)
    paths = card_files()
    if text not in paths:
        hint = nearest(text, paths)
        if not hint.startswith("did you mean"):
            hint += f"; or register yours: motus add-embodiment {text} --model FILE"
        raise UsageError(f"no embodiment named '{text}'", hint=hint)
    return read_card(paths[text], text)


def list_cards() -> list[tuple[Card, Path]]:
    """Every valid card with its file, in order of name; a user's own hides a shipped one."""
    found = []
    for name, path in sorted(card_files().items()):
        with suppress(UsageError):  # a card that someone is still writing; `card_files` has it
            found.append((read_card(path, name), path))
    return found


def shipped_card(name: str) -> Path | None:
    """The file of a card that comes with motus."""
    path = SHIPPED / f"{name}.yaml"
    return path if path.is_file() else None


def read_card(path: Path, name: str | None = None) -> Card:
    """Read one card file; a relative model file becomes absolute.

    Args:
        path: The file.
        name: What it was found by and so has to be called; None where its path was given.

    Raises:
        UsageError: It cannot be read, is not valid, or is called otherwise.
    """
    try:
        data = _table(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        line = str(error).replace("\n", " ")
        raise UsageError(f"cannot read the card {path}: {line}", where=str(path)) from error
    if not isinstance(data, dict):
        raise UsageError(f"the card {path} is not a table of keys", where=str(path))
    refuse_unfinished(data, path)
    card = validated(data, path)
    if name not in (None, card.name):
        raise UsageError(
            f"the card {path} is called '{card.name}'",
            hint=f"call the file {card.name}.yaml, or write name: {name} in it",
            where=str(path),
        )
    if card.model is None or card.model.file is None:
        return card
    file = str((path.parent / card.model.file).resolve())
    return card.model_copy(update={"model": card.model.model_copy(update={"file": file})})


def _table(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        UsageError: A key stands twice in one table, of which YAML would take the last.
    """
    loader = Loader(path.read_text())
    try:
        node = loader.get_single_node()
        for key in _repeated(node):
            raise UsageError(
                f"the key '{key.value}' stands twice in {path}, again in line "
                f"{key.start_mark.line + 1}",
                hint="keep one of them",
                where=str(path),
            )
        return loader.construct_document(node) if node else None
    finally:
        loader.dispose()


def _repeated(node: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """Keys that stand a second time in their table."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item)
    elif isinstance(node, yaml.MappingNode):
        found = set[str]()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in found:
                    yield key
                found.add(key.value)
            yield from _repeated(value)


def validated(data: Mapping[str, Any], where: Path) -> Card:
    """The card of a table.

    Raises:
        UsageError: The first thing that is wrong, with its key; `where` it came from.
    """
    try:
        return Card.model_validate(data)
    except ValidationError as error:
        raise _explain(error, where) from error


def save_card(card: Card, folder: Path, force: bool = False) -> Path:
    """Write `folder`/NAME.yaml; a model file beside the card is written as a relative path.

    Raises:
        UsageError: The file is there already and `force` is not given.
    """
    path = new_card_path(card.name, folder, force)
    data = card.model_dump(mode="json", exclude_defaults=True)
    if card.model and card.model.file:
        file = Path(card.model.file)
        inside = file.is_relative_to(folder.resolve())
        data["model"]["file"] = str(file.relative_to(folder.resolve()) if inside else file)
    write_text(path, table_text(data))
    return path


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a card, and so of a file.

    Raises:
        UsageError: Says what a name is made of.
    """
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"'{name}' is no name of a robot",
            hint="a name is of a-z, 0-9, _ and -, the first a letter or digit: my-robot",
        )


def new_card_path(name: str, folder: Path, force: bool) -> Path:
    """Where the card goes; refuses to hide a file that is there.

    Raises:
        UsageError: `name` is none that a card can have, or the file is there already and `force`
            is not given.
    """
    check_name(name)
    path = folder / f"{name}.yaml"
    if path.exists() and not force:
        raise UsageError(
            f"{path} exists already",
            hint="--force writes it anew; add-embodiment --resume keeps it and goes on",
            where=str(path),
        )
    return path


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def card_hash(card: Card) -> str:
    """Hex hash over everything that gives the card's numbers their meaning.

    Titles, notes and the folder of a model file change nothing; nor does a key at its default.
    """
    data = card.model_dump(mode="json", exclude=_TEXT, exclude_defaults=True)
    if card.model and card.model.file:
        data["model"]["file"] = Path(card.model.file).name
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def card_files() -> dict[str, Path]:
    """File of every known card, by name, valid or not."""
    return {path.stem: path for folder in (SHIPPED, OWN) for path in sorted(folder.glob("*.yaml"))}


def _explain(error: ValidationError, path: Path) -> UsageError:
    """The first thing that is wrong, as one line that names key, value and file."""
    first = error.errors()[0]
    location = first["loc"]
    where = ".".join(str(part) for part in location) or "the card"
    if first["type"] == "extra_forbidden":
        valid = _keys_at(location[:-1])
        return UsageError(
            f"unknown key '{where}' in {path}",
            hint=nearest(str(location[-1]), valid),
            where=str(path),
        )
    if first["type"] == "missing":
        return UsageError(f"'{where}' is missing in {path}", where=str(path))
    value = "" if isinstance(first["input"], dict | list) else f" (it is {first['input']!r})"
    message = first["msg"].removeprefix("Value error, ")
    return UsageError(f"{where} in {path}: {message}{value}", where=str(path))


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    """The valid keys of the table at `location` of a card."""
    model: type[BaseModel] = Card
    for part in location:
        if isinstance(part, str):
            model = _table_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _table_in(annotation: Any) -> type[BaseModel] | None:
    """The card table that an annotation such as `tuple[Arm, ...]` or `Gripper | None` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_table_in(argument) for argument in typing.get_args(annotation))
    return next((table for table in found if table is not None), None)


def card_differences(old: Card, new: Card) -> list[tuple[str, Any, Any]]:
    """(key, value in `old`, value in `new`) of every value in which two cards differ.

    Arms, joints and cameras are paired by side and name, so that one more joint is one line.
    """
    return table_differences(old.model_dump(), new.model_dump())


def table_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The same of two cards' tables, of which one may tell less."""
    return list(_differences(_named(old), _named(new), ""))


def _named(value: Any) -> Any:
    """Lists of tables as tables by name or side."""
    if isinstance(value, dict):
        return {key: _named(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and value and all(isinstance(v, dict) for v in value):
        keys = [v.get("side") or v.get("name") or str(i) for i, v in enumerate(value)]
        return {key: _named(item) for key, item in zip(keys, value, strict=True)}
    return value


def _differences(old: Any, new: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            place = f"{where}.{key}" if where else str(key)
            yield from _differences(old.get(key), new.get(key), place)
    elif old != new:
        yield where, old, new
