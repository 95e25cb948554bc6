"""Anchoring data: rendered, collision-free random motion as a dataset of level 4 (AnyPos)."""

import atexit
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from motus_adapters.conversion.canvas import Layout, layout_for
from motus_adapters.files import disk_errors, write_json
from motus_adapters.labels import labeler_for
from motus_adapters.unified.manifest import Header, Source, hash_json
from motus_adapters.unified.reading import UnifiedDataset
from motus_adapters.unified.staging import check_dataset_free
from motus_adapters.unified.writing import EpisodeData, write_dataset
from motus_embodiments import (
    ActionAdapter,
    Appearance,
    Backend,
    Card,
    Coverage,
    Plan,
    PoseSampler,
    Renderer,
    Survey,
    Tally,
    UsageError,
    card_hash,
    load_card,
    make_sampler,
)
from motus_embodiments.robot_models.finding import find_model

LEVEL = 4
RATE = 30.0  # Hz, the paper's action rate
TASK = "random motion"
COVERAGE = Path("meta/coverage")  # the same report as .json and as .png

_SAMPLER_VERSION = 2  # raised whenever the same seed would give other motion

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class AnchorReport:
    """What `anchor` made.

    Attributes:
        out: The dataset.
        card: Name of the robot.
        episodes: Trajectories in it.
        frames: Frames in it.
        rate: Frames and actions a second.
        backend: Who sampled the poses.
        note: What the user should know about the choice of backend and the robot, or empty.
        moves: Targets that the trajectories go to.
        replanned: Those of them that a straight move could not reach.
        rejected: Targets thrown away, by reason.
        reject_rate: Share of the targets tried that was thrown away.
        checked: Configurations checked for collisions.
        coverage: How evenly each arm's end-effector visits the cells it can reach.
        picture: The same as a picture, None for a dry run.
    """

    out: Path
    card: str
    episodes: int
    frames: int
    rate: float
    backend: str
    note: str
    moves: int
    replanned: int
    rejected: Mapping[str, int]
    reject_rate: float
    checked: int
    coverage: Mapping[str, Coverage]
    picture: Path | None


def anchor(
    card: Card | str,
    out: Path,
    *,
    episodes: int = 20,
    frames: int = 60,
    rate: float = RATE,
    seed: int = 0,
    size: int = 128,
    workers: int = 1,
    backend: Backend = "auto",
    appearance: Appearance | None = None,
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    codec: str | Path | None = None,
    on_progress: Progress | None = None,
    on_note: Callable[[str], None] | None = None,
) -> AnchorReport:
    """Write anchoring data of a robot: state, the action that leads to the next one, motion.

    Each episode is planned and rendered by the process that writes it. The bytes depend on the
    card, the seed and the sizes, not on the number of workers nor on how often a run was killed.

    Args:
        card: The robot, or its name.
        out: Folder of the new dataset.
        episodes: Trajectories.
        frames: Frames of each.
        rate: Frames and actions a second.
        seed: Draws the poses.
        size: Width and height of each camera's picture.
        workers: Processes that plan and render; 0 for one a core.
        backend: "auto", "mujoco" or "curobo"; the report says which one it was and why.
        appearance: Draws texture, light and colours anew for each trajectory; the motion stays
            that of the seed. None draws what the model has.
        resume: Go on with a half-written dataset.
        force: Replace what is there.
        dry_run: Plan the motion and write nothing.
        codec: Writes latent actions with this codec ("shipped" or a folder); None leaves them out.
        on_progress: Called with (episodes done, episodes in all, note).
        on_note: Told at once about a fall-back to another backend, and what is assumed.

    Raises:
        UsageError: Sizes make no sense, or the card cannot be rendered.
        MissingError: The robot model or the backend is not here.
        DataError: No collision-free motion was found, or the disk is full.
    """
    card = load_card(card) if isinstance(card, str) else card
    if episodes < 1 or frames < 2 or size < 16 or not 0 < rate < math.inf:
        raise UsageError(
            f"{episodes} episodes of {frames} frames at {rate:g} Hz and {size} px make no dataset",
            hint="at least 1 episode, 2 frames, 16 px; the rate above 0",
        )
    find_model(card)  # a robot without one has no use for cameras
    layout = layout_for(_view_sizes(card, size))
    if not dry_run:
        check_dataset_free(out, resume=resume, force=force)
    chosen = make_sampler(card, backend, seed)
    if on_note is not None and chosen.note:
        on_note(chosen.note)
    appearance = appearance or Appearance()
    scene = _Scene(
        card, seed, rate, size, frames, chosen.backend, chosen.sampler.survey, appearance
    )
    plans: Iterable[Plan]
    if dry_run:
        plans = _planned(chosen.sampler, episodes, frames, rate, on_progress)
    else:
        # Whatever cannot be drawn is told before anything is written.
        Renderer(card, size, size, chosen.sampler.kinematics, appearance).close()
        write_dataset(
            out,
            _header(scene, episodes, layout, chosen.sampler),
            [AnchorJob(scene, index) for index in range(episodes)],
            labeler=labeler_for(codec),
            workers=workers or len(os.sched_getaffinity(0)),
            resume=resume,
            force=force,
            on_progress=on_progress,
        )
        plans = _written(UnifiedDataset(out))
    tally = chosen.sampler.tally()
    for plan in plans:
        tally.add(plan)
    summary = tally.report()
    return AnchorReport(
        out=out,
        card=card.name,
        episodes=episodes,
        frames=episodes * frames,
        rate=rate,
        backend=chosen.backend,
        note=chosen.note,
        moves=summary.accepted,
        replanned=summary.replanned,
        rejected=summary.rejected,
        reject_rate=summary.reject_rate,
        checked=summary.checked,
        coverage=summary.coverage,
        picture=None if dry_run else _write_report(out, tally),
    )


