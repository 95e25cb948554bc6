"""gym-aloha: two ViperX 300 arms at a table, under absolute joint targets.

Only the scene and the tasks are taken from gym-aloha: its environment draws three large pictures
at every step, and seeds one of its two generators only.

MuJoCo 3 solves contacts differently from the 2.3 that the tasks were tuned for, so that figures
are not comparable with published ones; the protocol of a result names the version.
"""

from importlib import import_module

import mujoco
import numpy as np
from gym_aloha.constants import ASSETS_DIR, DT
from gym_aloha.tasks import sim
from gym_aloha.utils import sample_box_pose, sample_insertion_pose
from jaxtyping import Float

from motus_adapters.sims.drawing import Painter
from motus_adapters.sims.protocol import ImageSize, Observation
from motus_adapters.sims.versions import versions_of
from motus_embodiments import UsageError

SOLVED = 4  # gym-aloha's reward for the whole task; less is a sub-goal
CAMERAS = ("top", "left_wrist", "right_wrist")
_TASKS = {
    "TransferCube": (
        "bimanual_viperx_transfer_cube.xml",
        sim.TransferCubeTask,
        sample_box_pose,
    ),
    "Insertion": (
        "bimanual_viperx_insertion.xml",
        sim.InsertionTask,
        lambda seed: np.concatenate(sample_insertion_pose(seed)),
    ),
}


class Aloha:
    """One of gym-aloha's two tasks."""

    card = "aloha"
    rate = 1 / DT
    max_steps = 400
    cameras = CAMERAS
    has_expert = False

    def __init__(self, name: str, task: str, instruction: str, image_size: ImageSize) -> None:
        self.name, self.instruction = name, instruction
        self.versions = versions_of("gym-aloha", "dm-control", "mujoco")
        scene, kind, self._place = _TASKS[task]
        self._task = kind()
        physics = import_module("dm_control.mujoco").Physics
        self._physics = physics.from_xml_path(str(ASSETS_DIR / scene))
        self._data = self._physics.data.ptr
        self._paint = Painter(self._physics.model.ptr, image_size)
        self._ticks = round(DT / self._physics.timestep())
        self._reward = 0

    @property
    def success(self) -> bool:
        """What gym-aloha itself measures: its largest reward."""
        return self._reward == SOLVED

    @property
    def signals(self) -> dict[str, float]:
        """gym-aloha's reward, from 0 to 4: each stands for a stage."""
        return {"reward": float(self._reward)}

    def reset(self, seed: int) -> None:
        """Both arms at rest, objects at places drawn from the seed."""
        self._physics.reset()
        # The tasks read where their objects are from a list of their module.
        before = np.random.get_state()
        sim.BOX_POSE[0] = self._place(seed)
        np.random.set_state(before)
        self._task.initialize_episode(self._physics)
        mujoco.mj_forward(self._physics.model.ptr, self._data)
        self._reward = 0

    def observe(self) -> Observation:
        """Three pictures; joint angles (rad) and opening of the left arm, then of the right."""
        images = {camera: self._paint(self._data, camera) for camera in CAMERAS}
        state = self._task.get_qpos(self._physics)
        return Observation(images, state.astype(np.float32))

    def step(self, action: Float[np.ndarray, " 14"]) -> None:
        """Set the joint targets and let 20 ms pass."""
        self._task.before_step(action, self._physics)
        self._physics.step(self._ticks)
        self._reward = self._task.get_reward(self._physics)

    def expert(self) -> Float[np.ndarray, " 14"]:
        """There is none."""
        raise UsageError(
            f"{self.name} has no scripted expert",
            hint="`motus sim list --tasks` shows which have one",
        )

    def disturb(self, generator: np.random.Generator) -> None:
        """Nothing: the places of the objects are variety enough."""

    def jitter(
        self, action: Float[np.ndarray, " 14"], generator: np.random.Generator
    ) -> Float[np.ndarray, " 14"]:
        """The action itself."""
        del generator
        return action

    def close(self) -> None:
        """Release the renderer and the physics."""
        self._paint.close()
        self._physics.free()


def make(name: str, task: str, instruction: str, image_size: ImageSize) -> Aloha:
    """Start a task."""
    return Aloha(name, task, instruction, image_size)
