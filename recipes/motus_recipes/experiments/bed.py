"""The bed of an experiment: one task that many arms do, and the datasets of each of them."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from motus_adapters import Simulator, anchor, convert, is_finished, open_simulator, record, scene_of
from motus_embodiments import Card, load_card

HERE = Path(__file__).parent
FIRST_SEED = 10_000  # of the target's demonstrations; far from those of the arms
SCENE = "scene.xml"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """An arm at the task.

    Attributes:
        env: Simulator and task.
        card: Name of its card, or a card's file whose model is the simulator's own scene.
    """

    env: str
    card: str


@dataclass(frozen=True)
class Bed:
    """Arms to learn from, an arm to learn for, and how the task is seen and timed.

    Attributes:
        arms: By the names that the recipe has for their datasets.
        target: The other arm.
        image_size: Width and height of the pictures, pixels.
        horizon: Control steps after which an evaluated episode has failed.
    """

    arms: Mapping[str, Arm]
    target: Arm
    image_size: int = 96
    horizon: int = 80

    def __call__(self, env: str) -> Simulator:
        """Open a simulator for evaluation."""
        simulator = open_simulator(env, self.image_size)
        simulator.max_steps = min(simulator.max_steps, self.horizon)
        return simulator


LIFT = Bed(
    arms={
        name.lower(): Arm(f"robosuite:Lift-{name}", name.lower())
        for name in ("Kinova3", "XArm7", "IIWA", "UR5e")
    },
    target=Arm("robosuite:Lift-Panda", str(HERE / "panda-lift.yaml")),
)


class Data:
    """The datasets of a bed under one folder, each made when it is first asked for."""

    def __init__(self, bed: Bed, folder: Path, say: Say, workers: int = 1) -> None:
        self.bed, self.folder, self.workers = bed, folder, workers
        self._say = say

    def arm(self, name: str, episodes: int) -> Path:
        """Recordings of an arm, level 5, without true twists: of its motion only pictures tell.

        The card's own model may be installed or not; labels must not depend on it.
        """
        arm = self.bed.arms[name]
        card = load_card(arm.card).model_copy(update={"model": None})
        return self._recorded(name, arm, card, episodes, 0, level=5)

    def demonstrations(self, count: int, seed: int) -> Path:
        """Demonstrations of the target, level 6: `count` to train on, and those held out."""
        episodes = count + max(1, round(count / 10))
        first = FIRST_SEED * (1 + seed)
        name = f"target-{count}-{seed}"
        return self._recorded(name, self.bed.target, self.card(), episodes, first, level=6)

    def anchoring(self, episodes: int, frames: int) -> Path:
        """Random motion of the target, level 4, at the rate of its demonstrations."""
        out = self.folder / "data" / "anchoring"
        if not is_finished(out):
            self._say(f"anchoring data: {episodes} trajectories")
            card = self.card()
            anchor(
                card,
                out,
                episodes=episodes,
                frames=frames,
                rate=card.rate,
                size=self.bed.image_size,
                workers=self.workers,
                resume=out.exists(),
            )
        return out

    def card(self) -> Card:
        """The target's card; one with the simulator's scene lies in the folder, beside it."""
        told = self.bed.target.card
        if not told.endswith(".yaml"):
            return load_card(told)
        own = self.folder / "embodiments" / Path(told).name
        if not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            own.with_name(SCENE).write_text(scene_of(self.bed.target.env))
            shutil.copyfile(told, own)
        return load_card(own)

    def _recorded(
        self, name: str, arm: Arm, card: Card, episodes: int, seed: int, *, level: int
    ) -> Path:
        recording, out = self.folder / "recordings" / f"{name}.hdf5", self.folder / "data" / name
        if is_finished(out):
            return out
        if not recording.exists():
            self._say(f"recording {episodes} episodes: {name}")
            record(
                arm.env,
                recording,
                episodes=episodes,
                seed=seed,
                image_size=self.bed.image_size,
                workers=self.workers,
            )
        self._say(f"converting: {name}")
        convert(
            recording,
            out,
            card=card,
            codec=None,
            level=level,
            workers=self.workers,
            allow={"motion"},
            resume=out.exists(),
        )
        return out
