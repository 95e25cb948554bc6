"""The model card of an exported policy: what it is, what it was measured to do, what it needs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from motus_adapters import ActionSpace, BundleConfig
from motus_embodiments import MismatchError
from motus_recipes.evaluation.closed_loop import EvalReport, read_evaluation_file
from motus_recipes.evaluation.driving import Solving


def read_evaluation(file: Path, weights: str, solving: Solving) -> EvalReport:
    """What `motus eval --out` wrote, or `--json` printed, of this policy.

    Args:
        file: Where it was kept.
        weights: SHA-256 of policy.safetensors.
        solving: How the policy is to be solved.

    Raises:
        DataError: When it is no such document.
        MismatchError: When other weights were evaluated, or solved otherwise.
    """
    found = read_evaluation_file(file)
    for what, was, now in (
        ("weights", found.weights, weights),
        ("mode, steps or execute", _told(found.solving), _told(solving)),
    ):
        if was != now:
            raise MismatchError(
                f"{file} evaluates other {what} than those of this export: {was}, not {now}",
                hint="export, evaluate that policy, then export again with the same options, "
                "--evaluation and --force",
                where=str(file),
            )
    return found


def _told(solving: Solving | None) -> str:
    return "not said" if solving is None else f"{solving.mode}, {solving.steps}, {solving.execute}"


def model_card(
    run: str,
    config: BundleConfig,
    space: ActionSpace,
    report: Mapping[str, Any],
    *,
    megabytes: float,
    evaluation: EvalReport | None,
    untrained: bool,
) -> str:
    """Text of README.md.

    Args:
        run: Name of the run.
        config: Of the bundle.
        space: Card and statistics.
        report: Of the run's last stage.
        megabytes: Of the weights.
        evaluation: From `read_evaluation`.
        untrained: Whether the weights are initial ones.
    """
    card = space.card
    held = "none" if report["heldout_loss"] is None else f"{report['heldout_loss']:.4f}"
    solved = f"{config.mode}, {config.steps} steps, {config.execute} actions at a time"
    cameras = ", ".join(
        f"`{camera.name}` ({camera.role})"
        for camera in card.cameras
        if camera.role in config.layout.boxes
    )
    rows = {
        "trained by": f"recipe of run `{run}`, last stage {report['steps']} steps",
        "training loss": f"{report['loss']:.4f}",
        "held-out loss": held,
        "solved mode": solved,
        "size of the weights": f"{megabytes:g} MB",
        "success": _success(evaluation),
        "latency": _latency(evaluation),
    }
    if untrained:
        rows = {"weights": "initial ones: a control, not a policy", **rows}
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""# Motus policy for {card.name}

A Motus policy of size `{config.size}`. It takes the cameras {cameras}, the robot's
{len(card.state_channels)} state numbers and an instruction, and gives chunks of
{config.window.action_steps} actions at {config.window.action_rate:g} Hz
({len(card.action_channels)} numbers, {card.action.representation}); the control loop runs at
{config.rate:g} Hz.

    from motus_adapters import Policy
    policy = Policy.load("this folder")
    actions = policy.act(images, state, "{config.instruction}")

| | |
|---|---|
{table}
{_decoder(config)}
Times depend on the machine; `measured.json`, if it lies here, holds more of them (`motus export
--measure`).
"""


def _success(evaluation: EvalReport | None) -> str:
    if evaluation is None:
        return "not measured"
    rate, low, high = (100 * part for part in (evaluation.rate, evaluation.low, evaluation.high))
    return (
        f"{rate:.0f} % of {evaluation.episodes} episodes in {evaluation.env} "
        f"(95 % interval {low:.0f} to {high:.0f} %)"
    )


def _latency(evaluation: EvalReport | None) -> str:
    if evaluation is None or evaluation.latency is None:
        return "not measured"
    times = evaluation.latency
    return f"{times.median:.0f} ms median, {times.p99:.0f} ms p99, where that was measured"


def _decoder(config: BundleConfig) -> str:
    decoder = config.decoder
    if decoder is None:
        return ""
    return f"""
**No demonstration of this robot was seen.** The network solves for latent actions; a small decoder
gives the robot's own. It was fitted on anchoring data alone, {decoder.frames} frames of random
poses ({decoder.fitted_on}), and explains {100 * decoder.r2:.0f} % of the variance of the actions
of held-out episodes of that data. How well it does a task has to be measured.
"""
