"""Whether a robot touches itself, its other arm, the table or an object."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from motus_embodiments.coupling import gripper_root, subtree
from motus_embodiments.kinematics import Kinematics
from motus_embodiments.physics import mujoco
from motus_embodiments.schema import Gripper

KINDS = ("self", "arm_arm", "table", "object")
TABLE = KINDS.index("table")

_DEPTH = -1e-3  # m; a shallower touch is no collision
_ALWAYS = 0.99  # share of random poses in which a pair touches because it is built that way
_HALF = 16  # bits of a contact mask that a model may use itself for its masks to be rewritten

Pairs = tuple[tuple[int, int], ...]


class Collisions:
    """Collision checks of a card's model.

    Pairs that touch in practically every random pose are how the model is built, and the
    fingers of one gripper may touch each other; neither counts. Where the model has nothing to
    stand on, a table is assumed at the height of the lowest base (`note` says so): shapes that
    are above it at home must stay above it.

    Attributes:
        always: Pairs of geoms that always touch.
        checked: Configurations checked so far.
        table: Height of the assumed table in m, None where the model has something of the kind.
        note: What was assumed, or empty.
    """

    def __init__(
        self,
        kinematics: Kinematics,
        samples: Float[ndarray, "s n"],
        always: Pairs | None = None,
    ) -> None:
        """Set up for one model.

        Args:
            kinematics: Of the card; its data are left in some pose, and its model no longer
                notices touches that no robot is part of.
            samples: Random canonical states, to find the pairs that always touch.
            always: What an earlier look at the same model found, to save the look.
        """
        assert kinematics.model is not None
        assert kinematics.data is not None
        self._kinematics = kinematics
        self._model, self._data = kinematics.model, kinematics.data
        self._kind = _pair_kinds(kinematics)
        _mute(self._model, np.isin(self._model.geom_bodyid, list(_arm_bodies(kinematics))))
        self.checked = 0
        self.always = self._find_always(kinematics.qpos(samples)) if always is None else always
        for a, b in self.always:
            self._kind[a, b] = self._kind[b, a] = -1
        for first, second in kinematics.card.collision_ignore:
            one, other = (_geoms_of(self._model, name) for name in (first, second))
            self._kind[np.ix_(one, other)] = self._kind[np.ix_(other, one)] = -1
        self._held: ndarray = np.empty(0, int)
        self.table, self.note = self._assumed_table(), ""
        if self.table is not None:
            self.note = (
                f"the model of '{kinematics.card.name}' has no table or floor, so one is assumed "
                f"at the height of its base ({self.table:.3g} m)"
            )

    def reason(self, states: Float[ndarray, "f n"]) -> str | None:
        """What the robot collides with in the first state in which it does, None if in none."""
        for qpos in self._kinematics.qpos(states):
            if (hit := self.first(qpos)) is not None:
                return hit
        return None

    def free(self, states: Float[ndarray, "f n"]) -> Bool[ndarray, " f"]:
        """Which canonical states are free of collisions."""
        return np.array([self.first(qpos) is None for qpos in self._kinematics.qpos(states)], bool)

    def first(self, qpos: Float[ndarray, " nq"]) -> str | None:
        """What the robot collides with at these MuJoCo positions, None if with nothing."""
        self.checked += 1
        pairs = self._near(qpos)
        worst = -1
        if pairs is not None:
            worst = int(self._kind[pairs[:, 0], pairs[:, 1]].max(initial=-1))
        if worst < TABLE and self.table is not None:
            below = self._bottoms(self._held).min(initial=np.inf) < self.table + _DEPTH
            worst = TABLE if below else worst
        return None if worst < 0 else KINDS[worst]

    def touching(self, qpos: Float[ndarray, " nq"]) -> Int[ndarray, "c 2"]:
        """Pairs of geoms whose touch is a collision, at these MuJoCo positions."""
        pairs = self._near(qpos)
        if pairs is None:
            return np.empty((0, 2), np.int64)
        return pairs[self._kind[pairs[:, 0], pairs[:, 1]] >= 0]

    def may_collide(self, a: int, b: int) -> bool:
        """Whether any touch of two bodies would be a collision; as MuJoCo filters its pairs."""
        model = self._model
        weld = model.body_weldid
        one, other = weld[a], weld[b]
        ups = (weld[model.body_parentid[one]], weld[model.body_parentid[other]])
        related = (one == ups[1] and one != 0) or (other == ups[0] and other != 0)
        if one == other or related or (a << 16) + b in set(model.exclude_signature.tolist()):
            return False
        mine, yours = (np.flatnonzero(model.geom_bodyid == body) for body in (a, b))
        pairs = np.stack(np.meshgrid(mine, yours, indexing="ij"), axis=-1).reshape(-1, 2)
        (t1, t2), (f1, f2) = model.geom_contype[pairs].T, model.geom_conaffinity[pairs].T
        looked_at = ((t1 & f2) | (t2 & f1)) != 0
        return bool((looked_at & (self._kind[pairs[:, 0], pairs[:, 1]] >= 0)).any())

    def robot_bodies(self) -> set[int]:
        """The arms' bodies and those that carry them."""
        return _arm_bodies(self._kinematics) | _bases(self._kinematics)

    def _near(self, qpos: Float[ndarray, " nq"]) -> Int[ndarray, "c 2"] | None:
        """Pairs of geoms that overlap by more than the depth, None if no two come near."""
        data = self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_collision(self._model, data)
        if data.ncon == 0:
            return None
        contact = data.contact
        return contact.geom[contact.dist < _DEPTH]

    def _find_always(self, qpos: Float[ndarray, "s nq"]) -> Pairs:
        count: dict[tuple[int, int], int] = {}
        for row in qpos:
            pairs = self._near(row)
            found = [] if pairs is None else np.sort(pairs, axis=1).tolist()
            for a, b in {(a, b) for a, b in found}:
                count[a, b] = count.get((a, b), 0) + 1
        return tuple(sorted(pair for pair, times in count.items() if times >= _ALWAYS * len(qpos)))

    def _assumed_table(self) -> float | None:
        """Height of a table where the model has none; finds the bodies to be held above it."""
        model, data = self._model, self._data
        solid = (model.geom_contype | model.geom_conaffinity) != 0
        fixed = model.body_weldid[model.geom_bodyid] == 0
        own = np.isin(model.geom_bodyid, list(_bases(self._kinematics)))
        if (solid & fixed & ~own).any():
            return None
        data.qpos[:] = self._kinematics.qpos(np.array([self._kinematics.card.home()]))[0]
        mujoco.mj_kinematics(model, data)
        roots = [_first_body(model, arm.joints[0].name) for arm in self._kinematics.card.arms]
        height = min(float(data.xpos[model.body_parentid[root], 2]) for root in roots)
        arms = np.isin(model.geom_bodyid, list(_arm_bodies(self._kinematics)))
        geoms = np.flatnonzero(solid & arms)
        self._held = geoms[self._bottoms(geoms) > height + _DEPTH]
        return height

    def _bottoms(self, geoms: Int[ndarray, " k"]) -> Float[ndarray, " k"]:
        """Height of the lowest corner of the box around each geom."""
        axes = self._data.geom_xmat[geoms].reshape(-1, 3, 3)[:, 2]
        boxes = self._model.geom_aabb[geoms]
        middle = self._data.geom_xpos[geoms, 2] + (axes * boxes[:, :3]).sum(axis=1)
        return middle - (np.abs(axes) * boxes[:, 3:]).sum(axis=1)


