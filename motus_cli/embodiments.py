"""`motus embodiments`: the robots that are known, and whether their cards hold."""

from collections.abc import Callable
from typing import Any

from typer import Typer

from motus_cli.command import command
from motus_cli.console import Console, Outcome
from motus_cli.options import EmbodimentName
from motus_embodiments import MismatchError, MotusError

group = Typer(help="List, show and check embodiment cards")


def list_embodiments(console: Console) -> Outcome:
    """List the cards in ./embodiments and the shipped ones.

    Example: motus embodiments list
    """
    from motus_embodiments import list_cards

    rows = [
        {
            "name": card.name,
            "title": card.title,
            "arms": len(card.arms),
            "rate": card.rate,
            "action": card.action.representation,
            "file": path,
        }
        for card, path in list_cards()
    ]
    return Outcome({"embodiments": rows}, next="motus embodiments show NAME")


def show_embodiment(console: Console, embodiment: EmbodimentName) -> Outcome:
    """Show a card: its channels in canonical order, its cameras, its contract.

    Example: motus embodiments show franka
    """
    from motus_embodiments import card_hash, load_card

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
    shown = ("name", "title", "rate", "representation", "hash", "state", "action")
    return Outcome(report, show=shown)


def check_embodiment(console: Console, embodiment: EmbodimentName) -> Outcome:
    """Check a card: the action law, the home pose, the robot model.

    Example: motus embodiments check embodiments/franka.yaml
    """
    from motus_embodiments import load_card

    card = load_card(embodiment)
    checks = [_checked(name, check, card) for name, check in CHECKS.items()]
    failed = [row["check"] for row in checks if not row["ok"]]
    problem = None
    if failed:
        problem = MismatchError(
            f"embodiment '{card.name}' fails: {', '.join(failed)}",
            hint=f"mend the card, then run `motus embodiments check {embodiment}` again",
            where=card.name,
        )
    return Outcome({"name": card.name, "checks": checks}, problem=problem)


def _checked(name: str, check: Callable[[Any], str], card: Any) -> dict[str, Any]:
    try:
        return {"check": name, "ok": True, "found": check(card)}
    except MotusError as error:
        return {"check": name, "ok": False, "found": error.message}


def _check_actions(card: Any) -> str:
    """encode(decode(a)) == a at the limits (where there is none: 10) and between them."""
    import numpy as np

    from motus_embodiments import ActionAdapter

    adapter = ActionAdapter(card)
    limits = np.clip([(c.low, c.high) for c in card.action_channels], -10, 10).T
    canonical = limits[0] + np.linspace(0, 1, 11)[:, None] * (limits[1] - limits[0])
    error = np.abs(adapter.encode_action(adapter.decode_action(canonical)) - canonical).max()
    if not error < 1e-5:
        raise MismatchError(f"encode(decode(action)) is off by {error:.2g}")
    return f"{canonical.shape[1]} channels, error {error:.1g}"


def _check_model(card: Any) -> str:
    """The card says what the robot's model says."""
    from motus_embodiments import check_card

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
group.command("list")(command(list_embodiments))
group.command("show")(command(show_embodiment))
