"""Who can drive a robot through an episode: a policy, and the baselines it is held against."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from motus_adapters import BundleConfig, Observation, Policy, Simulator, UnifiedDataset
from motus_embodiments import ActionAdapter, DataError, MismatchError, UsageError, load_card
from motus_recipes.data.mixture import seeds
from motus_recipes.evaluation.lerobot_driver import WEIGHTS, LeRobotDriver
from motus_recipes.evaluation.sheet import Sheet, measure, subgoals_of

EXPERT, RANDOM, REPLAY, LEROBOT = "expert", "random", "replay:", "lerobot:"
UNLIMITED = 1.0  # canonical; how far random goes on a channel without limits
NOTHING = Observation({}, np.zeros(0, np.float32))
Film = UInt8[np.ndarray, "t h w 3"]


@dataclass(frozen=True)
class Episode:
    """One episode of an evaluation.

    Attributes:
        seed: Where it started from.
        success: Whether the task was solved.
        steps: Control steps until then, or until the horizon; 0 when it crashed.
        reached: The sheet's sub-goals that were reached on the way, the first one first.
        clipped: Action numbers that were cut to the card's limits.
        slowed: Action numbers that were cut to a joint's speed.
        crash: What went wrong, when it could not be carried out; it counts as a failure.
    """

    seed: int
    success: bool
    steps: int
    reached: tuple[str, ...] = ()
    clipped: int = 0
    slowed: int = 0
    crash: str | None = None


@dataclass(frozen=True)
class Solving:
    """How a policy makes its actions, which is no part of its weights.

    Attributes:
        mode: That it solves.
        steps: Of denoising.
        execute: Rows of a chunk that are carried out.
    """

    mode: str
    steps: int
    execute: int

    @staticmethod
    def of(config: BundleConfig) -> "Solving":
        """As a bundle says it."""
        return Solving(config.mode, config.steps, config.execute)


class Driver(Protocol):
    """Anything that can drive a robot through an episode.

    Attributes:
        looks: Whether it wants to see anything; what nobody looks at is not drawn.
    """

    looks: bool

    @property
    def contract(self) -> str | None:
        """What gives its numbers their meaning, as a digest; None for a baseline."""
        ...

    def reset(self, seed: int) -> None:
        """Begin an episode."""

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """What to do next, one row per control step, to be carried out before asking again."""


class PolicyDriver:
    """A bundle: a few rows of each chunk are carried out, then it is asked again.

    Args:
        policy: What is asked.
        instruction: Said in place of the simulator's own words.
    """

    looks = True

    def __init__(self, policy: Policy, instruction: str | None = None) -> None:
        self.policy, self.instruction = policy, instruction
        self.contract = policy.digest
        self._seed = self._asked = 0

    def reset(self, seed: int) -> None:
        """Begin an episode; its noise follows from the seed."""
        self._seed, self._asked = seed, 0
        self.policy.reset()

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """The first rows of a new chunk."""
        (seed,) = seeds((self._seed, self._asked), 1)
        self._asked += 1
        chunk = self.policy.act(
            observation.images,
            observation.state,
            self.instruction or simulator.instruction,
            seed=seed,
            rate=simulator.rate,
        )
        return chunk[: self.policy.config.execute]


class ExpertDriver:
    """The simulator's own scripted expert."""

    contract = None
    looks = False

    def reset(self, seed: int) -> None:
        """Nothing to begin."""
        del seed

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """The expert's next command."""
        del observation
        return simulator.expert()[None]


class RandomDriver:
    """Uniform over what the card allows, drawn anew each step: what luck alone would reach."""

    contract = None
    looks = True  # at the state, from which relative actions are counted

    def __init__(self, card: str) -> None:
        self._adapter = ActionAdapter(load_card(card))
        limits = [(c.low, c.high) for c in self._adapter.card.action_channels]
        self._limits = np.where(np.isfinite(limits), limits, (-UNLIMITED, UNLIMITED)).T

    def reset(self, seed: int) -> None:
        """Begin an episode; its actions follow from the seed."""
        self._generator = np.random.default_rng(seed)

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """One command, whatever is seen."""
        del simulator
        canonical = self._generator.uniform(*self._limits)[None]
        state = self._adapter.encode_state(observation.state)
        return self._adapter.decode_action(canonical, state).astype(np.float32)


