"""From a finished run to a policy bundle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motus_adapters import ActionSpace, BundleConfig, Header, write_bundle
from motus_embodiments import DataError, MismatchError, UsageError, load_card
from motus_model import MotusModel, Window
from motus_recipes.checkpoints import read_weights

RUNS = Path("runs")


@dataclass(frozen=True)
class ExportReport:
    """What `export` wrote."""

    bundle: Path
    run: Path
    target: str
    parameters: int
    megabytes: float
    mode: str
    steps: int
    execute: int


def export(
    run: Path | None,
    target: str,
    out: Path,
    *,
    mode: str = "vla",
    steps: int = 5,
    execute: int = 2,
    force: bool = False,
    dry_run: bool = False,
    untrained: bool = False,
) -> ExportReport:
    """Write a run's policy as one folder.

    Args:
        run: The run's folder; None takes the newest under ./runs that fits the target.
        target: Name of the robot.
        out: The bundle's folder.
        mode: The mode that the policy solves.
        steps: Denoising steps.
        execute: Rows of a chunk to carry out before asking again.
        force: Overwrite a bundle.
        dry_run: Check everything, write nothing.
        untrained: Initial weights instead of trained ones: the control of an evaluation.

    Raises:
        DataError: When the run isn't finished.
        MismatchError: When the run was trained for another robot.
    """
    card = load_card(target)
    run = run or _newest(target)
    stage = _policy_stage(run)
    state = json.loads((stage / "result" / "state.json").read_text())
    sources = json.loads((run / "data.json").read_text())
    meta = Header.from_dict(state["robot"], stage / "result" / "state.json")
    if meta.card.name != card.name:
        raise MismatchError(
            f"{run} was trained for '{meta.card.name}', not for '{target}'",
            hint=f"motus export --target {meta.card.name} --run {run}",
            where=str(run),
        )
    space = ActionSpace.from_dict(meta.card, state["statistics"])
    config = BundleConfig(
        size=sources["recipe"]["size"],
        window=Window(**sources["recipe"]["window"]),
        layout=meta.layout,
        rate=meta.rate,
        mode=mode,
        steps=steps,
        execute=execute,
        instruction=state["instruction"],
    )
    weights = read_weights(stage / "result" / "weights.safetensors")
    if untrained:
        weights = _initial(weights, config, space)
    if not dry_run:
        text = _model_card(run, config, space, state["report"])
        write_bundle(out, weights, config, space, text, force=force)
    return ExportReport(
        bundle=out,
        run=run,
        target=target,
        parameters=sum(value.numel() for value in weights.values()),
        megabytes=round(sum(v.numel() * v.element_size() for v in weights.values()) / 1e6, 1),
        mode=mode,
        steps=steps,
        execute=execute,
    )


def _initial(
    weights: Mapping[str, Any], config: BundleConfig, space: ActionSpace
) -> dict[str, Any]:
    """Fresh weights of the same network, with the trained frame autoencoder."""
    import torch

    from motus_adapters.bundle import model_config

    torch.manual_seed(0)
    model = MotusModel(model_config(config, space))
    frames = {key: value for key, value in weights.items() if key.startswith("frames.")}
    return {**model.state_dict(), **frames}


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


def _policy_stage(run: Path) -> Path:
    """Folder of the last finished stage that learnt the robot's own actions."""
    file = run / "data.json"
    if not file.is_file():
        raise DataError(
            f"{run} is no run: there is no data.json",
            hint="motus train --recipe full makes one",
            where=str(run),
        )
    stages = json.loads(file.read_text())["recipe"]["stages"]
    for number, stage in reversed(list(enumerate(stages, 1))):
        if stage["action"] == "native":
            folder = run / f"{number:02d}-{stage['name']}"
            if (folder / "result" / "state.json").is_file():
                return folder
            raise DataError(
                f"stage '{stage['name']}' of {run} is not finished",
                hint=f"motus train --run {run} --resume",
                where=str(folder),
            )
    raise MismatchError(
        f"{run} has no stage that learns a robot's own actions",
        hint="motus train --recipe full has one",
        where=str(run),
    )


def _model_card(
    run: Path, config: BundleConfig, space: ActionSpace, report: Mapping[str, Any]
) -> str:
    card = space.card
    held = "none" if report["heldout_loss"] is None else f"{report['heldout_loss']:.4f}"
    solved = f"{config.mode}, {config.steps} steps, {config.execute} actions at a time"
    cameras = ", ".join(f"`{camera.name}` ({camera.role})" for camera in card.cameras)
    return f"""# Motus policy for {card.name}

A Motus policy of size `{config.size}`. It takes the cameras {cameras}, the robot's
{len(card.state_channels)} state numbers and an instruction, and gives chunks of
{config.window.action_steps} actions at {config.window.action_rate:g} Hz
({len(card.action_channels)} numbers, {card.action.representation}).

    from motus_adapters import Policy
    policy = Policy.load("this folder")
    actions = policy.act(images, state, "{config.instruction}")

| | |
|---|---|
| trained by | recipe of run `{run.name}`, last stage {report["steps"]} steps |
| training loss | {report["loss"]:.4f} |
| held-out loss | {held} |
| solved mode | {solved} |
"""
