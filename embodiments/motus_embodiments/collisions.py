"""Whether a robot touches itself, its other arm, the table or an object."""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from motus_embodiments.coupling import gripper_root, subtree
from motus_embodiments.kinematics import Kinematics
from motus_embodiments.physics import mujoco
from motus_embodiments.schema import Gripper

KINDS = ("self", "arm_arm", "table", "object")

_DEPTH = -1e-3  # m; a shallower touch is no collision
_ALWAYS = 0.99  # share of random poses in which a pair touches because it is built that way


class Collisions:
    """Collision checks of a card's model.

    Pairs that touch in practically every random pose are how the model is built, and the
    fingers of one gripper may touch each other; neither counts.
    """

    def __init__(self, kinematics: Kinematics, samples: Float[ndarray, "s n"]) -> None:
        """Set up for one model.

        Args:
            kinematics: Of the card; its model and data are used and left in some pose.
            samples: Random canonical states, to find the pairs that always touch.
        """
        assert kinematics.model is not None
        assert kinematics.data is not None
        self._model, self._data = kinematics.model, kinematics.data
        self._kind = _pair_kinds(kinematics)
        self.allowed = self._always(kinematics.qpos(samples))
        for a, b in self.allowed:
            self._kind[a, b] = self._kind[b, a] = -1

    def first(self, qpos: Float[ndarray, " nq"]) -> str | None:
        """What the robot collides with at these MuJoCo positions, None if with nothing."""
        kinds = self._touching(qpos)
        return KINDS[int(kinds.max())] if len(kinds) else None

    def _touching(self, qpos: Float[ndarray, " nq"]) -> Int[ndarray, " c"]:
        pairs = self._pairs(qpos)
        kinds = self._kind[pairs[:, 0], pairs[:, 1]]
        return kinds[kinds >= 0]

    def _pairs(self, qpos: Float[ndarray, " nq"]) -> Int[ndarray, "c 2"]:
        """Pairs of geoms that overlap by more than the depth."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_collision(self._model, self._data)
        contact = self._data.contact
        return contact.geom[contact.dist < _DEPTH]

    def _always(self, qpos: Float[ndarray, "s nq"]) -> list[tuple[int, int]]:
        count: dict[tuple[int, int], int] = {}
        for row in qpos:
            for a, b in {tuple(sorted(pair)) for pair in self._pairs(row).tolist()}:
                count[a, b] = count.get((a, b), 0) + 1
        return sorted(pair for pair, times in count.items() if times >= _ALWAYS * len(qpos))


def _pair_kinds(kinematics: Kinematics) -> Int[ndarray, "g g"]:
    """Index into KINDS for every pair of geoms, -1 where a touch does not matter."""
    model, card = kinematics.model, kinematics.card
    assert model is not None
    bodies: Int[ndarray, " b"] = np.full(model.nbody, -1)  # arm of each body, -1 for none
    hands: Int[ndarray, " b"] = np.full(model.nbody, -1)  # gripper of each body
    for a, arm in enumerate(card.arms):
        root = int(model.joint(arm.joints[0].name).bodyid[0])
        bodies[list(subtree(model, root))] = a
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
    kind[np.broadcast_to(fixed[:, None] | fixed[None, :], kind.shape)] = KINDS.index("table")
    kind[np.broadcast_to(base[:, None] | base[None, :], kind.shape)] = KINDS.index("self")
    kind[(a >= 0) & (b >= 0)] = KINDS.index("arm_arm")
    kind[(a >= 0) & (a == b)] = KINDS.index("self")
    kind[~robot | ((hand[:, None] >= 0) & (hand[:, None] == hand[None, :]))] = -1
    return kind


def _hand(model: mujoco.MjModel, gripper: Gripper) -> set[int]:
    driven = [int(model.joint(name).id) for name in gripper.joints]
    return subtree(model, gripper_root(model, driven))


def _bases(kinematics: Kinematics) -> set[int]:
    """Bodies between the world and each arm's first joint: the robot's own foot."""
    model = kinematics.model
    assert model is not None
    found: set[int] = set()
    for arm in kinematics.card.arms:
        body = int(model.body_parentid[int(model.joint(arm.joints[0].name).bodyid[0])])
        while body != 0:
            found.add(body)
            body = int(model.body_parentid[body])
    return found
