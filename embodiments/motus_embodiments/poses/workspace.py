"""What a robot reaches without colliding and in sight of its head camera: found once."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from motus_embodiments.errors import DataError
from motus_embodiments.kinematics import Kinematics, base_pose, gripper_column
from motus_embodiments.physics import mujoco
from motus_embodiments.poses.camera_axes import camera_body, camera_pose, place
from motus_embodiments.poses.collisions import Collisions, Pairs
from motus_embodiments.poses.coverage import Grid
from motus_embodiments.poses.paths import PEAK, seconds
from motus_embodiments.schema import Arm, Camera, Card

MARGIN = 0.02  # of each joint's range, kept free at both ends
EDGE = 0.95  # of the half picture, within which an end-effector counts as seen
SCOUTS = 60_000  # random poses that look for cells
_TRIES = 8  # poses that may collide before a cell counts as out of reach
_SETTLERS = 256  # poses that find the pairs of geoms that always touch
_PAIRS = 200  # random moves that are timed


@dataclass(frozen=True, eq=False)
class Survey:
    """What a robot reaches; the same in any process.

    Attributes:
        always: Pairs of geoms that touch in every pose.
        grids: The reachable cells of each arm.
        decks: For each arm, its cells in two shuffled orders.
        move_seconds: Time of a mean move between random poses at the speed limits.
    """

    always: Pairs
    grids: tuple[Grid, ...]
    decks: tuple[Int[ndarray, "2 c"], ...]
    move_seconds: float


class HeadView:
    """Whether the head camera sees a point; one that an arm's own joints move bounds nothing."""

    def __init__(self, kinematics: Kinematics) -> None:
        model, data, card = kinematics.model, kinematics.data, kinematics.card
        assert model is not None
        assert data is not None
        place(model, data, kinematics.qpos(np.array([card.home()]))[0])
        heads = (c for c in card.cameras if c.role == "head" and not _rides(model, c, card))
        self.camera = next(heads, None)
        self._pose = None if self.camera is None else camera_pose(model, data, self.camera)
        bases = [base_pose(data, frame) for frame in kinematics.frames]
        self._bases = [(axes.copy(), position.copy()) for axes, position in bases]

    def sees(self, points: Float[ndarray, "s 3"], arm: int) -> Bool[ndarray, " s"]:
        """Which points, in the base frame of an arm, lie in a square picture; all without one."""
        if self._pose is None:
            return np.ones(len(points), bool)
        (base_axes, base), (camera, axes, half) = self._bases[arm], self._pose
        seen = (points @ base_axes.T + base - camera) @ axes
        depth = -seen[:, 2]  # a camera looks along its -z
        inside = np.abs(seen[:, :2]) <= EDGE * half * depth[:, None]
        return (depth > 0) & inside.all(axis=1)


def _rides(model: mujoco.MjModel, camera: Camera, card: Card) -> bool:
    """Whether joints of an arm move a camera, so that it looks elsewhere in each pose."""
    own = {joint.name for arm in card.arms for joint in arm.joints}
    joints = range(model.njnt)
    moved = {int(model.jnt_bodyid[j]) for j in joints if model.joint(j).name in own}
    body = camera_body(model, camera)
    while body > 0 and body not in moved:
        body = int(model.body_parentid[body])
    return body > 0


def with_margin(kinematics: Kinematics) -> None:
    """Narrow the limits that inverse kinematics keeps to by the margin."""
    kinematics.frames = tuple(
        frame._replace(low=low, high=high)
        for frame in kinematics.frames
        for low, high in [_inner(frame.low, frame.high)]
    )


def random_states(
    kinematics: Kinematics, rng: np.random.Generator, count: int
) -> Float[ndarray, "s n"]:
    """Canonical states with every arm's joints and gripper drawn evenly, the rest at home."""
    card = kinematics.card
    states = np.tile(card.home(), (count, 1))
    for arm, frame in zip(card.arms, kinematics.frames, strict=True):
        states[:, frame.columns] = rng.uniform(frame.low, frame.high, (count, len(frame.low)))
        if arm.gripper:
            states[:, gripper_column(card, arm)] = rng.uniform(size=count)
    return states


