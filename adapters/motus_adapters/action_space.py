"""The numbers as the network sees them: relative where the card says so, and normalised."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from motus_embodiments import ActionAdapter, Card, DataError

# A channel that hardly moves in the data must not have its noise blown up to unit size.
SMALLEST_STD = 1e-2
_RANGE = ("min", "q01", "q99", "max")


@dataclass(frozen=True)
class Normalizer:
    """Zero mean and unit spread per channel, and what else the data showed.

    Attributes:
        mean: Subtracted.
        std: Divided by; never below `SMALLEST_STD`.
        range: Rows min, q01, q99 and max, each [c]; None where they were not taken.
    """

    mean: Float[np.ndarray, " c"]
    std: Float[np.ndarray, " c"]
    range: Float[np.ndarray, "4 c"] | None = None

    @staticmethod
    def fit(values: Float[np.ndarray, "... c"]) -> "Normalizer":
        """Statistics over all leading axes."""
        flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
        std = np.maximum(flat.std(axis=0), SMALLEST_STD)
        spread = np.quantile(flat, (0, 0.01, 0.99, 1), axis=0) if len(flat) else None
        return Normalizer(
            flat.mean(axis=0).astype(np.float32),
            std.astype(np.float32),
            None if spread is None else spread.astype(np.float32),
        )

    def normalize(self, values: Float[np.ndarray, "... c"]) -> Float[np.ndarray, "... c"]:
        """Data units to the network's."""
        return ((values - self.mean) / self.std).astype(np.float32)

    def denormalize(self, values: Float[np.ndarray, "... c"]) -> Float[np.ndarray, "... c"]:
        """The network's units to the data's."""
        return values * self.std + self.mean

    def to_dict(self) -> dict[str, list[float]]:
        """As written to `stats.json`."""
        rows = [] if self.range is None else zip(_RANGE, self.range.tolist(), strict=True)
        return {"mean": self.mean.tolist(), "std": self.std.tolist()} | dict(rows)

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> "Normalizer":
        """Read back `to_dict`."""
        spread = [data[name] for name in _RANGE if name in data]
        return Normalizer(
            np.asarray(data["mean"], np.float32),
            np.asarray(data["std"], np.float32),
            np.asarray(spread, np.float32) if len(spread) == len(_RANGE) else None,
        )


def describe_state(
    adapter: ActionAdapter, state: Float[np.ndarray, "n s"]
) -> Float[np.ndarray, "n d"]:
    """Canonical states, and where the end-effectors are if that is what actions are about.

    A network that commands places would otherwise have to learn the arm's kinematics first.
    """
    if not _is_described(adapter.card) or not len(state):
        return state
    poses = adapter.kinematics.poses(state)
    return np.concatenate([state, poses[:, :, :3, 3].reshape(len(state), -1)], axis=1)


def state_width(card: Card) -> int:
    """Numbers of a described state."""
    extra = 3 * len(card.arms) if _is_described(card) else 0
    return len(card.state_channels) + extra


def _is_described(card: Card) -> bool:
    """Whether actions command places that the state does not hold already."""
    commands_places = card.action.representation in ("ee_pose", "ee_position")
    return commands_places and not all(arm.pose for arm in card.arms)


class ActionSpace:
    """Canonical states and actions of one robot to the network's numbers and back.

    Args:
        card: The robot.
        state: Statistics of its canonical states.
        action: Statistics of its action chunks, relative where the card says so.

    Raises:
        DataError: When the statistics have other channels than the card.
    """

    def __init__(self, card: Card, state: Normalizer, action: Normalizer) -> None:
        self.card = card
        self.adapter = ActionAdapter(card)
        for what, stats, wanted in (
            ("state", state, state_width(card)),
            ("action", action, len(card.action_channels)),
        ):
            if len(stats.mean) != wanted:
                raise DataError(
                    f"the {what} statistics have {len(stats.mean)} channels, "
                    f"the card '{card.name}' has {wanted}"
                )
        self.state = state
        self.action = action

    def encode_state(self, state: Float[np.ndarray, "b s"]) -> Float[np.ndarray, "b s"]:
        """Canonical states as the network sees them: described, then normalised."""
        return self.state.normalize(describe_state(self.adapter, state))

    def decode_actions(
        self, actions: Float[np.ndarray, "b t a"], state: Float[np.ndarray, "b s"]
    ) -> Float[np.ndarray, "b t a"]:
        """Canonical actions of the network's output at canonical states."""
        return self.adapter.absolute(self.action.denormalize(actions), state)

    def to_dict(self) -> dict[str, Any]:
        """The statistics, for `stats.json`."""
        return {"state": self.state.to_dict(), "action": self.action.to_dict()}

    @staticmethod
    def from_dict(card: Card, data: Mapping[str, Any]) -> "ActionSpace":
        """Read back `to_dict`."""
        return ActionSpace(
            card, Normalizer.from_dict(data["state"]), Normalizer.from_dict(data["action"])
        )
