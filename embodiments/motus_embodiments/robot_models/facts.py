"""What a robot model file states: chains of joints, fingers, limits, home poses, cameras."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from motus_embodiments.coupling import subtree
from motus_embodiments.errors import DataError, UsageError, nearest
from motus_embodiments.physics import mujoco
from motus_embodiments.robot_models.urdf_reader import velocities

_CLEAR = 0.005  # m, a smaller change of the gap between two fingers proves nothing

Ends = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Chain:
    """The joints that move a frame.

    Attributes:
        joints: From base to tip.
        beyond: Joints that hang on the last of them but do not move the frame.
        base: Body that carries the first joint, None for the world.
    """

    joints: tuple[str, ...]
    beyond: tuple[str, ...]
    base: str | None


class ModelFacts:
    """Reads a compiled model; nothing here is a guess."""

    def __init__(self, model: mujoco.MjModel, path: Path) -> None:
        self.path = path
        self._model = model
        self._velocity = velocities(path) if path.suffix.lower() == ".urdf" else {}

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the model's cameras, of those that have one."""
        names = (self._model.camera(i).name for i in range(self._model.ncam))
        return tuple(name for name in names if name)

    def frame_candidates(self) -> list[str]:
        """Sites and end bodies that at least one joint moves, sites first; fingers are none."""
        model = self._model
        sites = [
            model.site(i).name
            for i in range(model.nsite)
            if model.site(i).name and self._is_tool(int(model.site_bodyid[i]))
        ]
        inner = {int(parent) for parent in model.body_parentid[1:]}
        ends = [
            model.body(b).name
            for b in range(1, model.nbody)
            if model.body(b).name and self._is_tool(b) and self._is_end(b, inner)
        ]
        return sites + ends

    def has_frame(self, name: str) -> bool:
        """Whether a site or body has this name."""
        return self._body_of(name) is not None

    def chain(self, frame: str) -> Chain:
        """The joints from the world to a frame.

        Raises:
            UsageError: No joint moves it.
        """
        body = self._body_of(frame)
        joints = self._chain_joints(body) if body is not None else []
        if not joints:
            raise UsageError(
                f"no joint of {self.path.name} moves '{frame}'",
                hint=f"frames that move: {', '.join(self.frame_candidates())}",
            )
        model = self._model
        last = subtree(model, int(model.jnt_bodyid[joints[-1]]))
        beyond = [
            j
            for j in range(model.njnt)
            if int(model.jnt_bodyid[j]) in last and j not in joints and self._is_scalar(j)
        ]
        parent = int(model.body_parentid[int(model.jnt_bodyid[joints[0]])])
        return Chain(
            self._names(joints),
            self._names(beyond),
            model.body(parent).name or None if parent else None,
        )

    def remarks(self, frame: str) -> list[str]:
        """What a user should know of the joints that move a frame, one sentence each.

        Raises:
            DataError: No card can hold one of them as it is.
        """
        model = self._model
        body = self._body_of(frame)
        way = self._way(body) if body is not None else []
        for joint in way:
            self._refuse_unfit(joint)
        bound = {
            int(model.eq_obj1id[e])
            for e in range(model.neq)
            if model.eq_type[e] == mujoco.mjtEq.mjEQ_JOINT
        }
        return [
            f"The joint '{model.joint(j).name}' is coupled in {self.path.name}, but a channel of "
            "its own here: recordings must hold it, and rendered motion moves it freely."
            for j in way
            if j in bound
        ]

    def driven(self, chain: Chain) -> tuple[str, ...]:
        """Joints beyond the wrist that an actuator drives, directly, by a tendon or by coupling.

        Where the file has no actuators (URDF), both of two fingers, or else all that do not mimic
        another one.

        Raises:
            DataError: One of the joints has no name.
        """
        if "" in chain.beyond:
            raise DataError(
                f"a joint of the hand on '{chain.joints[-1]}' has no name, in {self.path}",
                hint="name it there, or name those that are driven: --gripper NAME",
                where=str(self.path),
            )
        model = self._model
        if not model.nu:
            led = {
                int(i)
                for i, kind in zip(model.eq_obj1id, model.eq_type, strict=True)
                if kind == mujoco.mjtEq.mjEQ_JOINT
            }
            leaders = tuple(n for n in chain.beyond if model.joint(n).id not in led)
            return chain.beyond if len(chain.beyond) == 2 else leaders
        actuated = self._actuated()
        for e in range(model.neq):
            if model.eq_type[e] == mujoco.mjtEq.mjEQ_JOINT and model.eq_obj2id[e] >= 0:
                pair = {int(model.eq_obj1id[e]), int(model.eq_obj2id[e])}
                if pair & actuated:
                    actuated |= pair
        names = [name for name in chain.beyond if model.joint(name).id in actuated]
        return tuple(names)

    def limits(self, joint: str) -> tuple[float | None, float | None]:
        """Limits in rad or m, None where the model states none."""
        index = self._model.joint(joint).id
        if not self._model.jnt_limited[index]:
            return None, None
        low, high = map(float, self._model.jnt_range[index])
        return low if math.isfinite(low) else None, high if math.isfinite(high) else None

    def slides(self, joint: str) -> bool:
        """Whether a joint is prismatic."""
        return bool(self._model.joint(joint).type[0] == mujoco.mjtJoint.mjJNT_SLIDE)

    def velocity(self, joint: str) -> float | None:
        """Velocity limit of a URDF in rad/s or m/s; MJCF states none."""
        return self._velocity.get(joint)

    def home(self, key: str | None) -> tuple[dict[str, float], str]:
        """Position of each joint at home, and where that is stated.

        Raises:
            UsageError: There is no such keyframe.
        """
        model = self._model
        keys = [model.key(i).name for i in range(model.nkey)]
        if key is not None and key not in keys:
            raise UsageError(
                f"{self.path.name} has no keyframe '{key}'",
                hint=nearest(key, filter(None, keys)),
            )
        qpos, origin = model.qpos0, "reference positions of the joints, moved within limits"
        wanted = key or ("home" if "home" in keys else None)
        if wanted is not None:
            qpos, origin = model.key_qpos[keys.index(wanted)], f"keyframe '{wanted}'"
        elif len(keys) == 1:
            qpos, origin = model.key_qpos[0], "its only keyframe"
        scalar = [j for j in range(model.njnt) if self._is_scalar(j)]
        return {model.joint(j).name: float(qpos[model.jnt_qposadr[j]]) for j in scalar}, origin

    def ends_from(self, hand: tuple[str, ...], opens: Literal["high", "low"]) -> Ends:
        """Ends of the ranges when closed and open, the first joint being open at `opens`.

        Fingers that are coupled to one of them follow it; others follow the first one, or mirror
        it.
        """
        leader = self._leader(hand) or hand[0]
        low, high = zip(*(self._travel(name, leader) for name in hand), strict=True)
        if low[0] > high[0]:
            low, high = high, low
        return (low, high) if opens == "high" else (high, low)

    def ends_by_geometry(self, hand: tuple[str, ...]) -> Ends | None:
        """Closed and open ends of two fingers: open is where they are further apart."""
        if len(hand) != 2:
            return None
        leader = self._leader(hand)
        if any(self.limits(name)[0] is None for name in ([leader] if leader else hand)):
            return None
        combinations: list[tuple[float, ...]]
        if leader:
            combinations = list(zip(*(self._travel(name, leader) for name in hand), strict=True))
        else:
            combinations = list(itertools.product(*(self._range(name) for name in hand)))
        gaps = [self._gap(hand, ends) for ends in combinations]
        closed, opened = int(np.argmin(gaps)), int(np.argmax(gaps))
        if gaps[opened] - gaps[closed] < _CLEAR:
            return None
        return combinations[closed], combinations[opened]

    def _gap(self, hand: tuple[str, ...], ends: tuple[float, ...]) -> float:
        """Distance in m between the centres of two fingers' shapes."""
        model, data = self._model, mujoco.MjData(self._model)
        for name, value in zip(hand, ends, strict=True):
            data.joint(name).qpos = value
        mujoco.mj_kinematics(model, data)
        centres = []
        for name in hand:
            bodies = list(subtree(model, int(model.joint(name).bodyid[0])))
            shapes = np.isin(model.geom_bodyid, bodies)
            centres.append(data.geom_xpos[shapes].mean(axis=0) if shapes.any() else np.zeros(3))
        return float(np.linalg.norm(centres[0] - centres[1]))

    def _leader(self, hand: tuple[str, ...]) -> str | None:
        """The first joint of a hand that another one of it is coupled to."""
        coupled = (a for a in hand if any(self._coupling(b, a) is not None for b in hand))
        return next(coupled, None)

    def _travel(self, joint: str, leader: str) -> tuple[float, float]:
        """Where a joint is at the lower and the upper end of its leader."""
        ends = self._range(leader)
        coefficients = self._coupling(joint, leader)
        if coefficients is not None:
            model = self._model
            own, other = (float(model.qpos0[model.joint(n).qposadr[0]]) for n in (joint, leader))
            low, high = (own + float(np.polyval(coefficients, end - other)) for end in ends)
            return low, high
        (a, b), (c, d) = ends, self._range(joint)
        return (d, c) if abs(a + d) + abs(b + c) < abs(a - c) + abs(b - d) else (c, d)

    def _coupling(self, joint: str, leader: str) -> list[float] | None:
        """The polynomial, highest power first, by which a joint follows another (mjEQ_JOINT)."""
        model = self._model
        pair = (model.joint(joint).id, model.joint(leader).id)
        for e in range(model.neq):
            ids = (int(model.eq_obj1id[e]), int(model.eq_obj2id[e]))
            if model.eq_type[e] == mujoco.mjtEq.mjEQ_JOINT and ids == pair:
                return [float(c) for c in model.eq_data[e][4::-1]]
        return None

    def _range(self, joint: str) -> tuple[float, float]:
        low, high = self.limits(joint)
        if low is None or high is None:
            raise UsageError(f"the gripper joint '{joint}' has no limits in {self.path.name}")
        return low, high

    def _actuated(self) -> set[int]:
        model, found = self._model, set[int]()
        for a in range(model.nu):
            target = int(model.actuator_trnid[a, 0])
            if model.actuator_trntype[a] == mujoco.mjtTrn.mjTRN_JOINT:
                found.add(target)
            elif model.actuator_trntype[a] == mujoco.mjtTrn.mjTRN_TENDON:
                start = int(model.tendon_adr[target])
                wraps = range(start, start + int(model.tendon_num[target]))
                joint = mujoco.mjtWrap.mjWRAP_JOINT
                found |= {int(model.wrap_objid[w]) for w in wraps if model.wrap_type[w] == joint}
        return found

    def _body_of(self, frame: str) -> int | None:
        model = self._model
        site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, frame)
        if site >= 0:
            return int(model.site_bodyid[site])
        body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, frame)
        return int(body) if body > 0 else None

    def _refuse_unfit(self, joint: int) -> None:
        model = self._model
        name, (low, high) = model.joint(joint).name, model.jnt_range[joint]
        if not name:
            body = model.body(int(model.jnt_bodyid[joint])).name
            wrong = f"a joint of the body '{body}' has no name"
        elif not self._is_scalar(joint):
            wrong = f"the joint '{name}' is a ball joint; those of a card have one axis"
        elif not model.jnt_limited[joint] and low > high:
            wrong = f"the joint '{name}' has a lower limit of {low:.5g} above its upper, {high:.5g}"
        else:
            return
        raise DataError(
            f"{wrong}, in {self.path}", hint="mend it in that file", where=str(self.path)
        )

    def _chain_joints(self, body: int) -> list[int]:
        """One-dimensional joints from the world to a body."""
        return [joint for joint in self._way(body) if self._is_scalar(joint)]

    def _way(self, body: int) -> list[int]:
        """Joints from the world to a body, but for one that lets the whole robot float."""
        model, joints = self._model, list[int]()
        while body != 0:
            start = int(model.body_jntadr[body])
            own = [j for j in range(start, start + int(model.body_jntnum[body])) if start >= 0]
            free = mujoco.mjtJoint.mjJNT_FREE
            joints = [j for j in own if model.jnt_type[j] != free] + joints
            body = int(model.body_parentid[body])
        return joints

    def _is_tool(self, body: int) -> bool:
        """Whether joints move a body, the last of them not coupled to another finger's."""
        model, joints = self._model, self._chain_joints(body)
        pairs = (
            {int(model.eq_obj1id[e]), int(model.eq_obj2id[e])}
            for e in range(model.neq)
            if model.eq_type[e] == mujoco.mjtEq.mjEQ_JOINT and model.eq_obj2id[e] >= 0
        )
        return bool(joints) and all(joints[-1] not in pair or pair <= set(joints) for pair in pairs)

    def _is_end(self, body: int, inner: set[int]) -> bool:
        """Whether no joint moves anything beyond a body, or it carries the fingers."""
        if body not in inner:
            return True
        model = self._model
        children = [c for c in range(1, model.nbody) if int(model.body_parentid[c]) == body]
        return all(c not in inner for c in children)

    def _is_scalar(self, joint: int) -> bool:
        kinds = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
        return bool(self._model.jnt_type[joint] in kinds)

    def _names(self, joints: list[int]) -> tuple[str, ...]:
        return tuple(self._model.joint(j).name for j in joints)
