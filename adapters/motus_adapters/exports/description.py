"""Everything that `runner.py` has to know of a policy, as plain numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from motus_adapters.deployment.policy import Policy
from motus_adapters.exports import runner
from motus_embodiments import Card, Kinematics, UsageError
from motus_embodiments.numbers.checks import allowed
from motus_embodiments.physics import mujoco
from motus_model import MODES
from motus_model.encoders import TinyPerception
from motus_model.flow_matching import schedule

TOLERANCE = 1e-9  # rad or m by which the runner's numbers may differ from ours


def describe(policy: Policy) -> dict[str, Any]:
    """The document `runner.json`.

    Raises:
        UsageError: For a card whose numbers the runner cannot give: it knows affine maps, joint
            differences and end-effector poses of a chain.
    """
    config, space, card = policy.config, policy.space, policy.card
    assert isinstance(policy.model.perception, TinyPerception)
    size = policy.model.perception.words.config
    adapter, home = space.adapter, np.asarray(card.home())
    poses = card.action.representation in ("ee_pose", "ee_position")
    steps = schedule(
        MODES[config.mode],
        video_steps=config.steps,
        action_steps=config.steps,
        video_shift=1.0,
        action_shift=1.0,
    )
    about = {
        "bundle": policy.digest,
        "embodiment": card.name,
        "rate": config.rate,
        "execute": config.execute,
        "instruction": config.instruction,
        "cameras": {
            camera.role: [camera.name, *camera.aliases]
            for camera in card.cameras
            if camera.role in config.layout.boxes
        },
        "canvas": config.layout.to_dict() | {"model": list(policy.model.config.canvas)},
        "words": size.words,
        "text_tokens": size.text_tokens,
        "noise": policy.noise_shapes,
        "steps": [[s.video, s.action, s.video_delta, s.action_delta] for s in steps],
        "rows": policy.places.tolist(),
        "state": _affine(adapter.encode_state, len(adapter.decode_state(home))),
        "action": _affine(lambda a: adapter.decode_action(a, home), len(card.action_channels)),
        "state_limits": _state_limits(card),
        "state_statistics": space.state.to_dict(),
        "action_statistics": space.action.to_dict(),
        "chains": chains(card, adapter.kinematics) if poses else [],
        "relative_poses": poses and card.action.relative,
        "relative_joints": _relative_joints(card) if not poses else [],
        "limits": policy.limits.numbers,
    }
    _check(policy, about)
    return about


def _affine(function: Callable[[np.ndarray], np.ndarray], inputs: int) -> dict[str, list[Any]]:
    """Matrix and offset of an affine function; `_check` finds out whether it is one."""
    offset = function(np.zeros(inputs))
    matrix = np.stack([function(row) - offset for row in np.eye(inputs)], axis=1)
    return {"matrix": matrix.tolist(), "offset": offset.tolist()}


def _state_limits(card: Card) -> list[list[Any]]:
    """Name, unit and allowed values of each canonical state number; null where there is no end."""
    ends = zip(*allowed(card, card.state_channels), strict=True)
    return [
        [channel.name, channel.unit, *(float(end) if np.isfinite(end) else None for end in pair)]
        for channel, pair in zip(card.state_channels, ends, strict=True)
    ]


def _relative_joints(card: Card) -> list[int]:
    channels = card.action_channels
    return [i for i, c in enumerate(channels) if c.kind == "joint"] if card.action.relative else []


def chains(card: Card, kinematics: Kinematics) -> list[dict[str, Any]]:
    """Each arm's bodies from the world to its end-effector, as transforms and joints."""
    model, data = kinematics.model, kinematics.data
    if model is None or data is None:
        raise _beyond(card)
    mujoco.mj_resetData(model, data)
    mujoco.mj_kinematics(model, data)
    names = [channel.name for channel in card.state_channels]
    found, at = [], 0
    for arm, frame in zip(card.arms, kinematics.frames, strict=True):
        body = int(model.site_bodyid[frame.id]) if frame.is_site else frame.id
        tip = np.eye(4)
        if frame.is_site:
            tip = _pose(model.site_pos[frame.id], model.site_quat[frame.id])
        base = np.eye(4)
        if frame.base >= 0:
            base = _pose(data.xpos[frame.base], data.xquat[frame.base])
        links: list[dict[str, Any]] = []
        while body:
            first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
            joints = [_joint(model, j, names) for j in range(first, first + count)]
            pose = _pose(model.body_pos[body], model.body_quat[body])
            links.insert(0, {"pose": pose.tolist(), "joints": joints})
            body = int(model.body_parentid[body])
        turns = card.action.representation == "ee_pose"
        found.append(
            {
                "base": base.tolist(),
                "links": links,
                "tip": tip.tolist(),
                "action": at,
                "turns": turns,
            }
        )
        at += 3 + 3 * turns + (arm.gripper is not None)
    return found


def _joint(model: Any, index: int, names: list[str]) -> dict[str, Any]:
    name = model.joint(index).name
    return {
        "axis": model.jnt_axis[index].tolist(),
        "anchor": model.jnt_pos[index].tolist(),
        "zero": float(model.qpos0[model.jnt_qposadr[index]]),
        "slides": bool(model.jnt_type[index] == mujoco.mjtJoint.mjJNT_SLIDE),
        "column": names.index(name) if name in names else -1,
    }


def _pose(position: np.ndarray, quaternion: np.ndarray) -> Float[np.ndarray, "4 4"]:
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = matrix.reshape(3, 3), position
    return pose


def _check(policy: Policy, about: dict[str, Any]) -> None:
    """Hold the runner's numbers against ours at random states and actions."""
    space, card = policy.space, policy.card
    generator = np.random.default_rng(0)
    runs = runner.Runner.__new__(runner.Runner)
    runs.about = about
    low, high = (
        np.array([np.clip(getattr(c, end), -3.0, 3.0) for c in card.state_channels])
        for end in ("low", "high")
    )
    worst = 0.0
    for state in generator.uniform(low, high, (20, len(low))):
        native = space.adapter.decode_state(state)
        worst = max(worst, np.abs(runner.affine(about["state"], native) - state).max())
        wide = generator.normal(size=(1, 3, len(card.action_channels)))
        wide = wide * space.action.std + space.action.mean
        ours = space.adapter.absolute(wide, state[None])[0]
        theirs = runs.absolute(wide[0], state)
        worst = max(worst, np.abs(ours - theirs).max())
        own = space.adapter.decode_action(ours, state)
        worst = max(worst, np.abs(runner.affine(about["action"], ours) - own).max())
        described = np.array(runs.describe(state))
        whole = (described - space.state.mean) / space.state.std
        worst = max(worst, np.abs(whole - space.encode_state(state[None])[0]).max() * 1e-4)
    if worst > TOLERANCE:
        raise _beyond(card)


def _beyond(card: Card) -> UsageError:
    return UsageError(
        f"the runner cannot give the numbers of the card '{card.name}'",
        hint="--format torch-export exports the graphs alone",
    )