def _arm_bodies(kinematics: Kinematics) -> set[int]:
    model = kinematics.model
    assert model is not None
    roots = [_first_body(model, arm.joints[0].name) for arm in kinematics.card.arms]
    return set().union(*(subtree(model, root) for root in roots))


def _geoms_of(model: mujoco.MjModel, body: str) -> Int[ndarray, " g"]:
    """Geoms of a body that the card names; none where the model has no such body."""
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, body)
    return np.flatnonzero(model.geom_bodyid == index)


def _mute(model: mujoco.MjModel, robot: Bool[ndarray, " g"]) -> None:
    """Stop the model from looking for touches between two things that are no robot.

    Two geoms are looked at if (type1 & affinity2) | (type2 & affinity1). With the affinity of
    everything else moved to the upper half of its type, and the type of the robot copied to the
    upper half of its affinity, the answer is the same for any pair with a robot in it and no for
    any other.
    """
    kind, affinity = model.geom_contype.copy(), model.geom_conaffinity.copy()
    if max(kind.max(initial=0), affinity.max(initial=0)) >> (_HALF - 1):
        return
    model.geom_contype[:] = np.where(robot, kind, kind | affinity << _HALF)
    model.geom_conaffinity[:] = np.where(robot, affinity | kind << _HALF, 0)
    for masks, geoms in (
        (model.body_contype, model.geom_contype),
        (model.body_conaffinity, model.geom_conaffinity),
    ):
        masks[:] = 0
        np.bitwise_or.at(masks, model.geom_bodyid, geoms)


