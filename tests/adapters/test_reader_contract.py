"""The readers that came first, held to the contract."""

from layouts.act import write_act
from layouts.lerobot import write_lerobot_v2, write_lerobot_v3
from layouts.replay_buffer import write_zarr
from layouts.robomimic import write_robomimic
from reader_contract import ReaderContract


class TestActRaw(ReaderContract):
    format, channels, state_name = "act", (14, 14), "observations/qpos"

    def write(self, folder, episodes):
        return write_act(folder, episodes)

    def breakable(self, path):
        return path / "episode_1.hdf5"


class TestActCompressed(TestActRaw):
    tolerance = 3.0  # JPEG; swapped colours would be off by about 30

    def write(self, folder, episodes):
        return write_act(folder, episodes, compress=True)


class TestRobomimic(ReaderContract):
    format, state_name, separate = "robomimic", "obs/joint_pos", False
    task, rate = "lift the cube", 10.0

    def write(self, folder, episodes):
        return write_robomimic(folder / "demos.hdf5", episodes)


class TestReplayBufferFloats(ReaderContract):
    format, channels, state_name, separate = "zarr", (5, 2), "agent_pos", False

    def write(self, folder, episodes):
        return write_zarr(folder / "replay.zarr", episodes)

    def breakable(self, path):
        return path / "data/agent_pos/1.0"


class TestReplayBufferBytes(TestReplayBufferFloats):
    def write(self, folder, episodes):
        return write_zarr(folder / "replay.zarr", episodes, floats=False)


class TestLeRobotV20(ReaderContract):
    format, channels, state_name = "lerobot", (14, 14), "observation.state"
    task, rate = "stack the cups", 20.0
    camera_name = "observation.images.{}"
    tolerance = 3.0  # video
    version = "v2.0"

    def write(self, folder, episodes):
        return write_lerobot_v2(folder, episodes, self.version)

    def breakable(self, path):
        return path / "data/chunk-000/episode_000001.parquet"


class TestLeRobotV21(TestLeRobotV20):
    version = "v2.1"


class TestLeRobotV30(TestLeRobotV20):
    separate = False

    def write(self, folder, episodes):
        return write_lerobot_v3(folder, episodes)

    def breakable(self, path):
        return path / "data/chunk-000/file-000.parquet"
