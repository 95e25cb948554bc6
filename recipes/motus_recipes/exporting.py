"""From a finished run to a policy bundle, and to other formats beside it."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save

from motus_adapters import (
    ActionSpace,
    BundleConfig,
    Header,
    Normalizer,
    Parity,
    Policy,
    UnifiedDataset,
    check_free,
    write_format,
)
from motus_adapters.deployment.bundle import (
    CONTRACT,
    DecoderConfig,
    build_model,
    fill_bundle,
    model_config,
)
from motus_adapters.deployment.measuring import Measured
from motus_adapters.deployment.measuring import measure as measure_policy
from motus_adapters.exports.formats import FORMATS, PARITY, check_format
from motus_adapters.files import appearing, disk_errors
from motus_embodiments import (
    Card,
    DataError,
    MismatchError,
    UsageError,
    card_differences,
    card_hash,
    load_card,
)
from motus_model import MODES, Role, Window, network_config
from motus_recipes.data.windows import observed_windows
from motus_recipes.evaluation.driving import Solving
from motus_recipes.latent_target import fit_target
from motus_recipes.reports.model_card import model_card, read_evaluation
from motus_recipes.training.checkpoints import Weights, read_weights

RUNS = Path("runs")
# What a card may say otherwise than in training: where the robot may go, not what a number means.
LIMITS = re.compile(r"(arms\.\w+\.)?joints\..+\.(low|high|velocity)|arms\.\w+\.workspace(\..+)?")
TEXT = ("title", "notes", "sources")


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote.

    Attributes:
        formats: Other formats beside the bundle, and how far their actions lie from its own.
        measured: Its times on this machine, if asked for.
    """

    bundle: Path
    run: Path
    target: str
    parameters: int
    megabytes: float
    mode: str
    steps: int
    execute: int
    formats: tuple[Parity, ...]
    measured: Measured | None


def export(
    run: Path | None,
    target: str,
    out: Path,
    *,
    mode: str = "vla",
    steps: int = 5,
    execute: int | None = None,
    formats: Sequence[str] = (),
    dataset: Path | None = None,
    anchoring: Path | None = None,
    evaluation: Path | None = None,
    measure: bool = False,
    force: bool = False,
    dry_run: bool = False,
    untrained: bool = False,
) -> ExportReport:
    """Write a run's policy as one folder.

    Args:
        run: The run's folder; None takes the newest under ./runs that fits the target.
        target: Name of the robot.
        out: The bundle's folder; another format goes to `out`-FORMAT.
        mode: The mode that the policy solves.
        steps: Denoising steps.
        execute: Rows of a chunk to carry out before asking again; two, if there are as many.
        formats: Other formats: names of `FORMATS`.
        dataset: Where the windows are from that they are held against the policy on; the run's
            own dataset of the robot if left out.
        anchoring: Anchoring data of the target, for a run that ends with latent actions.
        evaluation: What `motus eval --out` wrote of these weights, for the model card.
        measure: Time the policy on this machine; not a part of the contract.
        force: Overwrite what is there.
        dry_run: Check everything, write nothing.
        untrained: Initial weights instead of trained ones: the control of an evaluation.

    Raises:
        UsageError: When the mode gives no actions, more are to be carried out than a chunk has, no
            run fits the target, `out` is there already, or a format of an older policy beside it.
        MissingError: When a format needs a package that is not installed.
        DataError: When the run isn't finished.
        MismatchError: When the run was trained for another robot, or its card differs in more
            than limits; the evaluation is of other weights, or a format gives other actions.
    """
    solved = MODES[mode]
    if solved.action is not Role.SOLVE or solved.video is Role.CLEAN:
        raise UsageError(
            f"mode {mode} gives no actions from pictures alone",
            hint="a policy solves vla or joint; `motus sample` runs all five",
        )
    card = load_card(target)
    run = run or _newest(target)
    for name in formats:
        check_format(name, _beside(out, name), force=force)
    check_free(out, CONTRACT, force=force)
    _check_stale(out, formats)
    stage = _last_stage(run)
    state = json.loads((stage / "result" / "state.json").read_text())
    made = _for_target(run, stage, state, card, anchoring)
    config = replace(made.config, mode=mode, steps=steps)
    config = replace(config, execute=_executed(config, execute))
    if formats and config.decoder:
        raise UsageError("a policy of latent actions has no other format than the folder")
    seen = UnifiedDataset(dataset or _dataset_of(run, target)).path if formats else None
    weights = _initial(made.weights, config, made.space) if untrained else made.weights
    measured = None
    if evaluation:
        measured = read_evaluation(evaluation, _hash(weights), Solving.of(config))
    megabytes = round(sum(v.numel() * v.element_size() for v in weights.values()) / 1e6, 1)
    formed: list[Parity] = []
    times = None
    if not dry_run:
        text = model_card(
            run.name,
            config,
            made.space,
            state["report"],
            megabytes=megabytes,
            evaluation=measured,
            untrained=untrained,
        )
        with disk_errors(out), appearing(out) as new:  # after its formats, which may fail
            new.mkdir()
            fill_bundle(new, weights, config, made.space, text)
            if seen is not None:
                policy = Policy.load(new)
                windows = observed_windows(policy, seen)
                for name in formats:
                    found = write_format(policy, name, _beside(out, name), windows, force=force)
                    formed += found.parity
        times = measure_policy(out) if measure else None
    return ExportReport(
        bundle=out,
        run=run,
        target=target,
        parameters=sum(value.numel() for value in weights.values()),
        megabytes=megabytes,
        mode=mode,
        steps=steps,
        execute=config.execute,
        formats=tuple(formed),
        measured=times,
    )


