"""Anchoring data: rendered, collision-free random motion as a dataset of level 4 (AnyPos)."""

import atexit
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from motus_adapters.canvas import layout_for
from motus_adapters.labels import labeler_for
from motus_adapters.manifest import Header, Source, hash_json
from motus_adapters.unified import EpisodeData, write_dataset
from motus_embodiments import (
    ActionAdapter,
    Card,
    Coverage,
    Plan,
    Renderer,
    UsageError,
    card_hash,
    load_card,
    make_sampler,
)

LEVEL = 4
TASK = "random motion"

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class AnchorReport:
    """What `anchor` made.

    Attributes:
        out: The dataset.
        card: Name of the robot.
        episodes: Trajectories in it.
        frames: Frames in it.
        backend: Who sampled the poses.
        note: What the user should know about the choice of backend, or empty.
        moves: Moves that the trajectories are made of.
        rejected: Targets thrown away, by reason.
        checked: Configurations checked for collisions.
        coverage: How evenly each arm's end-effector visits the cells it can reach.
        written: False for a dry run.
    """

    out: Path
    card: str
    episodes: int
    frames: int
    backend: str
    note: str
    moves: int
    rejected: Mapping[str, int]
    checked: int
    coverage: Mapping[str, Coverage]
    written: bool


def anchor(
    card: Card | str,
    out: Path,
    *,
    episodes: int = 20,
    frames: int = 60,
    seed: int = 0,
    size: int = 128,
    workers: int = 1,
    backend: Any = "auto",
    resume: bool = False,
    force: bool = False,
    dry_run: bool = False,
    codec: str | Path | None = None,
    on_progress: Progress | None = None,
) -> AnchorReport:
    """Write anchoring data of a robot: state, the action that leads to the next one, motion.

    The bytes depend on the card, the seed and the sizes, not on the number of workers.

    Args:
        card: The robot, or its name.
        out: Folder of the new dataset.
        episodes: Trajectories.
        frames: Frames of each, at the card's rate.
        seed: Draws the poses.
        size: Width and height of each camera's picture.
        workers: Processes that render; 0 for one a core.
        backend: "auto", "mujoco" or "curobo"; the report says which one it was and why.
        resume: Go on with a half-written dataset.
        force: Replace what is there.
        dry_run: Plan the motion and write nothing.
        codec: Writes latent actions with this codec ("shipped" or a folder); None leaves them out.
        on_progress: Called with (episodes done, episodes in all, note).

    Raises:
        UsageError: Sizes make no sense, or the card cannot be rendered.
        MissingError: The robot model or the backend is not here.
        DataError: No collision-free motion was found, or the disk is full.
    """
    card = load_card(card) if isinstance(card, str) else card
    if episodes < 1 or frames < 2 or size < 16:
        raise UsageError(
            f"{episodes} episodes of {frames} frames at {size} px make no dataset",
            hint="at least 1 episode, 2 frames, 16 px",
        )
    chosen = make_sampler(card, backend, seed)
    layout = layout_for(_view_sizes(card, size))
    # One state more than frames: the last frame has an action, too.
    plans = [chosen.sampler.plan(index, frames + 1, card.rate) for index in range(episodes)]
    summary = chosen.sampler.summarise(plans)
    adapter = ActionAdapter(card)
    header = Header(
        card=card,
        rate=card.rate,
        level=LEVEL,
        source=_source(card, episodes, frames, seed, size, chosen.backend),
        layout=layout,
        motion_mask=tuple(bool(m) for m in adapter.kinematics.motion(plans[0].states)[1]),
        options={"seed": seed, "frames": frames, "size": size, "backend": chosen.backend},
    )
    if not dry_run:
        write_dataset(
            out,
            header,
            [_job(card, adapter, index, plan, size) for index, plan in enumerate(plans)],
            labeler=labeler_for(codec),
            workers=workers or os.cpu_count() or 1,
            resume=resume,
            force=force,
            on_progress=on_progress,
        )
    return AnchorReport(
        out=out,
        card=card.name,
        episodes=episodes,
        frames=episodes * frames,
        backend=chosen.backend,
        note=chosen.note,
        moves=summary.accepted,
        rejected=summary.rejected,
        checked=summary.checked,
        coverage=summary.coverage,
        written=not dry_run,
    )


@dataclass(frozen=True)
class AnchorJob:
    """One planned trajectory, to be rendered in any process."""

    card: Card
    key: str
    state: np.ndarray
    action: np.ndarray
    motion: np.ndarray
    size: int

    def load(self) -> EpisodeData:
        """The episode; its frames are drawn as they are asked for."""
        return EpisodeData(
            frames=self._frames(),
            num_frames=len(self.state),
            state=self.state,
            action=self.action,
            motion=self.motion,
            task=TASK,
            source_name=self.key,
        )

    def _frames(self) -> Iterator[dict[str, np.ndarray]]:
        renderer = _renderer(self.card.model_dump_json(), self.size)
        roles = {camera.name: camera.role for camera in renderer.cameras}
        for state in self.state:
            yield {roles[name]: view for name, view in renderer.render(state).items()}


def _job(card: Card, adapter: ActionAdapter, index: int, plan: Plan, size: int) -> AnchorJob:
    states = plan.states
    return AnchorJob(
        card=card,
        key=f"{card.name}-{index:06d}",
        state=states[:-1],
        action=adapter.command(states[1:]),
        motion=adapter.kinematics.motion(states[:-1])[0],
        size=size,
    )


@lru_cache(maxsize=1)
def _renderer(card: str, size: int) -> Renderer:
    """One renderer a process: loading a robot's meshes takes longer than drawing an episode."""
    renderer = Renderer(Card.model_validate_json(card), size, size)
    atexit.register(renderer.close)
    return renderer


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


def _source(card: Card, episodes: int, frames: int, seed: int, size: int, backend: str) -> Source:
    """What the pictures and numbers come from, so that nothing else decides the bytes."""
    terms = {
        "card": card_hash(card),
        "episodes": episodes,
        "frames": frames,
        "seed": seed,
        "size": size,
        "backend": backend,
        "mujoco": version("mujoco"),
    }
    return Source(format="anchor", name=f"{card.name}, seed {seed}", hash=hash_json(terms))
