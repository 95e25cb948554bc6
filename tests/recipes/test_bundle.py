"""A bundle: self-contained, the same bytes, held to its contract when loaded and at each call."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from motus_adapters import Counts, Observation, Policy
from motus_adapters.deployment.limits import LAG, Limits
from motus_embodiments import (
    DataError,
    Kinematics,
    MismatchError,
    UsageError,
    kinematic_model,
    load_card,
)

PICTURE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
HEAD = {"head": (64, 64)}
NATIVE = np.array([256.0, 400.0])


@pytest.fixture(scope="module")
def pusht(untrained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("policies") / "pusht", "pusht", HEAD)


@pytest.fixture
def policy(pusht: Path) -> Policy:
    return Policy.load(pusht)


@pytest.fixture
def copy(pusht: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pusht, tmp_path / "copy"))


def seal(folder: Path) -> None:
    """Make the contract agree with changed files, as someone with bad intent would."""
    agreed = json.loads((folder / "contract.json").read_text())
    for name in agreed["files"]:
        agreed["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    del agreed["digest"]
    text = json.dumps(agreed, sort_keys=True, separators=(",", ":"))
    agreed["digest"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "contract.json").write_text(json.dumps(agreed))


def test_the_same_input_gives_the_same_bytes(pusht: Path, untrained, tmp_path: Path):
    again = untrained(tmp_path / "again", "pusht", HEAD)
    assert {file.name for file in pusht.iterdir()} == {file.name for file in again.iterdir()}
    for file in pusht.iterdir():
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name


def test_only_a_bundle_is_replaced(copy: Path, untrained):
    with pytest.raises(UsageError, match="exists"):
        untrained(copy, "pusht", HEAD)
    (copy / "contract.json").unlink()  # then it may be anything
    with pytest.raises(UsageError, match="something else"):
        untrained(copy, "pusht", HEAD, force=True)
    assert (copy / "policy.safetensors").exists()


def test_one_flipped_bit_in_any_file_is_refused(pusht: Path, copy: Path):
    for file in sorted(pusht.iterdir()):
        whole = file.read_bytes()
        for at in (0, len(whole) // 2, len(whole) - 2):
            changed = bytearray(whole)
            changed[at] ^= 1
            (copy / file.name).write_bytes(bytes(changed))
            with pytest.raises((DataError, MismatchError)):
                Policy.load(copy)
        (copy / file.name).write_bytes(whole)
    assert Policy.load(copy).digest


def test_a_missing_or_cut_file_is_refused(pusht: Path, copy: Path):
    for name in sorted(file.name for file in pusht.iterdir()):
        whole = (copy / name).read_bytes()
        (copy / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises((DataError, MismatchError)) as refused:
            Policy.load(copy)
        assert refused.value.hint, name
        (copy / name).unlink()
        with pytest.raises(DataError, match=name) as refused:
            Policy.load(copy)
        assert refused.value.hint, name
        (copy / name).write_bytes(whole)


def test_the_card_of_another_robot_is_refused(copy: Path, untrained, tmp_path: Path):
    other = untrained(tmp_path / "so101", "so101", HEAD)
    shutil.copy(other / "embodiment.yaml", copy / "embodiment.yaml")
    with pytest.raises(DataError, match="the card 'so101'"):
        Policy.load(copy)
    seal(copy)
    with pytest.raises(DataError, match="the card 'so101'"):
        Policy.load(copy)


class Trap:
    """What a hostile pickle would do when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (self.place,))

    def __init__(self, place: str) -> None:
        self.place = place


def test_a_pickle_in_place_of_the_weights_is_never_loaded(copy: Path, tmp_path: Path):
    trap = tmp_path / "sprung"
    (copy / "policy.safetensors").write_bytes(pickle.dumps(Trap(str(trap))))
    with pytest.raises(DataError, match=r"policy\.safetensors"):
        Policy.load(copy)
    seal(copy)
    with pytest.raises(DataError, match="safetensors"):
        Policy.load(copy)
    assert not trap.exists()


def test_resealed_files_must_still_agree_with_their_terms(copy: Path):
    stats = json.loads((copy / "stats.json").read_text())
    stats["state"]["mean"][0] += 1
    (copy / "stats.json").write_text(json.dumps(stats))
    seal(copy)
    with pytest.raises(MismatchError, match="statistics"):
        Policy.load(copy)


def test_measured_times_are_no_part_of_the_contract(copy: Path):
    from motus_adapters.deployment.measuring import measure

    before = Policy.load(copy).digest
    found = measure(copy)
    assert 0 < found.median <= found.worst
    assert json.loads((copy / "measured.json").read_text())["median"] == found.median
    assert Policy.load(copy).digest == before