@dataclass(frozen=True)
class _Scene:
    """What the episodes of a dataset have in common."""

    card: Card
    seed: int
    rate: float
    size: int
    frames: int
    backend: Backend
    survey: Survey
    appearance: Appearance


@dataclass(frozen=True)
class AnchorJob:
    """One trajectory, to be planned and rendered in any process."""

    scene: _Scene
    index: int

    @property
    def key(self) -> str:
        """Name of the episode."""
        return f"{self.scene.card.name}-{self.index:06d}"

    def load(self) -> EpisodeData:
        """The episode; its frames are drawn as they are asked for."""
        studio, card, count = _studio(self.scene), self.scene.card, self.scene.frames
        # One state more than frames: the last frame has an action, too.
        plan = studio.sampler.plan(self.index, count + 1, self.scene.rate)
        states = plan.states
        return EpisodeData(
            frames=studio.film(self.index, states[:-1]),
            num_frames=count,
            state=states[:-1],
            action=studio.adapter.command(states[1:]) if card.action_channels else None,
            motion=studio.adapter.kinematics.motion(states)[0][:-1],
            task=TASK,
            source_name=self.key,
            notes=plan.counts,
        )


class _Studio:
    """What a process needs to plan and draw a robot, loaded once."""

    def __init__(self, scene: _Scene) -> None:
        card = scene.card
        self.sampler = make_sampler(card, scene.backend, scene.seed, scene.survey).sampler
        self.adapter = ActionAdapter(card)
        self.adapter.kinematics = self.sampler.kinematics
        self._renderer = Renderer(
            card, scene.size, scene.size, self.sampler.kinematics, scene.appearance
        )
        self._roles: dict[str, str] = {c.name: c.role for c in self._renderer.cameras}
        atexit.register(self._renderer.close)

    def film(self, index: int, states: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
        """Role -> picture, for each state of trajectory `index`."""
        self._renderer.dress(index)
        for state in states:
            views = self._renderer.render(state)
            yield {self._roles[name]: view for name, view in views.items()}

    def close(self) -> None:
        """Give the drawing context back."""
        atexit.unregister(self._renderer.close)
        self._renderer.close()


_studios: dict[str, _Studio] = {}  # of this process, at most one


def _studio(scene: _Scene) -> _Studio:
    """The studio of a scene; loading a robot's meshes takes longer than drawing an episode."""
    card = scene.card.model_dump_json()
    key = f"{scene.seed} {scene.size} {scene.backend} {scene.appearance} {card}"
    if key not in _studios:
        while _studios:
            _studios.popitem()[1].close()
        _studios[key] = _Studio(scene)
    return _studios[key]


def _planned(
    sampler: PoseSampler, episodes: int, frames: int, rate: float, on_progress: Progress | None
) -> Iterator[Plan]:
    for index in range(episodes):
        plan = sampler.plan(index, frames + 1, rate)
        yield Plan(plan.states[:-1], plan.counts)
        if on_progress is not None:
            on_progress(index + 1, episodes, "")


def _written(dataset: UnifiedDataset) -> Iterator[Plan]:
    for episode in dataset.episodes:
        yield Plan(dataset.arrays(episode.index)["state"], episode.notes)


def _write_report(out: Path, tally: Tally) -> Path:
    picture = (out / COVERAGE).with_suffix(".png")
    with disk_errors(out):
        tally.draw(picture)
        write_json(picture.with_suffix(".json"), asdict(tally.report()))
    return picture


def _view_sizes(card: Card, size: int) -> dict[str, tuple[int, int]]:
    """Role -> (height, width) of the cameras that can be rendered."""
    drawn = [camera for camera in card.cameras if camera.model_camera or camera.mount]
    sizes: dict[str, tuple[int, int]] = {camera.role: (size, size) for camera in drawn}
    if "head" not in sizes:
        raise UsageError(
            f"no camera of '{card.name}' with the role head can be rendered",
            hint="give it a model_camera or a mount in the card",
        )
    return sizes


def _header(scene: _Scene, episodes: int, layout: Layout, sampler: PoseSampler) -> Header:
    home = np.array([scene.card.home()])
    _, mask = sampler.kinematics.motion(home)
    terms: dict[str, Any] = {
        name: getattr(scene, name) for name in ("seed", "frames", "size", "backend")
    }
    if str(scene.appearance):
        terms["appearance"] = str(scene.appearance)
    # What the pictures and numbers come from, so that nothing else decides the bytes.
    decisive = {
        **terms,
        "card": card_hash(scene.card),
        "episodes": episodes,
        "rate": scene.rate,
        "sampler": _SAMPLER_VERSION,
        "mujoco": version("mujoco"),
    }
    return Header(
        card=scene.card,
        rate=scene.rate,
        level=LEVEL,
        source=Source("anchor", f"{scene.card.name}, seed {scene.seed}", hash_json(decisive)),
        layout=layout,
        has_action=bool(scene.card.action_channels),
        motion_mask=tuple(bool(m) for m in mask),
        options=terms,
    )
