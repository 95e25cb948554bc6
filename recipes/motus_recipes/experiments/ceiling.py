"""What limits a code of flow? Twists read from the flow of rendered robots, a factor at a time.

    python -m motus_recipes.experiments.ceiling --page docs/results/latent-limits.md

Every row of the table differs from the first one in one thing: how flow is had, what of it is
shown, how long a step is, along which axes twists are told, how many trajectories there are to
learn from. Three read: a linear probe of 14 principal components, as much as a code of that width
is sure to keep; the same of the shipped codec's latent; and a network that is shown every label,
what a code could reach at all. A run that was stopped goes on where it was.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from motus_adapters import FLOW_BOXES, SHIPPED, chain_runs, write_json
from motus_embodiments import MismatchError, head_axes
from motus_model import LatentActionCodec, load_codec
from motus_recipes.experiments.ending import exit_code
from motus_recipes.experiments.films import SPANS, WIDTH, Amount, Film
from motus_recipes.experiments.sections import write_part
from motus_recipes.health.baselines import fit_components, supervised
from motus_recipes.health.probes import Steps, linear_probe
from motus_recipes.training.codec_training import ARMS

ROBOTS = ("aloha-wide", "franka")
HELD = 0.25  # share of the trajectories, the last ones, that everything is measured on
SIDES = ("left", "right")
SEEN_AXES = ("right", "up", "depth", "pitch", "yaw", "roll")  # of twists along the head camera's


@dataclass(frozen=True)
class Condition:
    """What one row of the table is measured with.

    Attributes:
        factor: What it is about.
        title: What differs from the first row.
        flow: Name of the flow canvases, see `films`.
        span: Frames of a step; flow from each frame to the next is chained to so many.
        direct: The flow was had over the whole span at once.
        views: Roles whose flow is shown.
        coarse: Cells of twice the side.
        seen: Twists along the axes of the head camera.
        near: The inverse of the depth is shown beside the flow.
        share: Of the training trajectories.
        seeds: Networks that are trained.
    """

    factor: str
    title: str
    flow: str = "dis"
    span: int = 1
    direct: bool = False
    views: tuple[str, ...] = tuple(FLOW_BOXES)
    coarse: bool = False
    seen: bool = False
    near: bool = False
    share: float = 1.0
    seeds: int = 1

    @property
    def key(self) -> str:
        """Name of its file."""
        return f"{self.factor} {self.title}".strip().replace(" ", "-").replace(",", "")


_WRISTS = tuple(role for role in FLOW_BOXES if role != "head")
CONDITIONS = (
    Condition("", "as shipped", seeds=3),
    Condition("estimator", "true flow", "true"),
    Condition("estimator", "dis-fine", "dis-fine"),
    Condition("estimator", "dis, OpenCV's ultrafast", "dis-ultrafast"),
    Condition("pictures", f"{WIDTH // 2} pixels wide", f"dis, {WIDTH // 2}"),
    Condition("pictures", f"{2 * WIDTH} pixels wide", f"dis, {2 * WIDTH}"),
    Condition("canvas", "half as many cells a side", coarse=True),
    Condition("canvas", "twice as many cells a side", "dis, fine cells"),
    Condition("canvas", "twice as many, true flow", "true, fine cells"),
    Condition("views", "head alone", views=("head",)),
    Condition("views", "wrists alone", views=_WRISTS),
    Condition("spacing", "10 Hz, composed", span=3),
    Condition("spacing", "10 Hz, at once", "dis, 3 frames", 3, direct=True),
    Condition("spacing", "5 Hz, composed", span=6),
    Condition("spacing", "5 Hz, at once", "dis, 6 frames", 6, direct=True),
    Condition("spacing", "5 Hz, true flow composed", "true", 6),
    Condition("variety", "a quarter of the trajectories", share=0.25),
    Condition("variety", "half of the trajectories", share=0.5),
    Condition("depth", "flow", seen=True),
    Condition("depth", "flow and true depth", seen=True, near=True),
    Condition("depth", "true flow", "true", seen=True),
    Condition("depth", "true flow and true depth", "true", seen=True, near=True),
)


@dataclass(frozen=True)
class Finding:
    """R2 of each twist number of one robot under one condition.

    Attributes:
        columns: Which of the 14 numbers of `motion`.
        components: By the linear probe of principal components.
        latent: By the linear probe of the codec's latent, None for canvases that it cannot read.
        network: By each of the networks.
        steps: Training and held-out steps.
    """

    columns: tuple[int, ...]
    components: tuple[float, ...]
    latent: tuple[float, ...] | None
    network: tuple[tuple[float, ...], ...]
    steps: tuple[int, int]


class Experiment:
    """Films and findings under one folder."""

    def __init__(self, robots: Sequence[str], amount: Amount, folder: Path) -> None:
        self.robots, self.amount, self.folder = tuple(robots), amount, folder
        self.codec = load_codec(SHIPPED)
        self._found = folder / "findings" / self.codec.hash  # another codec has its own

    def run(self, say: Callable[[str], None]) -> Iterator[str]:
        """Do what is not done yet; yields the robot after each condition.

        Raises:
            MismatchError: The folder holds films of another amount.
        """
        for robot in self.robots:
            self._settle(robot)
            film = Film(robot, self.folder / "films", self.amount)
            for number in film.shoot():
                say(f"{robot}: trajectory {number} is filmed")
            for condition in CONDITIONS:
                file = self._file(robot, condition)
                if not file.is_file():
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_json(file, asdict(measure(film, condition, self.codec)))
                    say(f"{robot}: {condition.factor or 'all'}, {condition.title}")
                    yield robot

    def findings(self) -> dict[str, dict[Condition, Finding]]:
        """What is measured in this folder with the shipped codec, by robot."""
        found: dict[str, dict[Condition, Finding]] = {}
        for robot in sorted(folder.name for folder in self._found.glob("*")):
            for condition in CONDITIONS:
                file = self._file(robot, condition)
                if file.is_file():
                    told = json.loads(file.read_text())
                    found.setdefault(robot, {})[condition] = Finding(**told)
        return found

    def _file(self, robot: str, condition: Condition) -> Path:
        return self._found / robot / f"{condition.key}.json"

    def _settle(self, robot: str) -> None:
        file, settings = self.folder / f"{robot}.json", asdict(self.amount)
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(file, settings)
        elif json.loads(file.read_text()) != settings:
            raise MismatchError(
                f"{self.folder} holds films of '{robot}' of another amount",
                hint="name another folder: --out FOLDER",
                where=str(file),
            )


def measure(film: Film, condition: Condition, codec: LatentActionCodec) -> Finding:
    """What of a robot's twists is read under a condition."""
    flows, motions = shown(film, condition), film.motion(condition.span)
    if condition.seen:
        motions = [_turned(film, motion) for motion in motions]
    border = len(flows) - max(1, round(HELD * len(flows)))
    parts = range(round(border * condition.share)), range(border, len(flows))
    moved = np.concatenate([motions[n] for n in parts[0]]).std(0) > 1e-6
    columns = [arm.start + n for arm in ARMS for n in range(6)]
    columns = [column for column in columns if film.mask[column] and moved[column]]

    def gather(part: range) -> tuple[np.ndarray, Steps]:
        flow = np.concatenate([flows[n] for n in part])
        motion = np.concatenate([motions[n][:, columns] for n in part]).astype(np.float64)
        return flow, Steps(flow, motion, np.repeat(part, [len(flows[n]) for n in part]))

    (flow, train), (held_flow, held) = map(gather, parts)

    def read(encode: Callable[[np.ndarray], np.ndarray]) -> tuple[float, ...]:
        codes = (replace(s, code=encode(s.code).astype(np.float64)) for s in (train, held))
        return tuple(linear_probe(*codes).tolist())

    return Finding(
        columns=tuple(columns),
        components=read(fit_components(flow).read),
        latent=read(codec.encode_flow) if flow.shape[1:] == (2, *codec.config.size) else None,
        network=tuple(
            tuple(supervised(flow, train, held_flow, held, seed).tolist())
            for seed in range(condition.seeds)
        ),
        steps=(len(flow), len(held_flow)),
    )


