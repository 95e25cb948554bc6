"""MuJoCo, imported here and nowhere else, so that it always draws without a screen.

MuJoCo reads MUJOCO_GL once, when it is imported.
"""

import os

os.environ.setdefault("MUJOCO_GL", "egl")

import mujoco

__all__ = ["mujoco"]
