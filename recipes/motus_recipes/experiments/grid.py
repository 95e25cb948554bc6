"""The cells of the pretraining experiment, and the order in which they decide something."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product


@dataclass(frozen=True)
class Start:
    """What fine-tuning starts from.

    Attributes:
        title: In the table.
        run: The pretraining run; None for initial weights.
        stage: Folder of the stage in that run.
        changes: `--set` changes of the fine-tuning recipe.
        trains: Whether there is a policy at all; if not, the demonstrations' actions are replayed,
            which needs no eyes and says how lenient the task is.
    """

    title: str
    run: str | None = None
    stage: str = ""
    changes: tuple[str, ...] = ()
    trains: bool = True


ANCHORED, BARE = "anchored", "bare"  # pretraining with anchoring data, and without
STARTS = {
    "none": Start("no pretraining"),
    "stage1": Start("stage 1", ANCHORED, "02-stage1"),
    "stage2": Start("stages 1 and 2", ANCHORED, "03-stage2"),
    "stage2-bare": Start("stages 1 and 2, no anchoring data", BARE, "03-stage2"),
    # Whether it is only the steps: those of stages 1, 2 and 3 together.
    "none-long": Start("no pretraining, 750 steps", changes=("stages.stage3.steps=750",)),
    "replay": Start("no policy, its demonstrations replayed blindly", trains=False),
}


@dataclass(frozen=True, order=True)
class Cell:
    """One fine-tuned policy, driven in one mode."""

    start: str
    demonstrations: int
    seed: int
    mode: str

    @property
    def run(self) -> str:
        """Name of its fine-tuning run, which serves both modes."""
        return f"{self.start}-{self.demonstrations}-{self.seed}"

    @property
    def name(self) -> str:
        """Name of its policy."""
        return f"{self.run}-{self.mode}"


@dataclass(frozen=True)
class Grid:
    """Which cells there are, and how much of everything.

    Attributes:
        starts: Names in `STARTS`.
        counts: Demonstrations to fine-tune on, the deciding number first.
        seeds: Each has demonstrations, an order and noise of its own.
        modes: Those that a policy is driven in, the deciding one first.
        episodes: Evaluated episodes of a cell, a whole number of blocks.
        block: Episodes that are evaluated at once; all cells meet the same ones.
        recorded: Episodes of each arm that is pretrained on.
        anchors: Trajectories of anchoring data.
        anchor_frames: Frames of each.
        pretraining: `--set` changes of the recipe.
        finetuning: Likewise.
    """

    starts: tuple[str, ...] = tuple(STARTS)
    counts: tuple[int, ...] = (10, 5, 20)
    seeds: tuple[int, ...] = (0, 1, 2)
    modes: tuple[str, ...] = ("vla", "joint")
    episodes: int = 100
    block: int = 50
    recorded: int = 40
    anchors: int = 20
    anchor_frames: int = 60
    pretraining: tuple[str, ...] = ()
    finetuning: tuple[str, ...] = ()

    def cells(self) -> Iterator[tuple[Cell, int]]:
        """Cells and blocks of episodes in the order of what they decide.

        First whether pretraining helps at all, at one number of demonstrations; whether more steps
        or no eyes do as well; the other numbers of demonstrations; what anchoring data add; the
        other modes.
        """
        bare = [name for name in self.starts if STARTS[name].run == BARE]
        controls = [n for n in self.starts if STARTS[n].changes or not STARTS[n].trains]
        plain = [name for name in self.starts if name not in (*bare, *controls)]
        first, *rest = self.modes
        groups: list[tuple[Sequence[str], Sequence[int], str]] = [
            (plain, self.counts[:1], first),
            (controls, self.counts[:1], first),
            (plain, self.counts[1:], first),
            (bare, self.counts, first),
            *(([*plain, *bare], self.counts, mode) for mode in rest),
        ]
        blocks = range(self.episodes // self.block)
        for names, counts, mode in groups:
            for count, block, seed, name in product(counts, blocks, self.seeds, names):
                yield Cell(name, count, seed, mode), block
