"""What LeRobot reads of a policy bundle, written without LeRobot: features and processors."""

from collections.abc import Mapping
from typing import Any

from motus_adapters.conversion.canvas import Layout
from motus_embodiments import Card

POLICY_TYPE = "motus"  # what `--policy.type` and `"type"` say
IMAGE = "observation.image"
IMAGES = "observation.images."
CANVAS_KEY = f"{IMAGES}canvas"
OBSERVATION_STEP = "motus_observation"


def view_keys(card: Card, role: str) -> list[str]:
    """LeRobot's names for the view of a role: the card's camera, its aliases, a lone image."""
    names = [n for c in card.cameras if c.role == role for n in (c.name, *c.aliases)]
    return [f"{IMAGES}{name}" for name in names] + ([IMAGE] if role == "head" else [])


def lerobot_config(layout: Layout, card: Card) -> dict[str, Any]:
    """LeRobot's part of `config.json`.

    All names of a camera are declared, since LeRobot accepts a robot or simulator whose cameras
    are some of those declared; which ones are there is checked when they arrive.
    """
    inputs: dict[str, Any] = {
        key: {"type": "VISUAL", "shape": [3, height, width]}
        for role, (_, _, width, height) in layout.boxes.items()
        for key in view_keys(card, role)
    }
    inputs[CANVAS_KEY] = {"type": "VISUAL", "shape": [3, layout.height, layout.width]}
    inputs["observation.state"] = {"type": "STATE", "shape": [len(card.state_channels)]}
    return {
        "type": POLICY_TYPE,
        "input_features": inputs,
        "output_features": {"action": {"type": "ACTION", "shape": [len(card.action_channels)]}},
        "push_to_hub": False,
    }


def lerobot_processors(
    config: Mapping[str, Any], card: Card, statistics: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """The two pipelines around the policy, by file name.

    The first holds the contract: it checks observations and makes them canonical. The policy gives
    native actions, so the second has nothing to do.

    LeRobot's own normalizers do nothing here (no statistics, no mapping): they stand in because
    `lerobot-train --policy.path` sets options of steps with these names.
    """
    about = card.model_dump(mode="json", exclude_defaults=True)
    idle = {"eps": 1e-8, "features": {}, "norm_map": {}}
    contract = {"policy": dict(config), "card": about, "statistics": dict(statistics)}
    before = [
        {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}},
        {"registry_name": "to_batch_processor", "config": {}},
        {"registry_name": OBSERVATION_STEP, "config": contract},
        {"registry_name": "normalizer_processor", "config": idle},
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
    ]
    after = [
        {"registry_name": "unnormalizer_processor", "config": idle},
        {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}},
    ]
    return {
        f"{name}.json": {"name": name, "steps": steps}
        for name, steps in (("policy_preprocessor", before), ("policy_postprocessor", after))
    }
