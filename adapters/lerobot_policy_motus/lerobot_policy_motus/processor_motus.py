"""LeRobot's processors of a Motus policy: the contract stands before the policy."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lerobot.configs import PipelineFeatureType, PolicyFeature
from lerobot.lerobot_types import EnvTransition, TransitionKey
from lerobot.processor import (
    PolicyAction,
    PolicyProcessorPipeline,
    ProcessorStep,
    ProcessorStepRegistry,
)
from lerobot.processor.converters import (
    policy_action_to_transition,
    transition_to_policy_action,
)
from torch import Tensor

from lerobot_policy_motus.configuration_motus import MotusConfig
from motus_adapters import ActionSpace, BundleConfig, Counts
from motus_adapters.deployment.guard import Guard
from motus_adapters.deployment.lerobot_files import (
    CANVAS_KEY,
    IMAGE,
    IMAGES,
    OBSERVATION_STEP,
    lerobot_processors,
)
from motus_embodiments import Card, DataError

STATE = "observation.state"
RATE = "observation.control_rate"  # of simulators that tell it, Hz
Pipelines = tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]],
    PolicyProcessorPipeline[PolicyAction, PolicyAction],
]


@ProcessorStepRegistry.register(OBSERVATION_STEP)
@dataclass
class ObservationStep(ProcessorStep):  # type: ignore[misc]
    """Native pictures, states and actions to canvas and canonical numbers, held to the contract.

    A batch with a ready canvas comes from a unified dataset: its numbers are canonical already.

    Attributes:
        policy: Of the bundle's `config.json`.
        card: The robot's card.
        statistics: Of the bundle's `stats.json`.
        counts: State numbers far outside the statistics, and so on.
    """

    policy: dict[str, Any]
    card: dict[str, Any]
    statistics: dict[str, Any]
    counts: Counts = field(default_factory=Counts)

    def __post_init__(self) -> None:
        self._config = BundleConfig.from_dict(self.policy)
        self._space = ActionSpace.from_dict(Card.model_validate(self.card), self.statistics)

    def __call__(self, transition: EnvTransition) -> EnvTransition:
        """Give `observation.images.canvas` uint8 [b, f, H, W, 3] and canonical numbers."""
        observation = dict(transition.get(TransitionKey.OBSERVATION) or {})
        views = {
            key: _pixels(value)
            for key, value in observation.items()
            if (key.startswith(IMAGES) or key == IMAGE) and not key.endswith("_is_pad")
        }
        if STATE not in observation:
            raise DataError(f"no {STATE} in the observation")
        state = np.asarray(observation[STATE].detach().cpu(), np.float64)
        state = state[:, 0] if state.ndim == 3 else state
        is_unified = CANVAS_KEY in views
        new = transition.copy()
        action = transition.get(TransitionKey.ACTION)
        if action is None and not is_unified:
            guards = [Guard(self._config, self._space, self.counts) for _ in state]
            for rate in observation.pop(RATE, torch.empty(0)).flatten().tolist():
                guards[0].rate(rate)
            pairs = zip(guards, state, strict=True)
            canonical = np.stack([guard.state(row) for guard, row in pairs])
        else:
            guards = [Guard(self._config, self._space, self.counts)] * len(state)
            canonical = state if is_unified else self._space.adapter.encode_state(state)
        if isinstance(action, Tensor):
            native = np.asarray(action.detach().cpu(), np.float64)
            new[TransitionKey.ACTION] = torch.from_numpy(
                native if is_unified else self._encode(native, canonical)
            )
        for key in views:
            del observation[key]
        observation[CANVAS_KEY] = torch.from_numpy(self._canvases(views, guards))
        observation[STATE] = torch.from_numpy(canonical)
        new[TransitionKey.OBSERVATION] = observation
        return new

    def get_config(self) -> dict[str, Any]:
        """The contract, for `policy_preprocessor.json`."""
        return {"policy": self.policy, "card": self.card, "statistics": self.statistics}

    def transform_features(
        self, features: dict[PipelineFeatureType, dict[str, PolicyFeature]]
    ) -> dict[PipelineFeatureType, dict[str, PolicyFeature]]:
        """Unchanged: what a dataset should hold is what the robot gives."""
        return features

    def _canvases(self, views: dict[str, np.ndarray], guards: list[Guard]) -> np.ndarray:
        rows = []
        for row, guard in enumerate(guards):
            if CANVAS_KEY in views:
                rows.append(guard.fit(views[CANVAS_KEY][row]))
                continue
            frames = next(iter(views.values())).shape[1] if views else 1
            rows.append(
                np.stack([guard.canvas(self._pictures(views, row, f)) for f in range(frames)])
            )
        return np.stack(rows)

    def _pictures(self, views: dict[str, np.ndarray], row: int, frame: int) -> dict[str, Any]:
        """Pictures by the card's camera names; a lone `observation.image` is the head view."""
        head = next((c.name for c in self._space.card.cameras if c.role == "head"), IMAGE)
        return {head if key == IMAGE else key: value[row, frame] for key, value in views.items()}

    def _encode(self, native: np.ndarray, state: np.ndarray) -> np.ndarray:
        encode = self._space.adapter.encode_action
        return np.stack([encode(rows, now) for rows, now in zip(native, state, strict=True)])


def make_motus_pre_post_processors(
    config: MotusConfig,
    dataset_stats: dict[str, dict[str, Tensor]] | None = None,
) -> Pipelines:
    """The pipelines of a policy that was made in this process.

    Args:
        config: Of that policy, which left card and statistics on it.
        dataset_stats: Not used: statistics of relative actions are the policy's own.
    """
    del dataset_stats
    space: ActionSpace | None = getattr(config, "space", None)
    if space is None:
        raise DataError(
            "the processors need a policy first",
            hint="make_policy with a dataset, or load processors from a policy's folder",
        )
    documents = lerobot_processors(config.bundle().to_dict(), space.card, space.to_dict())
    before, after = documents.values()
    for document in (before, after):
        for step in document["steps"]:
            if step["registry_name"] == "device_processor" and document is before:
                step["config"]["device"] = config.device
    return (
        PolicyProcessorPipeline.from_config(before),
        PolicyProcessorPipeline.from_config(
            after,
            to_transition=policy_action_to_transition,
            to_output=transition_to_policy_action,
        ),
    )


def _pixels(value: Tensor) -> np.ndarray:
    """LeRobot's pictures [b, (f,) 3, h, w] in [0, 1] as uint8 [b, f, h, w, 3]."""
    pictures = value if value.dim() == 5 else value[:, None]
    if pictures.is_floating_point():
        pictures = (pictures * 255).round().clamp(0, 255).to(torch.uint8)
    return pictures.permute(0, 1, 3, 4, 2).cpu().numpy()
