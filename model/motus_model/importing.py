"""Other people's checkpoints into our layout, and ours into the official one.

Every key of the source and of the target ends in the report; nothing is loaded, left out or
begun anew in silence.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from motus_model.action_expert import ActionExpert
from motus_model.layers import sincos_positions
from motus_model.network import Motus, MotusConfig
from motus_model.network_folder import is_network, read_network, write_network
from motus_model.official import (
    FILE,
    STAGE3_FRESH,
    WAN_TEXT_TOKENS,
    WeightsError,
    find_official,
    official_config,
    read_official,
    sort_keys,
    write_official,
)
from motus_model.qwen import is_qwen, read_qwen
from motus_model.wan import find_wan, read_wan

Status = Literal["loaded", "re-initialised", "missing", "unexpected", "left out"]
Layout = Literal["motus", "official"]
REGISTERS = 4  # in the official code stage 3 has them, stage 2 has not


@dataclass(frozen=True)
class KeyRow:
    """What became of one key.

    Attributes:
        status: Its fate.
        key: Its name; the target's where it has one there, else the source's.
        numbers: How many it holds.
        why: A word on it, where the status doesn't say all.
    """

    status: Status
    key: str
    numbers: int
    why: str = ""


@dataclass(frozen=True)
class ImportReport:
    """What `motus import` found and did.

    Attributes:
        source: What was read.
        kind: What it turned out to be.
        out: Where it was written.
        written: False for a dry run, and when there are problems.
        parameters: Numbers loaded or begun anew.
        table: The keys by fate, those of all layers in one row.
        problems: The keys for whose sake nothing was written.
        keys: Every key on its own.
    """

    source: str
    kind: str
    out: str
    written: bool
    parameters: int
    table: list[dict[str, Any]]
    problems: list[KeyRow]
    keys: list[KeyRow]


@dataclass(frozen=True)
class Robot:
    """Stage 3 for a robot: its own numbers, so that what reads and writes them begins anew.

    Attributes:
        state_dim: Numbers of its state.
        action_dim: Numbers of its action.
    """

    state_dim: int
    action_dim: int


@dataclass(frozen=True)
class Found:
    """A source, read: what it holds under our names, and what it held besides.

    Attributes:
        kind: Of checkpoint.
        config: Sizes of its network; None where it is a frozen encoder.
        weights: By our names.
        others: Keys that don't go into the target.
        expected: Shape of every key of the target.
        write: Puts the chosen weights into a folder.
    """

    kind: str
    config: MotusConfig | None
    weights: Mapping[str, Tensor]
    others: tuple[KeyRow, ...]
    expected: Mapping[str, torch.Size]
    write: Callable[[Path, Mapping[str, Tensor]], None]
    fresh: Mapping[str, Tensor] = field(default_factory=dict)


def import_checkpoint(
    source: Path,
    out: Path,
    *,
    robot: Robot | None = None,
    action_steps: int | None = None,
    text_tokens: int = WAN_TEXT_TOKENS,
    layout: Layout = "motus",
    skip_unexpected: bool = False,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
) -> ImportReport:
    """Read a checkpoint of any known kind and write it in our layout, or in the official one.

    Args:
        source: An official checkpoint (file or folder), a diffusers or original Wan folder, a
            transformers Qwen3-VL folder, or a folder of ours.
        out: Folder to write.
        robot: Makes a stage-3 network for it: input encoders and decoder begin anew.
        action_steps: Length of the action chunk; as in the checkpoint when None.
        text_tokens: Wan's text length, which official checkpoints don't tell.
        layout: `official` writes `mp_rank_00_model_states.pt` instead.
        skip_unexpected: Write although the source has keys that mean nothing here.
        seed: Of everything that begins anew.
        force: Replace `out`.
        dry_run: Report alone.

    Raises:
        WeightsError: When the source is of no known kind or damaged.
        FileExistsError: When `out` exists and `force` is not given, or it holds no model.
    """
    if not dry_run:
        _check_free(out, force=force)
    found = _read(source, text_tokens)
    if found.config is not None:
        found = _retarget(found, robot, action_steps, seed, layout, str(source))
    elif robot or action_steps or layout == "official":
        raise WeightsError(f"{source} is {found.kind}, which has no actions and no official layout")
    weights, rows = _match(found)
    refused = ("missing",) if skip_unexpected else ("missing", "unexpected")
    problems = [row for row in rows if row.status in refused]
    is_written = not dry_run and not problems
    if is_written:
        _write_whole(out, lambda folder: found.write(folder, weights))
    return ImportReport(
        source=str(source),
        kind=found.kind,
        out=str(out),
        written=is_written,
        parameters=sum(value.numel() for value in weights.values()),
        table=_table(rows),
        problems=problems,
        keys=rows,
    )


def _check_free(out: Path, *, force: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out.is_dir() and (is_network(out) or is_qwen(out) or (out / FILE).is_file())):
        raise FileExistsError(f"{out} is there and holds something else than a model")
    if not force:
        raise FileExistsError(f"{out} is there already; --force replaces it")


def _read(source: Path, text_tokens: int) -> Found:
    if not source.exists():
        raise WeightsError(f"there is no {source}")
    if source.is_dir():
        if is_network(source):
            config, weights = read_network(source)
            return _network("motus network", config, weights, ())
        if wan := find_wan(source):
            video, weights, unexpected = read_wan(wan)
            others = tuple(KeyRow("unexpected", key, 0) for key in unexpected)
            config = MotusConfig(video, None, None, attend_text_padding=True)
            return _network("Wan transformer", config, weights, others)
        if is_qwen(source):
            qwen = read_qwen(source)
            left = tuple(KeyRow("left out", k, 0, "output layer, not used") for k in qwen.left_out)
            return Found("Qwen3-VL", None, qwen.weights, left, qwen.expected, qwen.write)
        source = _official_file(source)
    return _read_official(source, text_tokens)


def _official_file(folder: Path) -> Path:
    try:
        return find_official(folder)
    except WeightsError as error:
        raise WeightsError(
            f"{folder} is no checkpoint that motus knows: neither an official one ({FILE}), nor a "
            "Wan transformer, a Qwen3-VL, or a folder that `motus import` wrote"
        ) from error


def _read_official(file: Path, text_tokens: int) -> Found:
    state = read_official(file)
    keys = sort_keys(state)
    positions = next((state[k].shape[1] for k in keys.computed), None)
    config = official_config(keys.weights, positions=positions, text_tokens=text_tokens)
    fates: tuple[tuple[tuple[str, ...], Status, str], ...] = (
        (keys.aliases, "left out", "a second name of another key"),
        (keys.vlm, "left out", "frozen Qwen3-VL: import its own folder"),
        (keys.computed, "left out", "computed"),
        (keys.unexpected, "unexpected", ""),
    )
    others = tuple(
        KeyRow(status, key, state[key].numel(), why)
        for names, status, why in fates
        for key in names
    )
    return _network("official Motus", config, keys.weights, others)


def _network(
    kind: str, config: MotusConfig, weights: Mapping[str, Tensor], others: tuple[KeyRow, ...]
) -> Found:
    def write(folder: Path, chosen: Mapping[str, Tensor]) -> None:
        write_network(folder, config, chosen, {"kind": kind})

    return Found(kind, config, weights, others, {}, write)


def _retarget(
    found: Found, robot: Robot | None, steps: int | None, seed: int, layout: Layout, source: str
) -> Found:
    """The same source with the sizes, fresh weights and layout that were asked for."""
    config = found.config
    assert config is not None
    if (robot or steps) and config.action is None:
        raise WeightsError(f"{source} has no action expert to make stage 3 of")
    if config.action is not None:
        action = replace(config.action, steps=steps or config.action.steps)
        if robot is not None:
            action = replace(
                action,
                state_dim=robot.state_dim,
                action_dim=robot.action_dim,
                registers=action.registers or REGISTERS,
            )
        config = replace(config, action=action)
    try:
        with torch.device("meta"):
            target = {key: value.shape for key, value in Motus(config).state_dict().items()}
    except (TypeError, ValueError, ArithmeticError, RuntimeError, AssertionError) as error:
        raise WeightsError(f"{source} has sizes that no network can have: {error}") from error

    def write(folder: Path, chosen: Mapping[str, Tensor]) -> None:
        if layout == "official":
            write_official(folder / FILE, chosen, _positions(config))
        else:
            about = {"kind": found.kind, "source": source}
            write_network(folder, config, chosen, about)

    fresh = {} if robot is None else _fresh_actions(config, found.weights, seed)
    return replace(found, config=config, expected=target, write=write, fresh=fresh)


def _positions(config: MotusConfig) -> Tensor | None:
    action = config.action
    if action is None:
        return None
    return sincos_positions(
        action.steps + (2 if action.state_dim else 0) + action.registers, action.width
    )


def _fresh_actions(
    config: MotusConfig, weights: Mapping[str, Tensor], seed: int
) -> dict[str, Tensor]:
    """Initial values of what stage 3 begins anew; registers are kept where there are some."""
    assert config.action is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expert = ActionExpert(config.action, replace(config.video, layers=0))
    named = {f"action.{key}": value for key, value in expert.state_dict().items()}
    return {
        key: value
        for key, value in named.items()
        if key.startswith(STAGE3_FRESH) and not (key == "action.registers" and key in weights)
    }


def _match(found: Found) -> tuple[dict[str, Tensor], list[KeyRow]]:
    """The target's weights, and the fate of every key of source and target."""
    weights: dict[str, Tensor] = {}
    rows = list(found.others)
    for key, shape in found.expected.items():
        value = found.weights.get(key)
        if key in found.fresh:
            weights[key] = found.fresh[key]
            rows.append(KeyRow("re-initialised", key, shape.numel(), "begins anew in stage 3"))
        elif value is not None and value.shape == shape:
            weights[key] = value
            rows.append(KeyRow("loaded", key, shape.numel()))
        else:
            why = "" if value is None else f"has {list(value.shape)}, not {list(shape)}"
            rows.append(KeyRow("missing", key, shape.numel(), why))
    for key in sorted(set(found.weights) - set(found.expected)):
        rows.append(KeyRow("unexpected", key, found.weights[key].numel()))
    return weights, rows


def _table(rows: Iterable[KeyRow]) -> list[dict[str, Any]]:
    """One row for each name, the numbers of layers left out of it; loaded keys by their expert."""
    table: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in rows:
        name = re.sub(r"\.(blocks|layers)\.\d+\.", r".\1.*.", row.key, count=1)
        if row.status == "loaded" or row.why.startswith(("a second", "frozen", "output")):
            name = f"{row.key.split('.')[0]}.*"
        entry = table.setdefault(
            (row.status, name, row.why),
            {"status": row.status, "name": name, "keys": 0, "numbers": 0, "why": row.why},
        )
        entry["keys"] += 1
        entry["numbers"] += row.numbers
    order = ("loaded", "re-initialised", "missing", "unexpected", "left out")
    return sorted(table.values(), key=lambda e: (order.index(e["status"]), e["name"]))


def _write_whole(out: Path, write: Callable[[Path], None]) -> None:
    """Write into a hidden folder beside `out`, then put it in its place."""
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        write(partial)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
