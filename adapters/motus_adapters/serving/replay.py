"""Recorded actions in place of a policy, so that a robot loop can be tested without a model."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from motus_adapters.serving.actor import Query, Session, describe, example_of
from motus_adapters.unified.reading import UnifiedDataset
from motus_embodiments import ActionAdapter, DataError, UsageError

STEPS, EXECUTE = 16, 8


class ReplayActor:
    """One recorded episode, played from its start to each client that connects.

    Answer number i begins at row i * `execute` of the recording; after its end the last row is
    held. What the client sees is checked against the robot's card, and otherwise not looked at.

    Args:
        dataset: A unified dataset with actions.
        episode: Which one.
        steps: Rows of an answer.
        execute: Rows that a client is told to carry out before it asks again.

    Raises:
        UsageError: For an episode that there isn't.
        DataError: When the dataset has no actions.
    """

    def __init__(
        self, dataset: Path, episode: int = 0, *, steps: int = STEPS, execute: int = EXECUTE
    ) -> None:
        recorded = UnifiedDataset(dataset)
        if not 0 <= episode < len(recorded.episodes):
            raise UsageError(
                f"no episode {episode} in {dataset}",
                hint=f"episodes are 0 to {len(recorded.episodes) - 1}",
            )
        columns = recorded.arrays(episode)
        if "action" not in columns:
            raise DataError(f"{dataset} has no actions to replay", where=str(dataset))
        card = recorded.meta.card
        self._adapter = ActionAdapter(card)
        self._actions = self._adapter.decode_action(columns["action"], columns.get("state"))
        self._steps, self._execute = steps, execute
        self._roles = tuple(recorded.meta.layout.boxes)
        task = recorded.episodes[episode].task
        self.metadata = describe(
            card, rate=recorded.meta.rate, steps=steps, execute=execute, task=task
        ) | {"replay": dataset.name, "episode": episode}
        self.example = example_of(card, {}, task)

    def begin(self) -> Session:
        """From the start of the recording."""
        return _ReplaySession(self._adapter, self._actions, self._roles, self._steps, self._execute)


class _ReplaySession:
    def __init__(
        self,
        adapter: ActionAdapter,
        actions: Float[np.ndarray, "n a"],
        roles: tuple[str, ...],
        steps: int,
        execute: int,
    ) -> None:
        self._adapter, self._actions, self._roles = adapter, actions, roles
        self._ahead, self._execute = np.arange(steps), execute
        self._row = 0
        self.counts: Mapping[str, int] = {}

    def act(self, query: Query) -> Float[np.ndarray, "t a"]:
        card = self._adapter.card
        state = self._adapter.encode_state(query.state)
        self._adapter.check(state[None], "state", "the observation")
        given = {camera.name for name in query.images if (camera := card.camera(name))}
        wanted = [camera.name for camera in card.cameras if camera.role in self._roles]
        missing = [name for name in wanted if name not in given]
        if missing:
            raise DataError(
                f"no picture of the camera '{missing[0]}'",
                hint=f"cameras that were recorded: {', '.join(wanted)}",
            )
        rows = np.minimum(self._row + self._ahead, len(self._actions) - 1)
        self._row += self._execute
        return self._actions[rows]