def _pair_kinds(kinematics: Kinematics) -> Int[ndarray, "g g"]:
    """Index into KINDS for every pair of geoms, -1 where a touch does not matter."""
    model, card = kinematics.model, kinematics.card
    assert model is not None
    bodies: Int[ndarray, " b"] = np.full(model.nbody, -1)  # arm of each body, -1 for none
    hands: Int[ndarray, " b"] = np.full(model.nbody, -1)  # gripper of each body
    for a, arm in enumerate(card.arms):
        bodies[list(subtree(model, _first_body(model, arm.joints[0].name)))] = a
        if arm.gripper and arm.gripper.joints:
            hands[list(_hand(model, arm.gripper))] = a
    arm_of, hand_of = bodies[model.geom_bodyid], hands[model.geom_bodyid]
    fixed: Bool[ndarray, " g"] = model.body_weldid[model.geom_bodyid] == 0
    base = np.isin(model.geom_bodyid, list(_bases(kinematics)))
    return _classify(arm_of, hand_of, fixed, base)


def _classify(
    arm: Int[ndarray, " g"],
    hand: Int[ndarray, " g"],
    fixed: Bool[ndarray, " g"],
    base: Bool[ndarray, " g"],
) -> Int[ndarray, "g g"]:
    a, b = arm[:, None], arm[None, :]
    robot = (a >= 0) | (b >= 0)
    kind = np.full((len(arm), len(arm)), KINDS.index("object"))
    kind[np.broadcast_to(fixed[:, None] | fixed[None, :], kind.shape)] = TABLE
    kind[np.broadcast_to(base[:, None] | base[None, :], kind.shape)] = KINDS.index("self")
    kind[(a >= 0) & (b >= 0)] = KINDS.index("arm_arm")
    kind[(a >= 0) & (a == b)] = KINDS.index("self")
    kind[~robot | ((hand[:, None] >= 0) & (hand[:, None] == hand[None, :]))] = -1
    return kind


def _hand(model: mujoco.MjModel, gripper: Gripper) -> set[int]:
    driven = [_joint(model, name) for name in gripper.joints]
    return subtree(model, gripper_root(model, driven))


def _bases(kinematics: Kinematics) -> set[int]:
    """Bodies between the world and each arm's first joint: the robot's own foot."""
    model = kinematics.model
    assert model is not None
    found: set[int] = set()
    for arm in kinematics.card.arms:
        body = int(model.body_parentid[_first_body(model, arm.joints[0].name)])
        while body != 0:
            found.add(body)
            body = int(model.body_parentid[body])
    return found


def _first_body(model: mujoco.MjModel, joint: str) -> int:
    return int(model.jnt_bodyid[_joint(model, joint)])


def _joint(model: mujoco.MjModel, name: str) -> int:
    # The model's own access by name takes half a second to set up.
    return int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name))