def survey(
    kinematics: Kinematics,
    view: HeadView,
    speed: Float[ndarray, " n"],
    rng: np.random.Generator,
    scouts: Float[ndarray, "s n"] | None = None,
) -> Survey:
    """Look for the cells that random poses reach in sight and without colliding.

    Args:
        kinematics: Of the card.
        view: The head camera's.
        speed: Speed limit of each channel of a state.
        rng: Draws and shuffles.
        scouts: The poses; drawn evenly within the joints' limits where left out.

    Raises:
        DataError: An arm reaches none.
    """
    if scouts is None:
        scouts = random_states(kinematics, rng, SCOUTS)
    collisions = Collisions(kinematics, scouts[:_SETTLERS])
    points = kinematics.poses(scouts)[:, :, :3, 3]
    boxes = [_box(arm) for arm in kinematics.card.arms]
    rough = [Grid(points[:, a], *box) for a, box in enumerate(boxes)]
    cells = np.stack([grid.cells(points[:, a]) for a, grid in enumerate(rough)], axis=1)
    for a in range(len(rough)):
        cells[~view.sees(points[:, a], a), a] = -1
    free = np.array(list(_free(cells, scouts, collisions)), int)
    grids = []
    for a, arm in enumerate(kinematics.card.arms):
        reached = free[cells[free, a] >= 0] if len(free) else free
        if not len(reached):
            raise _out_of_reach(kinematics.card, arm, view.camera, bool((cells[:, a] >= 0).any()))
        grids.append(Grid(points[reached, a], rough[a].low, rough[a].high))
    moves = scouts[rng.choice(free, (_PAIRS, 2))]
    return Survey(
        always=collisions.always,
        grids=tuple(grids),
        decks=tuple(np.stack([rng.permutation(len(g)) for _ in range(2)]) for g in grids),
        move_seconds=PEAK * float(np.mean([seconds(a, b, speed) for a, b in moves])),
    )


def _free(
    cells: Int[ndarray, "s arms"], scouts: Float[ndarray, "s n"], collisions: Collisions
) -> Iterator[int]:
    """Scouts that are free, looked at only as long as one of their cells is in doubt."""
    settled: list[set[int]] = [{-1} for _ in range(cells.shape[1])]
    failures: dict[tuple[int, int], int] = {}
    for s, row in enumerate(cells.tolist()):
        doubt = [(a, cell) for a, cell in enumerate(row) if cell not in settled[a]]
        if not doubt:
            continue
        free = collisions.reason(scouts[s : s + 1]) is None
        for a, cell in doubt:
            failures[a, cell] = failures.get((a, cell), 0) + 1
            if free or failures[a, cell] >= _TRIES:
                settled[a].add(cell)
        if free:
            yield s


def _box(arm: Arm) -> tuple[Float[ndarray, " 3"], Float[ndarray, " 3"]] | tuple[None, None]:
    box = arm.workspace
    return (None, None) if box is None else (np.array(box.low), np.array(box.high))


def _inner(
    low: Float[ndarray, " j"], high: Float[ndarray, " j"]
) -> tuple[Float[ndarray, " j"], Float[ndarray, " j"]]:
    """Limits with the margin kept; a joint without limits gets one turn."""
    low, high = np.where(np.isfinite(low), low, -np.pi), np.where(np.isfinite(high), high, np.pi)
    margin = MARGIN * (high - low)
    return low + margin, high - margin


def _out_of_reach(card: Card, arm: Arm, camera: Camera | None, collides: bool) -> DataError:
    if collides:
        return DataError(
            f"the {arm.side} arm of '{card.name}' collides wherever it was put",
            hint="look at what stands around the robot in its model, and at its limits",
        )
    seen = f" in sight of the camera '{camera.name}'" if camera else ""
    return DataError(
        f"the {arm.side} arm of '{card.name}' never reaches its workspace{seen}",
        hint="workspace is in the arm's base frame, in m; a camera's mount looks along its -z",
    )
