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
    from motus_embodiments.cards import ActionSpec as ActionSpec
    from motus_embodiments.cards import Card as Card
    from motus_embodiments.cards import Channel as Channel
    from motus_embodiments.cards import card_differences as card_differences
    from motus_embodiments.cards import card_files as card_files
    from motus_embodiments.cards import card_hash as card_hash
    from motus_embodiments.cards import list_cards as list_cards
    from motus_embodiments.cards import load_card as load_card
    from motus_embodiments.cards import read_card as read_card
    from motus_embodiments.cards import save_card as save_card
    from motus_embodiments.drafting.derive import derive_card as derive_card
    from motus_embodiments.drafting.drafts import Draft as Draft
    from motus_embodiments.drafting.register import add_embodiment as add_embodiment
    from motus_embodiments.drafting.register import check_card as check_card
    from motus_embodiments.drafting.register import draft_embodiment as draft_embodiment
    from motus_embodiments.drafting.register import write_draft as write_draft
    from motus_embodiments.kinematics import Kinematics as Kinematics
    from motus_embodiments.numbers.actions import ActionAdapter as ActionAdapter
    from motus_embodiments.pictures.appearance import Appearance as Appearance
    from motus_embodiments.pictures.portrait import save_portrait as save_portrait
    from motus_embodiments.pictures.rendering import Renderer as Renderer
    from motus_embodiments.pictures.surfaces import Surface as Surface
    from motus_embodiments.pictures.surfaces import TrueFlow as TrueFlow
    from motus_embodiments.pictures.surfaces import true_flow as true_flow
    from motus_embodiments.poses.backends import Backend as Backend
    from motus_embodiments.poses.backends import make_sampler as make_sampler
    from motus_embodiments.poses.camera_axes import head_axes as head_axes
    from motus_embodiments.poses.camera_axes import wrist_axes as wrist_axes
    from motus_embodiments.poses.coverage import Coverage as Coverage
    from motus_embodiments.poses.mujoco_sampler import MujocoPoseSampler as MujocoPoseSampler
    from motus_embodiments.poses.sampling import Plan as Plan
    from motus_embodiments.poses.sampling import PoseSampler as PoseSampler
    from motus_embodiments.poses.sampling import SampleReport as SampleReport
    from motus_embodiments.poses.sampling import Tally as Tally
    from motus_embodiments.poses.workspace import Survey as Survey
    from motus_embodiments.robot_models.skeleton import kinematic_model as kinematic_model

# Looked up on first use, so that a command's --help never pays for mujoco (PEP 562).
_HOMES = {
    "ActionAdapter": "numbers.actions",
    "ActionSpec": "cards",
    "Appearance": "pictures.appearance",
    "Backend": "poses.backends",
    "Card": "cards",
    "Channel": "cards",
    "Coverage": "poses.coverage",
    "Draft": "drafting.drafts",
    "Kinematics": "kinematics",
    "MujocoPoseSampler": "poses.mujoco_sampler",
    "Plan": "poses.sampling",
    "PoseSampler": "poses.sampling",
    "Renderer": "pictures.rendering",
    "SampleReport": "poses.sampling",
    "Surface": "pictures.surfaces",
    "Survey": "poses.workspace",
    "Tally": "poses.sampling",
    "TrueFlow": "pictures.surfaces",
    "add_embodiment": "drafting.register",
    "card_differences": "cards",
    "card_files": "cards",
    "card_hash": "cards",
    "check_card": "drafting.register",
    "derive_card": "drafting.derive",
    "draft_embodiment": "drafting.register",
    "head_axes": "poses.camera_axes",
    "wrist_axes": "poses.camera_axes",
    "kinematic_model": "robot_models.skeleton",
    "list_cards": "cards",
    "load_card": "cards",
    "make_sampler": "poses.backends",
    "read_card": "cards",
    "save_card": "cards",
    "save_portrait": "pictures.portrait",
    "true_flow": "pictures.surfaces",
    "write_draft": "drafting.register",
}

__all__ = [
    "ActionAdapter",
    "ActionSpec",
    "Backend",
    "Card",
    "Channel",
    "Coverage",
    "DataError",
    "Draft",
    "Kinematics",
    "MismatchError",
    "MissingError",
    "MotusError",
    "MujocoPoseSampler",
    "Plan",
    "PoseSampler",
    "Renderer",
    "SampleReport",
    "Surface",
    "Survey",
    "Tally",
    "TrueFlow",
    "UsageError",
    "add_embodiment",
    "card_differences",
    "card_files",
    "card_hash",
    "check_card",
    "derive_card",
    "draft_embodiment",
    "kinematic_model",
    "list_cards",
    "load_card",
    "make_sampler",
    "nearest",
    "read_card",
    "save_card",
    "save_portrait",
    "true_flow",
    "write_draft",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
