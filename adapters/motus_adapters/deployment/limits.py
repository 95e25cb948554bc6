"""What a policy may command: the card's limits and joint speeds. What is cut off is counted."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from motus_adapters.exports.runner import limited
from motus_embodiments import Card, DataError

# A command runs ahead of the measured state by what the robot's controller lags behind; ALOHA's
# leaders, for example, are ahead of their followers by about this time.
LAG = 0.1  # s


@dataclass
class Counts:
    """What a policy met since it was loaded or reset.

    Attributes:
        calls: Calls of `act`, or rows of batches.
        clipped: Action numbers cut to the card's limits.
        slowed: Action numbers cut to a joint's speed.
        outside: State numbers far outside the training statistics.
        frozen: Pictures equal to the last ones though the state had moved.
        misfit: Wrist pictures smaller than their place on the canvas, or of another shape.
    """

    calls: int = 0
    clipped: int = 0
    slowed: int = 0
    outside: int = 0
    frozen: int = 0
    misfit: int = 0


class Limits:
    """Cuts canonical action chunks to what the card allows.

    Args:
        card: The robot. Speeds are known of joints only; a gripper's command is a goal that its
            own controller approaches, and end-effector poses have no speed in a card.
        rate: Rows of a chunk a second, Hz.

    Attributes:
        numbers: As `runner.json` has them.
    """

    def __init__(self, card: Card, rate: float) -> None:
        self._card, channels = card.name, card.action_channels
        joints = [joint for arm in card.arms for joint in arm.joints] + list(card.joints)
        speeds = {joint.name: joint.velocity for joint in joints if joint.velocity is not None}
        names = [channel.name for channel in card.state_channels]
        held = [
            (column, names.index(c.name), speeds[c.name])
            for column, c in enumerate(channels)
            if c.kind == "joint" and c.name in speeds
        ]
        stride = np.array([speed for _, _, speed in held]) / rate
        self.numbers = {
            "low": [None if np.isinf(c.low) else float(c.low) for c in channels],
            "high": [None if np.isinf(c.high) else float(c.high) for c in channels],
            "columns": [column for column, _, _ in held],
            "state_columns": [column for _, column, _ in held],
            "first": (stride * (1 + LAG * rate)).tolist(),
            "stride": stride.tolist(),
        }

    def __call__(
        self, actions: Float[np.ndarray, "b t a"], state: Float[np.ndarray, "b s"], counts: Counts
    ) -> Float[np.ndarray, "b t a"]:
        """Actions inside the limits; `counts` grows by what was cut.

        Args:
            actions: Canonical chunks.
            state: Canonical states that they start from.
            counts: Is added to.

        Raises:
            DataError: An action is not finite.
        """
        if not np.isfinite(actions).all():
            raise DataError(
                f"the policy gave actions for '{self._card}' that are not finite",
                hint="stop the robot; its weights are damaged, or its training diverged",
            )
        pairs = [limited(*row, self.numbers) for row in zip(actions, state, strict=True)]
        inside, slow = (np.stack(part) for part in zip(*pairs, strict=True))
        counts.clipped += int((inside != actions).sum())
        counts.slowed += int((slow != inside).sum())
        return slow