def shown(film: Film, condition: Condition) -> list[np.ndarray]:
    """What of each trajectory's flow is shown."""
    flows = film.read(condition.flow)
    if condition.span > 1 and not condition.direct:
        flows = [chain_runs(flow, condition.span, film.layout) for flow in flows]
    if condition.coarse:
        flows = [f.reshape(len(f), 2, f.shape[2] // 2, 2, -1, 2).mean((3, 5)) for f in flows]
    for role, (x, y, width, height) in FLOW_BOXES.items():
        if role not in condition.views:
            for flow in flows:
                flow[:, :, y : y + height, x : x + width] = 0
    if condition.near:
        nearness = film.read("nearness")
        # The network brings both to unit size together: so they are to be of one size.
        rows = [np.sqrt(np.mean(np.concatenate(a) ** 2, (0, 1, 3))) for a in (flows, nearness)]
        scale = (rows[0] / rows[1].clip(1e-6))[:, None]
        flows = [np.concatenate([f, n * scale], 1) for f, n in zip(flows, nearness, strict=True)]
    return flows


def _turned(film: Film, motion: np.ndarray) -> np.ndarray:
    """Twists along the axes of the head camera."""
    turns = head_axes(film.card)
    assert turns is not None  # what has no head camera is not filmed
    out = motion.copy()
    for own, turn in zip(film.card.arms, turns, strict=True):
        first = ARMS[SIDES.index(own.side)].start
        for part in (slice(first, first + 3), slice(first + 3, first + 6)):
            out[:, part] = motion[:, part] @ turn.T
    return out


def page(found: Mapping[str, Mapping[Condition, Finding]]) -> str:
    """The tables."""
    steps = {robot: findings[CONDITIONS[0]].steps for robot, findings in found.items()}
    told = ", ".join(f"{robot} {train} and {held}" for robot, (train, held) in steps.items())
    return "\n".join(
        [
            "Random trajectories at 30 Hz, with textures, light and colours drawn anew for each; "
            f"training steps, and those of the last quarter of the trajectories, held out: {told}. "
            "R² of all twist numbers along "
            "the arm's base (translation, rotation): by the linear probe of 14 components, the "
            "same of the shipped codec's latent, by the supervised network. The first row's three "
            "networks differ in their seeds.",
            "",
            *_table(found),
            "",
            "The same numbers along the head camera's axes, mean of the arms:",
            "",
            *_axes(found),
        ]
    )


def _table(found: Mapping[str, Mapping[Condition, Finding]]) -> Iterator[str]:
    heads = " | ".join(f"{robot}: components | latent | network" for robot in found)
    yield f"| factor | | {heads} |"
    yield "|---|---|" + "---|---|---|" * len(found)
    for condition in CONDITIONS:
        own = [findings.get(condition) for findings in found.values()]
        if not condition.seen and any(own):
            cells = " | ".join(" |  | " if f is None else _cells(f) for f in own)
            yield f"| {condition.factor} | {condition.title} | {cells} |"


def _cells(finding: Finding) -> str:
    turns = np.array([column % 7 >= 3 for column in finding.columns])

    def tell(scores: np.ndarray) -> str:
        return f"{scores.mean():.2f} ({scores[~turns].mean():.2f}, {scores[turns].mean():.2f})"

    networks = np.array(finding.network)
    spread = [f"{value:.2f}" for value in networks.mean(1)]
    several = f"; seeds {', '.join(spread)}" if len(spread) > 1 else ""
    latent = "" if finding.latent is None else tell(np.array(finding.latent))
    components = tell(np.array(finding.components))
    return f"{components} | {latent} | {tell(networks.mean(0))}{several}"


def _axes(found: Mapping[str, Mapping[Condition, Finding]]) -> Iterator[str]:
    yield "| robot | shown | read by | " + " | ".join(SEEN_AXES) + " |"
    yield "|---|---|---|" + "---|" * len(SEEN_AXES)
    for robot, findings in found.items():
        for condition, finding in findings.items():
            if not condition.seen:
                continue
            axes = np.array([column % 7 for column in finding.columns])
            for by, scores in (
                ("components", np.array(finding.components)),
                ("network", np.array(finding.network).mean(0)),
            ):
                cells = " | ".join(f"{scores[axes == axis].mean():.2f}" for axis in range(6))
                yield f"| {robot} | {condition.title} | {by} | {cells} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment; the page is written anew after each condition."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("experiments/ceiling"))
    parser.add_argument("--page", type=Path, help="file that gets the tables")
    parser.add_argument("--robot", action="append", help="card; may be repeated")
    parser.add_argument("--trajectories", type=int, default=Amount.trajectories, help="of each")
    parser.add_argument("--frames", type=int, default=Amount.frames, help="of each trajectory")
    given = parser.parse_args(arguments)
    if given.trajectories < 8 or given.frames < 2 * max(SPANS):
        parser.error(f"at least 8 trajectories of {2 * max(SPANS)} frames")
    started = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - started:6.0f} s  {text}\n")

    amount = Amount(given.trajectories, given.frames)
    experiment = Experiment(given.robot or ROBOTS, amount, given.out)

    def work() -> None:
        for _ in experiment.run(say):
            pass
        if given.page is None:
            sys.stdout.write(page(experiment.findings()) + "\n")
        else:
            write_part(given.page, "motus_recipes.experiments.ceiling", page(experiment.findings()))

    return exit_code(work)


if __name__ == "__main__":
    sys.exit(main())