def _executed(config: BundleConfig, asked: int | None) -> int:
    """Rows to carry out of each chunk."""
    if asked is None:
        return min(config.execute, config.rows)
    if asked > config.rows:
        raise UsageError(
            f"--execute {asked} is more than a chunk has: {config.rows} at {config.rate:g} Hz",
            hint=f"take 1 to {config.rows}",
        )
    return asked


@dataclass(frozen=True)
class _Made:
    """What a run has for a robot."""

    config: BundleConfig
    space: ActionSpace
    weights: Weights


def _for_target(
    run: Path, stage: Path, state: Mapping[str, Any], card: Card, anchoring: Path | None
) -> _Made:
    """The last stage's weights and numbers for a robot; fits a decoder for latent actions."""
    recipe = json.loads((run / "data.json").read_text())["recipe"]
    learnt = next(
        s["action"] for s in recipe["stages"] if stage.name.partition("-")[2] == s["name"]
    )
    weights = read_weights(stage / "result" / "weights.safetensors")
    meta = Header.from_dict(state["robot"], stage / "result" / "state.json")
    decoder = None
    if learnt == "latent":
        if anchoring is None:
            raise MismatchError(
                f"{run} ends with latent actions, which are no robot's own",
                hint=f"--anchoring DATASET fits a decoder for '{card.name}'; "
                f"motus anchor {card.name} DATASET renders the data",
                where=str(run),
            )
        latents = Normalizer.from_dict(state["statistics"]["action"])
        space, own, about, meta = fit_target(run, card, anchoring, latents)
        weights |= {f"decoder.{key}": value for key, value in own.items()}
        decoder = DecoderConfig(**about)
    else:
        if meta.card.name != card.name:
            raise MismatchError(
                f"{run} was trained for '{meta.card.name}', not for '{card.name}': its last stage "
                f"learnt the actions of '{meta.card.name}'",
                hint=f"motus export --target {meta.card.name} --run {run}; or train a run that "
                "ends with latent actions, and give --anchoring",
                where=str(run),
            )
        if anchoring is not None:
            raise UsageError(
                f"{run} learnt the actions of '{card.name}': anchoring data have no use here",
                hint="leave --anchoring out",
            )
        space = ActionSpace.from_dict(meta.card, state["statistics"])
    space = ActionSpace(_card_now(run, space.card, card), space.state, space.action)
    config = BundleConfig(
        size=recipe["size"],
        window=Window(**recipe["window"]),
        layout=meta.layout,
        rate=meta.rate,
        instruction=state["instruction"],
        decoder=decoder,
        encoders=state.get("encoders"),
    )
    network = network_config(state["network"])
    if network != model_config(config, space).network:
        config = replace(config, network=network)
    return _Made(config, space, weights)