def act(policy: Policy, images: Mapping[str, np.ndarray] | None = None, state=NATIVE, **options):
    return policy.act(images or {"img": PICTURE}, state, "push the block", **options)


def test_seeds_decide_and_batches_agree(policy: Policy):
    one, two = act(policy, seed=1), act(policy, seed=2)
    np.testing.assert_array_equal(one, act(policy, seed=1))
    assert np.abs(one - two).max() > 1e-3
    dark = Observation({"img": PICTURE // 2}, NATIVE / 2)
    rows = policy.act_batch(
        [Observation({"img": PICTURE}, NATIVE), dark], ["push the block"] * 2, [1, 1]
    )
    np.testing.assert_allclose(rows[0], one, atol=1e-3)  # px
    assert np.abs(rows[1] - one).max() > 1e-3
    with pytest.raises(DataError):
        policy.act_batch([dark], [], [1])


@pytest.mark.parametrize(
    ("images", "state", "says"),
    [
        ({"wrist": PICTURE}, NATIVE, "no picture for the view 'head'"),
        ({"img": PICTURE.astype(np.float32)}, NATIVE, "not uint8"),
        ({"img": PICTURE[..., :1]}, NATIVE, "not uint8"),
        ({"img": PICTURE[:0]}, NATIVE, "not uint8"),
        ({"img": PICTURE[:20, :20]}, NATIVE, "64 x 64 or more"),
        ({"img": np.zeros((64, 128, 3), np.uint8)}, NATIVE, "another shape"),
        ({"img": PICTURE, "image": PICTURE}, NATIVE, "two pictures"),
        ({"img": PICTURE}, np.zeros(3), "3 channels"),
        ({"img": PICTURE}, np.array([np.nan, 1.0]), "nan"),
        ({"img": PICTURE}, np.array([9000.0, 1.0]), "allows"),
    ],
)
def test_a_wrong_observation_is_refused(policy: Policy, images, state, says):
    with pytest.raises(DataError, match=says) as refused:
        act(policy, images, state)
    hint = refused.value.hint or ""  # for a control loop, not for a conversion
    assert "drop" not in hint
    assert "card to" not in hint


def test_a_camera_may_not_change_its_size(policy: Policy):
    act(policy)
    with pytest.raises(DataError, match="changed from 64 x 64"):
        act(policy, {"img": np.zeros((128, 128, 3), np.uint8)})
    policy.reset()
    act(policy, {"img": np.zeros((128, 128, 3), np.uint8)})


def test_another_control_rate_is_refused(policy: Policy):
    act(policy, rate=10.0)
    with pytest.raises(MismatchError, match="30 Hz"):
        act(policy, rate=30.0)


def test_stale_parts_are_refused(policy: Policy):
    act(policy, stamps={"img": 10.0, "state": 10.05})
    with pytest.raises(DataError, match="the call before"):
        act(policy, stamps={"img": 10.0, "state": 10.05})
    with pytest.raises(DataError, match=r"'img' is stale: 0\.900 s"):
        act(policy, stamps={"img": 10.1, "state": 11.0})
    with pytest.raises(DataError, match="not uint8"):
        act(policy, {"img": PICTURE / 255}, stamps={"img": 11.1, "state": 11.1})
    act(policy, stamps={"img": 11.1, "state": 11.1})


def test_frozen_pictures_and_odd_states_are_counted(policy: Policy):
    act(policy)
    act(policy)  # nothing moved, so an equal picture is right
    assert policy.counts == Counts(calls=2, clipped=policy.counts.clipped)
    act(policy, state=NATIVE + 1)
    assert policy.counts.frozen == 1
    policy.space.state.std[:] = 0.01
    act(policy, state=NATIVE - 200)
    assert policy.counts.outside == 2
    twin = policy.twin()
    assert twin.counts == Counts()
    assert twin.model is policy.model


def test_wrist_pictures_that_do_not_fit_are_counted(untrained, tmp_path: Path):
    both = untrained(tmp_path / "so101", "so101", HEAD | {"left_wrist": (64, 64)})
    policy = Policy.load(both)
    views = [camera.name for camera in policy.card.cameras][:2]
    state = policy.space.adapter.decode_state(np.asarray(policy.card.home()))
    for shape, misfits in (((64, 64), 0), ((96, 96), 0), ((32, 64), 1), ((8, 8), 2)):
        wrist = np.zeros((*shape, 3), np.uint8)
        policy.guard.reset()
        policy.act(dict(zip(views, (PICTURE, wrist), strict=True)), state, "push the block")
        assert policy.counts.misfit == misfits


def test_actions_are_cut_to_limits_and_counted(policy: Policy):
    policy.space.action.mean[:] = 10.0  # metres, far beyond the plane
    actions = act(policy)
    np.testing.assert_allclose(actions, 512.0)
    assert policy.counts.clipped == actions.size


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_actions_that_are_not_finite_are_refused(policy: Policy, wrong: float):
    policy.space.action.mean[0] = wrong
    with pytest.raises(DataError, match="not finite"):
        act(policy)
    with pytest.raises(DataError, match="not finite"):
        policy.act_batch([Observation({"img": PICTURE}, NATIVE)], ["push the block"], [1])


def test_joints_are_cut_to_their_speed():
    card, counts = load_card("aloha"), Counts()
    limits = Limits(card, rate=50.0)
    state = np.asarray(card.home())
    wanted = np.tile(state, (1, 20, 1))
    wanted[..., 0] += 2.0  # rad, at once
    wanted[..., 6] = 1.0  # a gripper may be told to open at once
    cut = limits(wanted, state[None], counts)
    steps = np.diff(cut[0, :, 0])
    speed = card.arms[0].joints[0].velocity
    assert cut[0, 0, 0] - state[0] == pytest.approx(speed * (0.02 + LAG))
    assert steps.max() <= speed * 0.02 + 1e-12
    np.testing.assert_array_equal(cut[..., 6], 1.0)
    assert counts.slowed == int((cut != wanted).sum()) > 0
    still = limits(np.tile(state, (1, 5, 1)), state[None], counts)
    np.testing.assert_array_equal(still[0], np.tile(state, (5, 1)))


def test_chunks_are_told_at_the_control_rate(untrained, tmp_path: Path):
    slow = Policy.load(untrained(tmp_path / "slow", "pusht", HEAD, rate=2.5))
    assert slow.rows == 32
    rows = act(slow)
    assert rows.shape == (32, 2)
    canvas = slow.guard.canvas({"img": PICTURE})[None]
    own = slow.denoise(canvas, slow.guard.state(NATIVE)[None], ["push the block"], slow.noise([0]))
    told = slow.space.decode_actions(own, slow.guard.state(NATIVE)[None])[0] / 0.001
    np.testing.assert_allclose(rows[::4], np.clip(told, 0, 512), atol=1e-4)
    middle = (rows[0] + rows[4]) / 2
    inside = (rows[:5] > 0).all() and (rows[:5] < 512).all()
    assert not inside or np.allclose(rows[2], middle, atol=1e-4)


has_franka = pytest.mark.skipif(find_spec("gym_hil") is None, reason="gym-hil has the model")


@has_franka
def test_kinematics_without_meshes_give_the_same_poses(tmp_path: Path):
    card = load_card("franka")
    file = tmp_path / "kinematics.xml"
    file.write_text(kinematic_model(card))
    text = file.read_text()
    assert "<asset" not in text
    assert "file=" not in text
    own = card.model_copy(update={"model": card.model.model_copy(update={"file": str(file)})})
    state = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 8)) + np.asarray(card.home())
    state[:, -1] = np.linspace(0, 1, 20)
    whole, small = Kinematics(card), Kinematics(own)
    np.testing.assert_allclose(small.poses(state), whole.poses(state), atol=1e-5)
    np.testing.assert_allclose(small.motion(state)[0], whole.motion(state)[0], atol=1e-5)


@has_franka
def test_a_pose_policy_runs_where_its_robot_model_is_not_installed(untrained, tmp_path: Path):
    views = {"head": (64, 64), "left_wrist": (64, 64)}
    folder = untrained(tmp_path / "franka", "franka", views)
    script = f"""
import sys, numpy as np
from importlib.util import find_spec
import importlib.util
importlib.util.find_spec = lambda name, *rest: None if name == "gym_hil" else find_spec(name, *rest)
from motus_adapters import Policy
policy = Policy.load({str(folder)!r})
picture = np.zeros((64, 64, 3), np.uint8)
state = policy.space.adapter.decode_state(np.asarray(policy.card.home()))
print(policy.act({{"front": picture, "wrist": picture}}, state, "pick")[0].tolist())
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    policy = Policy.load(folder)
    picture = np.zeros((64, 64, 3), np.uint8)
    state = policy.space.adapter.decode_state(np.asarray(policy.card.home()))
    here = policy.act({"front": picture, "wrist": picture}, state, "pick")
    np.testing.assert_allclose(json.loads(ran.stdout), here[0], atol=1e-9)
