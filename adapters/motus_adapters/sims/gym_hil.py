"""gym-hil's Panda picking up a cube: a Franka with a Robotiq 2F-85 under Cartesian control.

The robot takes absolute end-effector poses (position in m and rotation vector in rad, base
frame, then the gripper's opening from 0 closed to 1 open). gym-hil itself takes increments of a
control target; the difference to that target is what is sent, at most `MAX_MOVE` a step.
"""

import numpy as np
from gym_hil.envs.panda_pick_gym_env import PandaPickCubeGymEnv
from jaxtyping import Float

from motus_adapters.sims.drawing import Painter
from motus_adapters.sims.protocol import ImageSize, Observation
from motus_adapters.sims.versions import versions_of

MAX_MOVE = 0.03  # m a step and axis, gym-hil's own limit for teleoperation
DOWN = np.array([np.pi, 0.0, 0.0])  # the controller's fixed orientation: gripper pointing down
DRIVER_CLOSED = 0.8  # rad, the 2F-85's driver joint when closed
HOVER, GRASP, LIFT = 0.10, 0.005, 0.28  # m above the cube, above its centre, above the table
CLOSE_STEPS = 5
NOISE = 0.008  # m, spread of a push off the expert's way
CAMERAS = {"front": "front", "wrist": "handcam_rgb"}


class PandaPickCube:
    """Pick up the cube at a random place and lift it by 10 cm."""

    card = "franka"
    rate = 10.0
    max_steps = 50
    cameras = tuple(CAMERAS)
    has_expert = True

    def __init__(self, name: str, instruction: str, image_size: ImageSize) -> None:
        self.name, self.instruction = name, instruction
        self.versions = versions_of("gym-hil", "mujoco")
        self._env = PandaPickCubeGymEnv(random_block_position=True)
        model = self._env.model
        self._paint = Painter(model, image_size)
        self._gripper = model.actuator("fingers_actuator").id
        self._joints = [model.joint(f"joint{i}").qposadr[0] for i in range(1, 8)]
        self._driver = model.joint("right_driver_joint").qposadr[0]
        self._grasped = 0
        self._rest_height = 0.0

    @property
    def success(self) -> bool:
        """gym-hil's own measure: the cube is 10 cm above its rest, between the fingers."""
        return self._risen > 0.1 and self._distance < 0.05

    @property
    def signals(self) -> dict[str, float]:
        """From the cube to the middle of the fingers, and how far it has risen, m."""
        return {"distance": self._distance, "risen": self._risen}

    def reset(self, seed: int) -> None:
        """Home pose and a cube place drawn from the seed."""
        # gym-hil draws the place from numpy's global generator.
        before = np.random.get_state()
        np.random.seed(seed)
        self._env.reset(seed=seed)
        np.random.set_state(before)
        self._env.data.ctrl[self._gripper] = 0
        self._rest_height = float(self._cube[2])
        self._grasped = 0

    def observe(self) -> Observation:
        """Two pictures, seven joint angles (rad) and the measured opening of the gripper."""
        data = self._env.data
        images = {name: self._paint(data, camera) for name, camera in CAMERAS.items()}
        opening = 1 - float(data.qpos[self._driver]) / DRIVER_CLOSED
        state = np.append(data.qpos[self._joints], np.clip(opening, 0, 1))
        return Observation(images, state.astype(np.float32))

    def step(self, action: Float[np.ndarray, " 7"]) -> None:
        """Move the control target towards a pose (rotation is fixed here) and set the gripper."""
        data = self._env.data
        move = np.clip(action[:3] - data.mocap_pos[0], -MAX_MOVE, MAX_MOVE)
        closed_now = data.ctrl[self._gripper] / 255
        grip = np.clip((1 - action[6]) - closed_now, -1, 1)
        self._env.apply_action(np.array([*move, 0, 0, 0, grip]))

    def expert(self) -> Float[np.ndarray, " 7"]:
        """Above the cube, down, close, up; the command is reachable within this step."""
        cube, target = self._cube, self._env.data.mocap_pos[0]
        closing = self._env.data.ctrl[self._gripper] > 127
        over = np.linalg.norm(self._tcp[:2] - cube[:2]) < 0.012
        height = cube[2] + (GRASP if over or closing else HOVER)
        wanted = np.array([cube[0], cube[1], height])
        at_cube = over and abs(self._tcp[2] - (cube[2] + GRASP)) < 0.012
        opening = 1.0
        if closing or at_cube:
            opening = 0.0
            self._grasped += 1
            wanted[:2] = target[:2]
            wanted[2] = LIFT if self._grasped > CLOSE_STEPS else target[2]
        move = np.clip(wanted - target, -MAX_MOVE, MAX_MOVE)
        return np.array([*(target + move), *DOWN, opening], dtype=np.float32)

    def disturb(self, generator: np.random.Generator) -> None:
        """Three steps towards a point a few centimetres off home, then hold there."""
        offset = generator.uniform((-0.04, -0.06, -0.04), (0.04, 0.06, 0.04))
        goal = self._tcp + offset
        for _ in range(3):
            self.step(np.array([*goal, *DOWN, 1.0]))
        self._env.data.mocap_pos[0] = self._tcp

    def jitter(
        self, action: Float[np.ndarray, " 7"], generator: np.random.Generator
    ) -> Float[np.ndarray, " 7"]:
        """A push of the hand, until it closes."""
        pushed = action.copy()
        if action[-1] > 0.5:
            pushed[:3] += generator.normal(0, NOISE, 3)
        return pushed

    def close(self) -> None:
        """Release both renderers."""
        self._paint.close()
        self._env.close()

    @property
    def _risen(self) -> float:
        return float(self._cube[2] - self._rest_height)

    @property
    def _distance(self) -> float:
        return float(np.linalg.norm(self._cube - self._tcp))

    @property
    def _cube(self) -> Float[np.ndarray, " 3"]:
        return self._env.data.sensor("block_pos").data.copy()

    @property
    def _tcp(self) -> Float[np.ndarray, " 3"]:
        return self._env.data.sensor("2f85/pinch_pos").data.copy()


def make(name: str, task: str, instruction: str, image_size: ImageSize) -> PandaPickCube:
    """Start the one task there is."""
    del task
    return PandaPickCube(name, instruction, image_size)
