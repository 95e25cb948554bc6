"""What a robot is: cards, action contract, kinematics, pose sampling, rendering."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from motus_embodiments.errors import (
    DataError,
    MismatchError,
    MissingError,
    MotusError,
    UsageError,
    nearest,
)

if TYPE_CHECKING:
    from motus_embodiments.actions import ActionAdapter as ActionAdapter
    from motus_embodiments.cards import Card as Card
    from motus_embodiments.cards import Channel as Channel
    from motus_embodiments.cards import card_hash as card_hash
    from motus_embodiments.cards import list_cards as list_cards
    from motus_embodiments.cards import load_card as load_card
    from motus_embodiments.cards import save_card as save_card
    from motus_embodiments.coverage import Coverage as Coverage
    from motus_embodiments.derive import derive_card as derive_card
    from motus_embodiments.kinematics import Kinematics as Kinematics
    from motus_embodiments.register import add_embodiment as add_embodiment
    from motus_embodiments.register import check_card as check_card
    from motus_embodiments.rendering import Renderer as Renderer
    from motus_embodiments.sampling import MujocoPoseSampler as MujocoPoseSampler
    from motus_embodiments.sampling import Plan as Plan
    from motus_embodiments.sampling import PoseSampler as PoseSampler
    from motus_embodiments.sampling import SampleReport as SampleReport
    from motus_embodiments.sampling import make_sampler as make_sampler

# Looked up on first use, so that a command's --help never pays for mujoco (PEP 562).
_HOMES = {
    "ActionAdapter": "actions",
    "Card": "cards",
    "Channel": "cards",
    "Coverage": "coverage",
    "Kinematics": "kinematics",
    "MujocoPoseSampler": "sampling",
    "Plan": "sampling",
    "PoseSampler": "sampling",
    "Renderer": "rendering",
    "SampleReport": "sampling",
    "add_embodiment": "register",
    "card_hash": "cards",
    "check_card": "register",
    "derive_card": "derive",
    "list_cards": "cards",
    "load_card": "cards",
    "make_sampler": "sampling",
    "save_card": "cards",
}

__all__ = [
    "ActionAdapter",
    "Card",
    "Channel",
    "Coverage",
    "DataError",
    "Kinematics",
    "MismatchError",
    "MissingError",
    "MotusError",
    "MujocoPoseSampler",
    "Plan",
    "PoseSampler",
    "Renderer",
    "SampleReport",
    "UsageError",
    "add_embodiment",
    "card_hash",
    "check_card",
    "derive_card",
    "list_cards",
    "load_card",
    "make_sampler",
    "nearest",
    "save_card",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