def _card_now(run: Path, trained: Card, card: Card) -> Card:
    """Today's card if its limits are all that differ from the one of the data; else that one."""
    if card_hash(trained) == card_hash(card):
        return trained
    other = [
        f"{key} was {old}, is {new}"
        for key, old, new in card_differences(trained, card)
        if not LIMITS.fullmatch(key)
        and key.partition(".")[0] not in TEXT
        and not (key == "model.file" and old and new and Path(old).name == Path(new).name)
    ]
    if other:
        raise MismatchError(
            f"the card '{card.name}' is not the one that {run} was trained with: "
            f"{'; '.join(other[:3])}{'; ...' if len(other) > 3 else ''}",
            hint="limits, velocity and workspace may be changed after training; give the card the "
            "rest back, or convert the recordings with it and train anew",
            where=str(run),
        )
    return card


def _initial(weights: Weights, config: BundleConfig, space: ActionSpace) -> Weights:
    """Fresh weights of the same network, with the trained frame autoencoder."""
    import torch

    torch.manual_seed(0)
    model = build_model(config, space)
    kept = {k: v for k, v in weights.items() if k.startswith(("frames.", "decoder."))}
    return {**model.state_dict(), **kept}


def _hash(weights: Weights) -> str:
    """SHA-256 of policy.safetensors."""
    return hashlib.sha256(save({k: v.contiguous() for k, v in sorted(weights.items())})).hexdigest()


def _beside(out: Path, name: str) -> Path:
    return out.parent / f"{out.name}-{name}"


def _check_stale(out: Path, formats: Sequence[str]) -> None:
    """Refuse to leave another policy's format beside a new bundle."""
    for name in FORMATS:
        if name not in formats and (_beside(out, name) / PARITY).is_file():
            raise UsageError(
                f"{_beside(out, name)} is of the policy that was in {out} before",
                hint=f"write it anew with --format {name}, or remove it",
                where=str(_beside(out, name)),
            )


def _newest(target: str) -> Path:
    runs = sorted(RUNS.glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for file in runs:
        data = json.loads((file.parent / "data.json").read_text())["data"]
        if any(entry["card"] == target and entry["level"] == 6 for entry in data.values()):
            return file.parent
    raise UsageError(
        f"no finished run for '{target}' under ./{RUNS}",
        hint="motus train --recipe full makes one; --run names one",
    )


def _dataset_of(run: Path, target: str) -> Path:
    """The run's dataset of a robot, of the highest level."""
    data = json.loads((run / "data.json").read_text())["data"].values()
    fitting = [entry for entry in data if entry["card"] == target]
    hint = "--dataset names the one whose windows a format is checked on"
    if not fitting:
        raise UsageError(f"{run} has no dataset of '{target}'", hint=hint)
    path = Path(max(fitting, key=lambda entry: entry["level"])["path"])
    if not path.exists():
        raise UsageError(f"{run} was trained on {path}, which is not here", hint=hint)
    return path


def _last_stage(run: Path) -> Path:
    """Folder of the last stage that learnt actions, finished."""
    file = run / "data.json"
    if not file.is_file():
        raise DataError(
            f"{run} is no run: there is no data.json",
            hint="motus train --recipe full makes one",
            where=str(run),
        )
    recipe = json.loads(file.read_text())["recipe"]
    for number, stage in reversed(list(enumerate(recipe["stages"], 1))):
        if stage["action"] != "none":
            folder = run / f"{number:02d}-{stage['name']}"
            if (folder / "result" / "state.json").is_file():
                return folder
            raise DataError(
                f"stage '{stage['name']}' of {run} is not finished",
                hint=f"motus train --recipe {recipe['name']} --size {recipe['size']} "
                f"--run {shlex.quote(str(run))} --resume",
                where=str(folder),
            )
    raise MismatchError(
        f"{run} has no stage that learns actions",
        hint="motus train --recipe full has one",
        where=str(run),
    )