class ReplayDriver:
    """The actions of a recorded episode, whatever is seen; then the last of them.

    Where the task starts from random places, this is what remembering without looking would reach.
    """

    contract = None
    looks = False

    def __init__(self, dataset: UnifiedDataset) -> None:
        self._dataset = dataset
        self._adapter = ActionAdapter(dataset.meta.card)

    def reset(self, seed: int) -> None:
        """Begin the recorded episode whose number is the seed's rest."""
        arrays = self._dataset.arrays(seed % len(self._dataset.episodes))
        self._actions = self._adapter.decode_action(arrays["action"], arrays.get("state"))
        self._next = 0

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """The next recorded command."""
        del simulator, observation
        row = min(self._next, len(self._actions) - 1)
        self._next += 1
        return self._actions[row : row + 1]


class Stopwatch:
    """A driver that notes how long each of another's answers takes, in ms."""

    def __init__(self, driver: Driver) -> None:
        self.driver, self.contract, self.looks = driver, driver.contract, driver.looks
        self.times: list[float] = []

    def reset(self, seed: int) -> None:
        """Begin an episode; nothing was noted yet."""
        self.times = []
        self.driver.reset(seed)

    def actions(self, simulator: Simulator, observation: Observation) -> Float[np.ndarray, "t a"]:
        """What the other one says."""
        started = time.perf_counter()
        rows = self.driver.actions(simulator, observation)
        self.times.append(1000 * (time.perf_counter() - started))
        return rows


def run_episode(
    simulator: Simulator,
    driver: Driver,
    seed: int,
    sheet: Sheet | None = None,
    *,
    filmed: bool = False,
) -> tuple[Episode, Film | None]:
    """Drive one episode until it is solved or its time is over; a sheet has its sub-goals."""
    driver.reset(seed)  # first, so that its counts are of this episode also if the simulator dies
    simulator.reset(seed)
    ahead = list(subgoals_of(sheet, simulator))
    reached = []
    frames = []
    steps = 0
    while steps < simulator.max_steps and not simulator.success:
        seen = simulator.observe() if driver.looks else NOTHING
        for action in driver.actions(simulator, seen):
            simulator.step(action)
            steps += 1
            if ahead:
                measured = measure(simulator)
                now = [goal for goal in ahead if goal.holds(measured)]
                reached += [goal.name for goal in now]
                ahead = [goal for goal in ahead if goal not in now]
            if filmed:
                frames.append(next(iter(simulator.observe().images.values())).copy())
            if simulator.success or steps == simulator.max_steps:
                break
    episode = Episode(seed, simulator.success, steps, tuple(reached))
    return episode, np.stack(frames) if frames else None


def driven_by(driver: Driver) -> tuple[str | None, Solving | None]:
    """SHA-256 of the weights that a driver loaded, and how it solves; None for a baseline."""
    if isinstance(driver, PolicyDriver):
        return driver.policy.weights_hash, Solving.of(driver.policy.config)
    return (driver.weights if isinstance(driver, LeRobotDriver) else None), None


def make_driver(
    policy: str, simulator: Simulator, device: str, instruction: str | None = None
) -> Driver:
    """A driver by name, or of the folder of a policy.

    Raises:
        UsageError: The folder is LeRobot's, and was not named so.
        MismatchError: It is for another robot than the simulator's, or another control rate.
        DataError: There is no such dataset or policy, or no action in the dataset.
    """
    if policy == EXPERT:
        return ExpertDriver()
    if policy == RANDOM:
        return RandomDriver(simulator.card)
    if policy.startswith(REPLAY):
        dataset = UnifiedDataset(Path(policy.removeprefix(REPLAY)))
        _check_robot(policy, dataset.meta.card.name, simulator)
        if not np.isclose(dataset.meta.rate, simulator.rate, rtol=0.01):
            raise MismatchError(
                f"{dataset.path} was recorded at {dataset.meta.rate:g} Hz, "
                f"{simulator.name} runs at {simulator.rate:g} Hz"
            )
        if "action" not in dataset.arrays(0):
            raise DataError(f"{dataset.path} has no actions to replay", where=str(dataset.path))
        return ReplayDriver(dataset)
    if policy.startswith(LEROBOT):
        return LeRobotDriver(Path(policy.removeprefix(LEROBOT)), simulator, device, instruction)
    if (Path(policy) / WEIGHTS).is_file():
        raise UsageError(f"{policy} is a policy of LeRobot's", hint=f"name it {LEROBOT}{policy}")
    loaded = Policy.load(policy, device)
    _check_robot(policy, loaded.card.name, simulator)
    return PolicyDriver(loaded, instruction)


def _check_robot(policy: str, card: str, simulator: Simulator) -> None:
    if card != simulator.card:
        raise MismatchError(
            f"the policy {policy} is for '{card}', {simulator.name} has a '{simulator.card}'",
            hint="evaluate it in a simulator of its own robot",
        )
