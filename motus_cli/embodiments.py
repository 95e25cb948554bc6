"""`motus embodiments`: the robots that are known, and whether their cards hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option, Typer

from motus_cli.command import command
from motus_cli.console import Console, Outcome
from motus_cli.options import EmbodimentName, Force
from motus_embodiments import MismatchError, MissingError, MotusError, UsageError

group = Typer(help="List, show, check and compare embodiment cards.")


def list_embodiments(console: Console) -> Outcome:
    """List the cards in ./embodiments and the shipped ones.

    Example: motus embodiments list
    """
    from motus_embodiments import card_files, read_card

    rows = []
    for name, path in sorted(card_files().items()):
        try:
            card = read_card(path, name)
        except UsageError:
            told = f"not valid; `motus embodiments check {name}` says why"
            rows.append({"name": name, "title": told, "file": path})
            continue
        rows.append(
            {
                "name": card.name,
                "title": card.title,
                "arms": len(card.arms),
                "rate": card.rate,
                "action": card.action.representation,
                "model": card.model is not None,
                "file": path,
            }
        )
    return Outcome({"embodiments": rows}, next="motus embodiments show NAME")


def show_embodiment(
    console: Console,
    embodiment: EmbodimentName,
    picture: Annotated[
        Path | None,
        Option("--picture", help="PNG to draw the robot into: at home, with frames and cameras"),
    ] = None,
    force: Force = False,
) -> Outcome:
    """Show a card: its channels in canonical order, its cameras, its contract.

    Example: motus embodiments show franka --picture franka.png
    """
    from motus_embodiments import card_hash, load_card, save_portrait

    card = load_card(embodiment)
    report: dict[str, Any] = {
        "name": card.name,
        "title": card.title,
        "rate": card.rate,
        "representation": card.action.representation,
        "hash": card_hash(card),
        "state": card.state_channels,
        "action": card.action_channels,
        "cameras": card.cameras,
        "card": card,
    }
    shown = ["name", "title", "rate", "representation", "hash", "state", "action"]
    if picture is not None:
        if picture.is_dir() or picture.suffix.lower() != ".png":
            what = "a folder" if picture.is_dir() else "no name of a PNG, which the picture is"
            hint = "name a file such as robot.png"
            raise UsageError(f"--picture {picture} is {what}", hint=hint)
        if picture.exists() and not force:
            raise UsageError(f"{picture} exists already", hint="--force draws it anew")
        report |= {"picture": picture, "views": save_portrait(card, picture)}
        shown += ["picture", "views"]
    return Outcome(report, show=tuple(shown))


def diff_embodiments(
    console: Console,
    old: Annotated[str, Argument(help="Name or file of a card")],
    new: Annotated[str, Argument(help="Name or file of another")],
) -> Outcome:
    """Compare two cards: every value in which they differ; exit 1 if their numbers do.

    Example: motus embodiments diff franka embodiments/franka.yaml
    """
    from motus_embodiments import card_differences, card_hash, load_card

    first, second = load_card(old), load_card(new)
    rows = [
        {"key": key, "old": _brief(a), "new": _brief(b)}
        for key, a, b in card_differences(first, second)
    ]
    problem = None
    if card_hash(first) != card_hash(second):
        problem = MismatchError(
            f"'{old}' and '{new}' give numbers another meaning",
            hint="data and policies of the one are not for the other",
        )
    return Outcome({"same_meaning": problem is None, "differences": rows}, problem=problem)


def _brief(value: Any) -> Any:
    """A value of one line; tables are only said to be there."""
    return f"{len(value)} values" if isinstance(value, dict) else value


def check_embodiment(console: Console, embodiment: EmbodimentName) -> Outcome:
    """Check a card: the action law, the home pose, the robot model.

    Example: motus embodiments check embodiments/franka.yaml
    """
    from motus_embodiments import load_card

    card = load_card(embodiment)
    checks, failed = [], dict[str, MotusError]()
    for name, check in CHECKS.items():
        try:
            checks.append({"check": name, "ok": True, "found": check(card)})
        except MotusError as error:
            checks.append({"check": name, "ok": False, "found": error.message})
            failed[name] = error
    problem: MotusError | None = None
    if failed and all(isinstance(error, MissingError) for error in failed.values()):
        problem = next(iter(failed.values()))  # nothing that the card could mend
    elif failed:
        problem = MismatchError(
            f"embodiment '{card.name}' fails: {', '.join(failed)}",
            hint=f"mend the card, then run `motus embodiments check {embodiment}` again",
            where=card.name,
        )
    return Outcome({"name": card.name, "checks": checks}, problem=problem)


def _check_actions(card: Any) -> str:
    """encode(decode(a)) == a at the limits (where there is none: 10) and between them."""
    import numpy as np

    from motus_embodiments import ActionAdapter

    adapter = ActionAdapter(card)
    if not card.action_channels:
        return "no actions"
    limits = np.clip([(c.low, c.high) for c in card.action_channels], -10, 10).T
    canonical = limits[0] + np.linspace(0, 1, 11)[:, None] * (limits[1] - limits[0])
    turns = [i for i, c in enumerate(card.action_channels) if c.kind == "rotation"]
    canonical[:, turns] *= 0.5  # inside the ball of radius pi, where rotation vectors are unique
    home = np.array(card.home())
    back = adapter.encode_action(adapter.decode_action(canonical, home), home)
    error = np.abs(back - canonical).max()
    if not error < 1e-5:
        raise MismatchError(f"encode(decode(action)) is off by {error:.2g}")
    return f"{canonical.shape[1]} channels, error {error:.1g}"


def _check_model(card: Any) -> str:
    """The card says what the robot's model says, and poses are known where actions hold them."""
    from motus_embodiments import Kinematics, check_card

    representation = card.action.representation
    named = all(arm.end_effector for arm in card.arms)
    has_poses = named if card.model else Kinematics(card).has_poses
    if representation in ("ee_pose", "ee_position") and not has_poses:
        raise MismatchError(
            f"no end-effector poses, which {representation} needs: name a model and an "
            "end_effector, or give an arm whose recorded states hold them a pose"
        )
    if card.model is None:
        return "no robot model: works without rendering"
    differences = check_card(card)
    if differences:
        raise MismatchError("; ".join(differences))
    return "card and model agree"


def _check_home(card: Any) -> str:
    """The home pose lies within the limits of every joint."""
    outside = [
        f"{channel.name} {value:.3g}"
        for channel, value in zip(card.state_channels, card.home(), strict=True)
        if not channel.low <= value <= channel.high
    ]
    if outside:
        raise MismatchError(f"home is outside the limits: {', '.join(outside)}")
    return f"{len(card.home())} channels within limits"


CHECKS: dict[str, Callable[[Any], str]] = {
    "actions": _check_actions,
    "home": _check_home,
    "model": _check_model,
}

group.command("check")(command(check_embodiment))
group.command("diff")(command(diff_embodiments))
group.command("list")(command(list_embodiments))
group.command("show")(command(show_embodiment))
