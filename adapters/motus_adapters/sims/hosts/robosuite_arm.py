"""An arm of robosuite's robots: its numbers, and the joint angles that bring its hand to a place.

Read by robosuite_host.py.
"""

from importlib import import_module
from typing import Any

import numpy as np

Array = np.ndarray
MAX_MOVE = 0.04  # m a step
MAX_TURN = 0.15  # rad a step
DAMPING = 0.02  # of the least-squares inverse
PULL = 0.1  # of the way back to the joints' first places, where it doesn't move the hand


class Arm:
    """An arm with its gripper.

    Args:
        sim: robosuite's simulation.
        robot: The robot that it is part of.
        side: What robosuite calls it; the only arm of a robot is a right one.
    """

    def __init__(self, sim: Any, robot: Any, side: str) -> None:
        self.robot, self.side, self.gripper = robot, side, robot.gripper[side]
        self._mujoco = import_module("mujoco")
        self._model, self._data = sim.model._model, sim.data._data
        controller = robot.part_controllers[side]
        self.joints, self.dofs = list(controller.qpos_index), list(controller.qvel_index)
        self._site = sim.model.site_name2id(self.gripper.important_sites["grip_site"])
        self.fingers = [sim.model.get_joint_qpos_addr(name) for name in self.gripper.joints]
        self.closed = self.open = np.zeros(len(self.fingers))
        self.rest()

    @property
    def width(self) -> int:
        """Numbers of its action: joints and the gripper."""
        return len(self.joints) + 1

    def rest(self) -> None:
        """Take how the arm and its hand are held now for upright."""
        self._upright, self._home = self.held(), self._data.qpos[self.joints].copy()

    def state(self) -> Array:
        """Joint angles and the measured opening."""
        stroke = self.open - self.closed
        opening = (self._data.qpos[self.fingers] - self.closed) @ stroke / (stroke @ stroke)
        return np.append(self._data.qpos[self.joints], np.clip(opening, 0, 1))

    def command(self, action: Array) -> dict[str, Array]:
        """What robosuite is told; it counts a gripper from -1 open to 1 closed."""
        squeeze = 1 - 2 * np.clip(action[-1:], 0, 1)
        return {self.side: action[:-1], f"{self.side}_gripper": squeeze}

    def hand(self) -> Array:
        """Where the fingers meet, m."""
        return self._data.site_xpos[self._site].copy()

    def held(self) -> Array:
        """The hand's axes."""
        return self._data.site_xmat[self._site].reshape(3, 3).copy()

    def turned(self) -> Array:
        """The rotation from how the hand was held at the start to how it is held now."""
        return self.held() @ self._upright.T

    def across(self) -> float:
        """The way along which the fingers opened at the start: an angle about the vertical, rad."""
        pads = (self.gripper.important_geoms[f"{side}_fingerpad"][0] for side in ("left", "right"))
        one, other = (self._data.geom(name).xpos for name in pads)
        way = self.turned().T @ (one - other)
        return float(np.arctan2(way[1], way[0]))

    def go(self, place: Array, opening: float, turn: Array) -> Array:
        """The action that brings the hand towards a place.

        Args:
            place: Where to, m.
            opening: Of the gripper.
            turn: Rotation from how the hand was held at the start.
        """
        move = place - self.hand()
        move *= min(1.0, MAX_MOVE / max(1e-9, float(np.linalg.norm(move))))
        return np.append(self.towards(move, turn), opening)

    def towards(self, move: Array, turn: Array) -> Array:
        """Joint angles that bring the hand by `move` (m) nearer, and to how it shall be held."""
        place, spin = np.zeros((3, self._model.nv)), np.zeros((3, self._model.nv))
        self._mujoco.mj_jacSite(self._model, self._data, place, spin, self._site)
        jacobian = np.concatenate([place, spin])[:, self.dofs]
        held, wanted = self.held(), turn @ self._upright
        # Half the sum of the axes' cross products: the small rotation from the one to the other.
        lean = 0.5 * sum(np.cross(held[:, i], wanted[:, i]) for i in range(3))
        lean *= min(1.0, MAX_TURN / max(1e-9, float(np.linalg.norm(lean))))
        square = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        now = self._data.qpos[self.joints]
        back = PULL * (self._home - now)
        hand = np.concatenate([move, lean]) - jacobian @ back
        return now + back + jacobian.T @ np.linalg.solve(square, hand)
