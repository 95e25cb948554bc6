"""Where a robot's end-effectors are, by MuJoCo's forward kinematics, and back."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32
from numpy import ndarray

from motus_embodiments.coupling import finger_table
from motus_embodiments.errors import DataError, UsageError
from motus_embodiments.numbers.rotations import to_matrix, to_vector
from motus_embodiments.physics import mujoco
from motus_embodiments.robot_models.finding import find_model, load_card_model
from motus_embodiments.schema import Arm, Card, Joint

MOTION = 14  # per arm 3 translation, 3 rotation, 1 gripper; left first
_PER_ARM = 7
_POSE = 6  # channels of a recorded end-effector pose


class Frame(NamedTuple):
    """One arm in the model: where its joints and its end-effector are."""

    is_site: bool
    id: int  # site or body id of the end-effector
    base: int  # body id, -1 for the world frame
    qpos: Float[ndarray, " j"]  # addresses in qpos
    dof: Float[ndarray, " j"]  # addresses in qvel
    low: Float[ndarray, " j"]
    high: Float[ndarray, " j"]
    columns: slice  # the arm's joints in a canonical state


class Kinematics:
    """Forward and inverse kinematics of a card's robot.

    A robot without a model works where its recordings state end-effector poses; and if each joint
    has an `axis`: then the end-effector's position is those coordinates, and it never turns. Any
    other robot without a model has no poses (`has_poses` is False) and no motion.
    """

    def __init__(self, card: Card) -> None:
        self.card = card
        self.model: mujoco.MjModel | None = None
        self.data: mujoco.MjData | None = None
        self.frames: tuple[Frame, ...] = ()
        self.is_stage = card.model is None and all(_is_stage(arm) for arm in card.arms)
        if card.model is None:
            return
        self.model = load_card_model(card)
        self.data = mujoco.MjData(self.model)
        self._place = _Placement(card, self.model, self.data)
        self.frames = _frames(card, self.model)

    @property
    def has_poses(self) -> bool:
        """Whether end-effector poses can be known."""
        named = all(arm.end_effector for arm in self.card.arms)
        return self.is_stage or self._is_told or (self.model is not None and named)

    @property
    def _is_told(self) -> bool:
        """Whether recorded states hold the poses, and no model knows them better."""
        return self.model is None and all(arm.pose for arm in self.card.arms)

    def qpos(self, state: Float[ndarray, "T n"]) -> Float[ndarray, "T nq"]:
        """Full MuJoCo positions of canonical states; coupled fingers follow the opening."""
        return self._place(_rows(state, len(self.card.state_channels)))

    def poses(self, state: Float[ndarray, "T n"]) -> Float[ndarray, "T arms 4 4"]:
        """End-effector poses in each arm's base frame, from canonical states.

        Raises:
            UsageError: The card has no model to know them from.
        """
        state = _rows(state, len(self.card.state_channels))
        if not self.has_poses:
            raise UsageError(
                f"the card '{self.card.name}' has no robot model, so no end-effector poses",
                hint="name a model and an end_effector in the card, or give an arm whose recorded "
                "states hold them a pose",
            )
        if self.is_stage:
            return self._stage_poses(state)
        if self._is_told:
            return self._told_poses(state)
        return self._model_poses(self._place(state))

    def motion(
        self, state: Float[ndarray, "T n"]
    ) -> tuple[Float32[ndarray, "T 14"], Bool[ndarray, " 14"]]:
        """Motion of each step and the mask of the numbers that exist.

        Row i is the translation (m) and turn (rotation vector, rad) of the end-effector from
        frame i to i+1, both along the axes of the arm's base frame, and the opening at i+1.
        The last row stands still.
        """
        state = _rows(state, len(self.card.state_channels))
        motion = np.zeros((len(state), MOTION), np.float32)
        mask = np.zeros(MOTION, bool)
        poses = self.poses(state) if self.has_poses else None
        for a, arm in enumerate(self.card.arms):
            at = 0 if arm.side == "left" else _PER_ARM
            if poses is not None:
                p, R = poses[:, a, :3, 3], poses[:, a, :3, :3]
                turn = to_vector(R[1:] @ np.swapaxes(R[:-1], -1, -2))
                motion[:-1, at : at + 3] = np.diff(p, axis=0)
                motion[:-1, at + 3 : at + 6] = turn
                mask[at : at + 6] = self._moves(arm)
            if arm.gripper:
                opening = state[:, gripper_column(self.card, arm)]
                motion[:-1, at + 6], motion[-1:, at + 6] = opening[1:], opening[-1:]
                mask[at + 6] = True
        return motion, mask

    def solve_ik(
        self,
        arm: str,
        target: Float[ndarray, "4 4"],
        seed: Float[ndarray, " j"],
        *,
        orientation: bool = True,
        restarts: int = 3,
        rng: np.random.Generator | None = None,
    ) -> Float[ndarray, " j"] | None:
        """Joint positions that bring an end-effector to a pose, or None.

        Damped least squares from `seed`, then from `restarts` random positions.

        Args:
            arm: Side of the arm.
            target: Pose in the arm's base frame; without `orientation` only its place counts.
            seed: Joint positions to start from, in rad or m.
            orientation: Whether the orientation must be met.
            restarts: How many random starts follow `seed`.
            rng: Draws the restarts; the same seed gives the same answer.
        """
        index = next((i for i, a in enumerate(self.card.arms) if a.side == arm), None)
        if index is None or self.data is None or not self.has_poses:
            raise UsageError(f"the card '{self.card.name}' has no {arm} arm with a model")
        frame = self.frames[index]
        rng = rng or np.random.default_rng(0)
        # What was there before would change the answer's last digits.
        self.data.qpos[:] = self._place.rest
        for attempt in range(restarts + 1):
            start = np.asarray(seed, np.float64) if attempt == 0 else _draw(frame, rng)
            found = self._descend(frame, np.asarray(target, np.float64), start, orientation)
            if found is not None:
                return found
        return None

    def _moves(self, arm: Arm) -> Bool[ndarray, " 6"]:
        """Which of the six twist components the arm has."""
        if not self.is_stage:
            return np.ones(6, bool)
        axes = {joint.axis for joint in arm.joints}
        return np.array([axis in axes for axis in "xyz"] + [False] * 3)

    def _stage_poses(self, state: Float[ndarray, "T n"]) -> Float[ndarray, "T arms 4 4"]:
        poses = np.tile(np.eye(4), (len(state), len(self.card.arms), 1, 1))
        at = 0
        for a, arm in enumerate(self.card.arms):
            for j, joint in enumerate(arm.joints):
                poses[:, a, "xyz".index(joint.axis or "x"), 3] += state[:, at + j]
            at += len(arm.joints) + (arm.gripper is not None)
        return poses

    def _told_poses(self, state: Float[ndarray, "T n"]) -> Float[ndarray, "T arms 4 4"]:
        poses = np.tile(np.eye(4), (len(state), len(self.card.arms), 1, 1))
        names = [channel.name for channel in self.card.state_channels]
        for a, arm in enumerate(self.card.arms):
            at = names.index(f"{arm.side}_x")
            poses[:, a, :3, 3] = state[:, at : at + 3]
            poses[:, a, :3, :3] = to_matrix(state[:, at + 3 : at + 6])
        return poses

    def _model_poses(self, qpos: Float[ndarray, "T nq"]) -> Float[ndarray, "T arms 4 4"]:
        assert self.model is not None
        assert self.data is not None
        poses = np.tile(np.eye(4), (len(qpos), len(self.frames), 1, 1))
        model, data = self.model, self.data
        views = [_views(data, frame) for frame in self.frames]
        moving = [a for a, frame in enumerate(self.frames) if _base_moves(model, frame)]
        bases = {a: (np.empty((len(qpos), 3, 3)), np.empty((len(qpos), 1, 3))) for a in moving}
        for t in range(len(qpos)):
            data.qpos[:] = qpos[t]
            mujoco.mj_kinematics(model, data)
            for a, (position, matrix) in enumerate(views):
                poses[t, a, :3, 3] = position
                poses[t, a, :3, :3] = matrix.reshape(3, 3)
            for a, (axes, origin) in bases.items():
                axes[t], origin[t] = base_pose(data, self.frames[a])
        for a, frame in enumerate(self.frames):
            if frame.base >= 0:
                axes, origin = bases.get(a) or base_pose(data, frame)
                poses[:, a, :3, 3] = ((poses[:, a, None, :3, 3] - origin) @ axes)[:, 0]
                poses[:, a, :3, :3] = np.swapaxes(axes, -1, -2) @ poses[:, a, :3, :3]
        return poses

    def _descend(
        self,
        frame: Frame,
        target: Float[ndarray, "4 4"],
        start: Float[ndarray, " j"],
        orientation: bool,
        steps: int = 40,
    ) -> Float[ndarray, " j"] | None:
        """Damped least squares (Wampler 1986): dq = J^T (J J^T + l^2 I)^-1 e, clipped to limits."""
        assert self.model is not None
        assert self.data is not None
        model, data = self.model, self.data
        position, matrix = _views(data, frame)
        jacobian = np.zeros((6, model.nv))
        rows = 6 if orientation else 3
        q = np.clip(start, frame.low, frame.high)
        for _ in range(steps):
            data.qpos[frame.qpos] = q
            mujoco.mj_kinematics(model, data)
            base_R, base_p = base_pose(data, frame)
            R = base_R @ target[:3, :3]
            error = np.empty(6)
            error[:3] = base_R @ target[:3, 3] + base_p - position
            error[3:] = to_vector(R @ matrix.reshape(3, 3).T) if orientation else 0.0
            if np.linalg.norm(error[:3]) < 1e-3 and np.linalg.norm(error[3:]) < 1e-2:  # m, rad
                return q
            mujoco.mj_comPos(model, data)
            if frame.is_site:
                mujoco.mj_jacSite(model, data, jacobian[:3], jacobian[3:], frame.id)
            else:
                mujoco.mj_jacBody(model, data, jacobian[:3], jacobian[3:], frame.id)
            J = jacobian[:rows, frame.dof]
            damping = 1e-4 + 1e-2 * min(1.0, float(error[:rows] @ error[:rows]))
            step = J.T @ np.linalg.solve(J @ J.T + damping * np.eye(rows), error[:rows])
            longest = np.abs(step).max()
            q = np.clip(q + step * min(1.0, 0.5 / max(longest, 1e-9)), frame.low, frame.high)
        return None


class _Placement:
    """Canonical states to qpos: one column or one interpolated table for each model joint."""

    def __init__(self, card: Card, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self.rest = data.qpos.copy()
        self.joints: list[tuple[int, int]] = []
        self.grippers: list[tuple[int, Float[ndarray, " g"], Float[ndarray, "g k"], list[int]]] = []
        column = 0
        for arm in card.arms:
            column = self._add(card, model, arm.joints, column) + _POSE * (arm.pose is not None)
            if arm.gripper:
                if arm.gripper.joints:
                    openings, values, addresses = finger_table(model, arm.gripper)
                    self.grippers.append((column, openings, values, addresses))
                column += 1
        self._add(card, model, card.joints, column)

    def _add(
        self, card: Card, model: mujoco.MjModel, joints: tuple[Joint, ...], column: int
    ) -> int:
        for j, joint in enumerate(joints):
            self.joints.append((joint_address(card, model, joint.name), column + j))
        return column + len(joints)

    def __call__(self, state: Float[ndarray, "T n"]) -> Float[ndarray, "T nq"]:
        qpos = np.tile(self.rest, (len(state), 1))
        for address, column in self.joints:
            qpos[:, address] = state[:, column]
        for column, openings, values, addresses in self.grippers:
            for k, address in enumerate(addresses):
                qpos[:, address] = np.interp(state[:, column], openings, values[:, k])
        return qpos


def gripper_column(card: Card, arm: Arm) -> int:
    """Where the opening of an arm stands in a canonical state."""
    names = [channel.name for channel in card.state_channels]
    return names.index(arm.gripper_name)


def joint_address(card: Card, model: mujoco.MjModel, name: str) -> int:
    """Address in qpos of a joint that the card names.

    Raises:
        DataError: The model has no such joint with one degree of freedom.
    """
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)
    if index < 0 or model.jnt_type[index] in (
        mujoco.mjtJoint.mjJNT_FREE,
        mujoco.mjtJoint.mjJNT_BALL,
    ):
        raise _not_in_model(card, "joint", name, [model.joint(i).name for i in range(model.njnt)])
    return int(model.jnt_qposadr[index])


def _not_in_model(card: Card, what: str, name: str, known: list[str]) -> DataError:
    path = find_model(card)
    return DataError(
        f"the card '{card.name}' names the {what} '{name}', which {path} does not have",
        hint=f"it has: {', '.join(n for n in known if n)}",
        where=str(path),
    )


def _frames(card: Card, model: mujoco.MjModel) -> tuple[Frame, ...]:
    frames, column = [], 0
    for arm in card.arms:
        is_site, index = _end_effector(card, model, arm)
        base = -1
        if arm.base is not None:
            base = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, arm.base)
            if base < 0:
                raise _not_in_model(card, "body", arm.base, _bodies(model))
        qpos = np.array([joint_address(card, model, joint.name) for joint in arm.joints])
        # The model's own access by name takes half a second to set up.
        joints = [mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, j.name) for j in arm.joints]
        dof = model.jnt_dofadr[joints].astype(int)
        low, high = (np.array(x) for x in zip(*(j.limits for j in arm.joints), strict=True))
        columns = slice(column, column + len(arm.joints))
        frames.append(Frame(is_site, index, base, qpos, dof, low, high, columns))
        column = columns.stop + _POSE * (arm.pose is not None) + (arm.gripper is not None)
    return tuple(frames)


def _end_effector(card: Card, model: mujoco.MjModel, arm: Arm) -> tuple[bool, int]:
    if arm.end_effector is None:
        return False, 0
    site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, arm.end_effector)
    if site >= 0:
        return True, site
    body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, arm.end_effector)
    if body < 0:
        sites = [model.site(i).name for i in range(model.nsite)]
        raise _not_in_model(card, "end-effector", arm.end_effector, sites + _bodies(model))
    return False, body


def _bodies(model: mujoco.MjModel) -> list[str]:
    return [model.body(i).name for i in range(1, model.nbody)]


def _views(data: mujoco.MjData, frame: Frame) -> tuple[Float[ndarray, " 3"], Float[ndarray, " 9"]]:
    """Position and orientation of the end-effector, as views that follow the data."""
    if frame.is_site:
        return data.site_xpos[frame.id], data.site_xmat[frame.id]
    return data.xpos[frame.id], data.xmat[frame.id]


def _base_moves(model: mujoco.MjModel, frame: Frame) -> bool:
    """Whether a joint lies between the world and the body that an arm's poses are told in."""
    return frame.base >= 0 and bool(model.body_weldid[frame.base])


def base_pose(
    data: mujoco.MjData, frame: Frame
) -> tuple[Float[ndarray, "3 3"], Float[ndarray, " 3"]]:
    """Axes and position of the body that an arm's poses are told in, in the world."""
    if frame.base < 0:
        return np.eye(3), np.zeros(3)
    return data.xmat[frame.base].reshape(3, 3), data.xpos[frame.base]


def _draw(frame: Frame, rng: np.random.Generator) -> Float[ndarray, " j"]:
    low, high = (np.clip(limit, -np.pi, np.pi) for limit in (frame.low, frame.high))
    return rng.uniform(low, high)


def _is_stage(arm: Arm) -> bool:
    return bool(arm.joints) and all(joint.axis is not None for joint in arm.joints)


def _rows(state: Float[ndarray, "T n"], width: int) -> Float[ndarray, "T n"]:
    state = np.asarray(state, np.float64)
    if state.ndim != 2 or state.shape[1] != width:
        raise DataError(f"states must be [T, {width}], these are {list(state.shape)}")
    return state
