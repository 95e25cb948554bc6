"""What a server serves: anything that says what it is and answers a query with actions."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from motus_adapters.deployment.chunking import Overlap
from motus_embodiments import ActionAdapter, Card

if TYPE_CHECKING:
    from motus_adapters.deployment.policy import Policy

EXAMPLE_SIZE = (64, 64)  # width and height of pictures whose size does not matter


@dataclass(frozen=True)
class Query:
    """One question of a client.

    Attributes:
        images: Camera name (of the card) to RGB picture.
        state: Robot state, native order and units.
        instruction: What to do; empty for the actor's own.
        seed: Of the noise.
        overlap: What is left of the chunk that the robot is carrying out.
        stamps: When each part was captured, in s on the client's clock.
        rate: Control rate of the client's loop, Hz.
    """

    images: Mapping[str, UInt8[np.ndarray, "h w 3"]]
    state: Float[np.ndarray, " s"]
    instruction: str = ""
    seed: int = 0
    overlap: Overlap | None = None
    stamps: Mapping[str, float] | None = None
    rate: float | None = None


class Session(Protocol):
    """One client's share of an actor."""

    @property
    def counts(self) -> Mapping[str, int]:
        """What it met so far and let pass, by kind, as `Counts` names it."""
        ...

    def act(self, query: Query) -> Float[np.ndarray, "t a"]:
        """The next actions, native, one row per control step.

        Raises:
            MotusError: When the query is not one for this robot.
        """
        ...


class Actor(Protocol):
    """A policy, a recording, or a stand-in; it and its sessions run in one thread."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What a client is told on connecting; see `describe`."""
        ...

    @property
    def example(self) -> Query:
        """A query that it can answer, to warm up with."""
        ...

    def begin(self) -> Session:
        """For one client, from its first query to its last."""
        ...


def describe(card: Card, *, rate: float, steps: int, execute: int, task: str) -> dict[str, Any]:
    """The metadata of an actor that drives a card's robot.

    Args:
        card: The robot.
        rate: Rows a second, Hz.
        steps: Rows of an answer.
        execute: Rows to carry out before asking again.
        task: What it is told to do when a client says nothing.
    """
    return {
        "server": "motus",
        "embodiment": card.name,
        "cameras": {camera.name: camera.role for camera in card.cameras},
        "state": list(card.state_order or (c.name for c in card.state_channels)),
        "action": list(card.action_order or (c.name for c in card.action_channels)),
        "rate": float(rate),
        "action_steps": steps,
        "execute": execute,
        "instruction": task,
    }


def example_of(card: Card, sizes: Mapping[str, tuple[int, int]], task: str) -> Query:
    """Black pictures and the robot at rest.

    Args:
        card: The robot.
        sizes: Role of a camera to the width and height of its pictures, where these matter.
        task: What to do.
    """
    images = {}
    for camera in card.cameras:
        width, height = sizes.get(camera.role, EXAMPLE_SIZE)
        images[camera.name] = np.zeros((height, width, 3), np.uint8)
    return Query(images, ActionAdapter(card).decode_state(np.asarray(card.home())), task)


class PolicyActor:
    """A policy bundle."""

    def __init__(self, policy: "Policy") -> None:
        config = policy.config
        self._policy = policy
        self.metadata = describe(
            policy.card,
            rate=config.rate,
            steps=policy.rows,
            execute=config.execute,
            task=config.instruction,
        ) | {
            "mode": config.mode,
            "bundle": policy.digest,
            # real actions cannot guide a policy of latent ones
            "chunking": ["blend"] if policy.decoder else ["guide", "blend"],
        }
        sizes = {role: (box[2], box[3]) for role, box in config.layout.boxes.items()}
        self.example = example_of(policy.card, sizes, config.instruction)

    def begin(self) -> Session:
        """The same network with checks and counts of its own."""
        return _PolicySession(self._policy.twin())


class _PolicySession:
    def __init__(self, policy: "Policy") -> None:
        self._policy = policy

    @property
    def counts(self) -> Mapping[str, int]:
        met = asdict(self._policy.counts)
        del met["calls"]
        return met

    def act(self, query: Query) -> Float[np.ndarray, "t a"]:
        return self._policy.act(
            query.images,
            query.state,
            query.instruction or self._policy.config.instruction,
            query.seed,
            stamps=query.stamps,
            rate=query.rate,
            overlap=query.overlap,
        )
