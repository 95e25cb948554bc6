"""Fingers that move together: one opening to all joints of a gripper's mechanism."""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from motus_embodiments.errors import DataError
from motus_embodiments.physics import mujoco
from motus_embodiments.schema import Gripper

_OPENINGS = 17  # rows of the table, linear between them
_SETTLE = 400  # steps of 2 ms until linkages rest


def finger_table(
    model: mujoco.MjModel, gripper: Gripper
) -> tuple[Float[ndarray, " g"], Float[ndarray, "g k"], list[int]]:
    """Openings, the finger joints' positions (rad or m) at each, and their addresses in qpos.

    Driven joints lie on the line from `model_closed` to `model_open`. Joints coupled to them by
    equality constraints, tendons or springs are found by letting physics settle with the driven
    joints held, without gravity, contacts and actuators.

    Raises:
        DataError: The model lacks one of the gripper's joints.
    """
    closed, opened = np.array(gripper.model_closed), np.array(gripper.model_open)
    driven = [_joint(model, name) for name in gripper.joints]
    passive = _passive(model, driven)
    addresses = [int(model.jnt_qposadr[j]) for j in (*driven, *passive)]
    if not passive:
        return np.array([-9.0, 10.0]), closed + np.outer([-9.0, 10.0], opened - closed), addresses
    openings = np.linspace(0, 1, _OPENINGS)
    driven_q = closed + openings[:, None] * (opened - closed)
    settled = _settle(model, driven, passive, driven_q)
    return openings, np.concatenate([driven_q, settled], axis=1), addresses


def _joint(model: mujoco.MjModel, name: str) -> int:
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)
    if index < 0:
        known = ", ".join(model.joint(i).name for i in range(model.njnt))
        raise DataError(f"the robot model has no gripper joint '{name}'", hint=f"it has: {known}")
    return int(index)


def gripper_root(model: mujoco.MjModel, driven: list[int]) -> int:
    """The deepest body that carries all of these joints' bodies (the palm)."""
    chains = [_ancestors(model, int(model.jnt_bodyid[j])) for j in driven]
    if len(chains) == 1:
        return chains[0][1]
    shared = set(chains[0]).intersection(*chains[1:])
    return next(body for body in chains[0] if body in shared)


def subtree(model: mujoco.MjModel, root: int) -> set[int]:
    """A body and everything that hangs on it."""
    return {body for body in range(model.nbody) if root in _ancestors(model, body)}


def _ancestors(model: mujoco.MjModel, body: int) -> list[int]:
    chain = [body]
    while chain[-1] != 0:
        chain.append(int(model.body_parentid[chain[-1]]))
    return chain


def _passive(model: mujoco.MjModel, driven: list[int]) -> list[int]:
    """One-dimensional joints below the palm that nobody drives."""
    root = gripper_root(model, driven)
    if root == 0:
        return []
    bodies = subtree(model, root) - {root}
    scalar = (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE)
    return [
        j
        for j in range(model.njnt)
        if model.jnt_bodyid[j] in bodies and model.jnt_type[j] in scalar and j not in driven
    ]


def _settle(
    model: mujoco.MjModel,
    driven: list[int],
    passive: list[int],
    driven_q: Float[ndarray, "g d"],
) -> Float[ndarray, "g p"]:
    """Where the passive joints come to rest at each position of the driven ones."""
    flags, timestep, damping = model.opt.disableflags, model.opt.timestep, model.dof_damping.copy()
    data = mujoco.MjData(model)
    rest = data.qpos.copy()
    q = [int(model.jnt_qposadr[j]) for j in passive]
    v = [int(model.jnt_dofadr[j]) for j in passive]
    held = [int(model.jnt_qposadr[j]) for j in driven]
    out = np.zeros((len(driven_q), len(passive)))
    bit = mujoco.mjtDisableBit
    try:
        model.opt.disableflags = (
            flags | bit.mjDSBL_GRAVITY | bit.mjDSBL_CONTACT | bit.mjDSBL_ACTUATION
        )
        model.opt.timestep = 0.002
        model.dof_damping[v] = np.maximum(damping[v], 1e-3)
        for row, values in enumerate(driven_q):
            for _ in range(_SETTLE):
                moving, speed = data.qpos[q], data.qvel[v]
                data.qpos[:], data.qvel[:] = rest, 0.0
                data.qpos[q], data.qvel[v], data.qpos[held] = moving, speed, values
                mujoco.mj_step(model, data)
            out[row] = data.qpos[q]
    finally:
        model.opt.disableflags, model.opt.timestep = flags, timestep
        model.dof_damping[:] = damping
    if not np.isfinite(out).all():
        raise DataError("the gripper's coupled joints do not come to rest in simulation")
    return out
