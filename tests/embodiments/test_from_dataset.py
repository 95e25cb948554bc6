"""Cards from the metadata of LeRobot datasets, of every version and flavour of names."""

import json

import numpy as np
import pytest

from motus_embodiments import ActionAdapter, DataError, UsageError, add_embodiment, draft_embodiment
from motus_embodiments.drafting.from_dataset import read_metadata
from tests.embodiments.test_real_recordings import gr1

TWO_ARMS = [f"{side}_{name}.pos" for side in ("right", "left") for name in ("a", "b", "gripper")]
OPTIONS = {
    "action": "joint_position", "unit": "rad", "gripper_values": (0, 1),
    "cameras": {"top": "head"},
}  # fmt: skip


def write(folder, names, *, stats="v3.0", width=6, fps=25):
    """meta/ of a dataset; statistics as v3.0 or as v2.1 keeps them."""
    feature = {"dtype": "float32", "shape": [width], "names": names}
    info = {
        "fps": fps,
        "features": {
            "observation.state": feature,
            "action": feature,
            "observation.images.top": {"dtype": "video", "shape": [48, 64, 3]},
        },
    }
    meta = folder / "meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(info))
    low, high = np.arange(width) / 10, np.arange(width) / 10 + 0.5
    if stats == "v3.0":
        own = {"min": low.tolist(), "max": high.tolist(), "mean": low.tolist(), "q50": low.tolist()}
        (meta / "stats.json").write_text(json.dumps({"observation.state": own}))
    elif stats == "v2.1":
        rows = [
            {"min": (low + i).tolist(), "max": (high + i).tolist(), "mean": (low + i).tolist(),
             "count": [10 * (i + 1)]}
            for i in range(2)
        ]  # fmt: skip
        lines = [json.dumps({"episode_index": i, "stats": {"observation.state": row}})
                 for i, row in enumerate(rows)]  # fmt: skip
        (meta / "episodes_stats.jsonl").write_text("\n".join(lines))
    return folder


def test_names_tell_arms_grippers_and_the_recordings_order(tmp_path):
    card, _ = add_embodiment(
        "two", dataset=write(tmp_path / "d", TWO_ARMS), folder=tmp_path, **OPTIONS
    )
    assert [arm.side for arm in card.arms] == ["left", "right"]
    assert [joint.name for joint in card.arms[0].joints] == ["left_a.pos", "left_b.pos"]
    assert card.arms[1].gripper_name == "right_gripper.pos"
    assert card.rate == 25
    assert card.state_order == tuple(TWO_ARMS) == card.action_order
    native = np.arange(6.0)[None] / 10
    state = ActionAdapter(card).encode_state(native)
    np.testing.assert_allclose(state, [[0.3, 0.4, 0.5, 0.0, 0.1, 0.2]])
    assert card.arms[0].joints[0].home == 0.3  # the middle of what was recorded
    assert card.arms[0].joints[0].low is None  # a recording shows no limits
    assert "left_a.pos 0.3 to 0.8" in card.notes


@pytest.mark.parametrize(
    "names", [TWO_ARMS, [TWO_ARMS], {"motors": TWO_ARMS}, {n: [n] for n in TWO_ARMS}]
)
def test_every_way_of_writing_names(tmp_path, names):
    assert read_metadata(write(tmp_path, names)).names == tuple(TWO_ARMS)


def test_statistics_of_episodes_are_merged(tmp_path):
    facts = read_metadata(write(tmp_path, TWO_ARMS, stats="v2.1"))
    np.testing.assert_allclose(facts.low, np.arange(6) / 10)
    np.testing.assert_allclose(facts.high, np.arange(6) / 10 + 1.5)
    np.testing.assert_allclose(facts.middle, np.arange(6) / 10 + 2 / 3)  # 10 and 20 frames


def test_without_names_and_statistics_everything_is_asked(tmp_path):
    draft = draft_embodiment("x", dataset=write(tmp_path, None, stats=""))
    assert {"side", "arm", "unit", "action", "cameras"} <= set(draft.missing)
    assert "channel_0" in draft.missing["arm"]
    with pytest.raises(UsageError, match="cannot say"):
        add_embodiment("x", dataset=tmp_path, folder=tmp_path / "own")


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ({"arm": {"left": "left_a.pos:left_x.pos"}}, "left_b.pos"),
        ({"gripper": ("left_griper.pos",)}, "left_gripper.pos"),
        ({"cameras": {"tip": "head"}}, "top"),
    ],
)
def test_wrong_names_give_the_nearest(tmp_path, option, hint):
    write(tmp_path, TWO_ARMS)
    with pytest.raises(UsageError) as caught:
        add_embodiment("x", dataset=tmp_path, folder=tmp_path / "own", **(OPTIONS | option))
    assert hint in caught.value.hint or "left_a.pos" in caught.value.hint


def test_a_side_that_is_given_decides_or_contradicts(tmp_path):
    write(tmp_path, TWO_ARMS)

    def sides(**options):
        draft = draft_embodiment("x", dataset=tmp_path, **options)
        return {arm["side"]: len(arm["joints"]) for arm in draft.data["arms"]}

    span = "left_a.pos:left_gripper.pos"
    assert sides() == {"left": 2, "right": 2}
    assert sides(side="left", arm={"left": span}) == {"left": 2}
    with pytest.raises(UsageError, match=r"one arm, left, and the channels of .* left and right"):
        sides(side="left")
    with pytest.raises(UsageError, match="one arm, right, and --arm that there is left"):
        sides(side="right", arm={"left": span})


@pytest.mark.parametrize("action", ["ee_pose", "ee_position"])
def test_end_effector_actions_need_poses_that_no_metadata_tell(tmp_path, action):
    write(tmp_path, TWO_ARMS)
    with pytest.raises(UsageError, match=f"which {action} needs") as caught:
        add_embodiment("x", dataset=tmp_path, folder=tmp_path, **(OPTIONS | {"action": action}))
    assert "--draft" in caught.value.hint
    assert "pose" in caught.value.hint


@pytest.mark.parametrize("broken", ["info", "stats", "none", "two"])
def test_damaged_metadata_is_bad_data(tmp_path, broken):
    if broken != "none":
        write(tmp_path / "a", TWO_ARMS)
    if broken == "two":
        write(tmp_path / "b", TWO_ARMS)
    if broken in ("info", "stats"):
        (tmp_path / f"a/meta/{broken}.json").write_text("[")
    with pytest.raises(DataError):
        draft_embodiment("x", dataset=tmp_path)


def test_a_real_dataset(shared_data, tmp_path):
    """GR00T's GR-1, whose metadata names its channels motor_0 to motor_43."""
    card, _ = add_embodiment(
        "gr", dataset=shared_data / "lerobot_v20_gr1_sim", folder=tmp_path, unit="rad",
        arm={"left": "motor_0:motor_6", "right": "motor_22:motor_28"}, action="joint_position",
        cameras={"ego_view": "head"},
    )  # fmt: skip
    assert card.rate == 20
    adapter = ActionAdapter(card)
    for state, action in gr1(shared_data):
        for kind, native in (("state", state), ("action", action)):
            canonical = getattr(adapter, f"encode_{kind}")(native)
            adapter.check(canonical, kind)
            np.testing.assert_allclose(getattr(adapter, f"decode_{kind}")(canonical), native)
