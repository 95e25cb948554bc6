"""The HDF5 family held to the contract of readers."""

import numpy as np
from layouts.egodex import HAND, write_egodex
from layouts.libero import write_libero, write_robosuite
from layouts.rdt import write_rdt
from layouts.robomind import write_robomind
from layouts.robotwin import NEW_CAMERAS, OLD_CAMERAS, write_robotwin_new, write_robotwin_old
from reader_contract import ReaderContract

JPEG = 3.0  # mean error of a pixel; with red and blue exchanged it would be about 30


class TestRdt(ReaderContract):
    format, channels, tolerance = "rdt", (14, 14), JPEG
    task, rate, close = "fold the towel", 25.0, 1e-5

    def write(self, folder, episodes):
        return write_rdt(folder, episodes)

    def breakable(self, path):
        return path / "episode_1.hdf5"


class TestRdtInstructionInside(TestRdt):
    def write(self, folder, episodes):
        return write_rdt(folder, episodes, beside=False)


class TestRobotwinOld(ReaderContract):
    format, channels, tolerance = "robotwin", (14, 14), JPEG
    cameras, task = OLD_CAMERAS, "pick up the cup"
    state_name = "joint_action/vector"

    def write(self, folder, episodes):
        return write_robotwin_old(folder, episodes)

    def action(self, truth):
        return None  # the following state is taken when it is converted

    def breakable(self, path):
        return path / "pick_cup/aloha-agilex_clean_50/data/episode1.hdf5"


class TestRobotwinBeforeJuly2025(TestRobotwinOld):
    def write(self, folder, episodes):
        return write_robotwin_old(folder, episodes, one_endpose=True)


class TestRobotwinNew(ReaderContract):
    format, channels, tolerance = "robotwin", (14, 14), JPEG
    cameras, task, rate = NEW_CAMERAS, "pick up the cup", 15.0

    def write(self, folder, episodes):
        return write_robotwin_new(folder, episodes)

    def breakable(self, path):
        return path / "pick_cup/aloha_agilex/data/episode_0000001.hdf5"


class TestRobomindAgilex(ReaderContract):
    format, channels, tolerance = "robomind", (14, 14), JPEG
    cameras = ("camera_front", "camera_left_wrist", "camera_right_wrist")
    task, rate, robot = "pick up the bowl", 30.0, "agilex_3rgb"

    def write(self, folder, episodes):
        return write_robomind(folder, episodes, self.robot)

    def breakable(self, path):
        name = f"benchmark1_0_release/h5_{self.robot}/01_pick/success_episodes/train/ep_1/data"
        return path / name / "trajectory.hdf5"


class TestRobomindFrankaThreeCameras(TestRobomindAgilex):
    channels, robot = (8, 8), "franka_3rgb"
    cameras = ("camera_left", "camera_right", "camera_top")
    state_name = "puppet/joint_position"


class TestRobomindFrankaOneCamera(TestRobomindFrankaThreeCameras):
    cameras, robot = ("camera_top",), "franka_1rgb"


class TestRobomindSimulation(TestRobomindFrankaOneCamera):
    robot, state_name = "simulation", "franka/joint_position"

    def action(self, truth):
        return None


class TestLibero(ReaderContract):
    format, channels, separate = "libero", (8, 7), False
    cameras, task, rate = ("agentview_rgb", "eye_in_hand_rgb"), "open the drawer", 20.0

    def write(self, folder, episodes):
        return write_libero(folder / "KITCHEN_SCENE1_open_the_drawer_demo.hdf5", episodes)


class TestLiberoUpright(TestLibero):
    def write(self, folder, episodes):
        path = folder / "KITCHEN_SCENE1_open_the_drawer_demo.hdf5"
        return write_libero(path, episodes, convention="opencv")


class TestRobosuite(ReaderContract):
    format, cameras, channels, separate = "robosuite", (), (8, 7), False
    rate = 20.0

    def write(self, folder, episodes):
        return write_robosuite(folder / "lift_panda.hdf5", episodes)


class TestEgodex(ReaderContract):
    format, cameras, tolerance = "egodex", ("ego",), 3.0
    task, rate, close = "pours water", 30.0, 1e-4

    def write(self, folder, episodes):
        return write_egodex(folder, episodes)

    def state(self, truth):
        wrist = np.concatenate([HAND, np.zeros(3)])  # in front of the camera, wherever it goes
        return np.tile(wrist, (len(truth.state), 2))

    def action(self, truth):
        return None

    def breakable(self, path):
        return path / "test/pour/1.mp4"
