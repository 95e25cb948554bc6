"""No false alarm on real recordings, and planted mistakes in them are found."""

import numpy as np
import pytest

from motus_embodiments import ActionAdapter, DataError, load_card


def aloha(folder):
    import h5py

    with h5py.File(folder / "act_hdf5_aloha_sim" / "episode_0_raw_gzip.hdf5") as file:
        return [(file["observations/qpos"][:], file["action"][:])]


def pusht(folder):
    import zarr

    store = zarr.open(folder / "pusht_zarr" / "pusht_cchi_v7_replay.zarr", mode="r")
    states, actions = store["data/state"][:, :2], store["data/action"][:]
    ends = store["meta/episode_ends"][:]
    bounds = zip([0, *ends[:-1]], ends, strict=True)
    return [(states[a:b], actions[a:b]) for a, b in bounds]


def gr1(folder):
    import pyarrow.parquet as pq

    recordings = []
    for path in sorted((folder / "lerobot_v20_gr1_sim").rglob("episode_*.parquet")):
        table = pq.read_table(path)
        columns = ("observation.state", "action")
        recordings.append(tuple(np.stack(table[column].to_numpy()) for column in columns))
    return recordings


RECORDED = {"aloha": aloha, "pusht": pusht, "gr1": gr1}


@pytest.mark.parametrize("name", RECORDED)
def test_real_recordings_pass_and_come_back(name, shared_data):
    adapter = ActionAdapter(load_card(name))
    recordings = RECORDED[name](shared_data)
    assert recordings
    for number, (native_state, native_action) in enumerate(recordings):
        state, action = adapter.encode_state(native_state), adapter.encode_action(native_action)
        adapter.check(state, "state", f"episode {number}")
        adapter.check(action, "action", f"episode {number}")
        adapter.check_pair(state, action, f"episode {number}")
        np.testing.assert_allclose(adapter.decode_state(state), native_state, rtol=1e-6)
        np.testing.assert_allclose(adapter.decode_action(action), native_action, rtol=1e-6)


def test_planted_mistakes_are_named(shared_data):
    adapter = ActionAdapter(load_card("aloha"))
    state, action = aloha(shared_data)[0]
    with pytest.raises(DataError) as caught:
        adapter.check(np.where(np.arange(14) % 7 == 6, state, np.rad2deg(state)), "state")
    assert "degrees" in caught.value.hint
    inverted = action.copy()
    inverted[:, 6] = 1 - inverted[:, 6]
    with pytest.raises(DataError, match="'left_gripper' runs against"):
        adapter.check_pair(state, inverted)
    with pytest.raises(DataError, match="left arm follow"):
        adapter.check_pair(state, np.roll(action, 7, axis=1))
