"""Mappings: what a file may say, what it does to numbers and pictures, what is proposed."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from layouts.act import write_act
from layouts.libero import write_libero
from layouts.motus import write_motus
from layouts.rdt import write_rdt
from layouts.robotwin import NEW_CAMERAS, OLD_CAMERAS, write_robotwin_new, write_robotwin_old
from layouts.truth import Truth, make_truth

from motus_adapters import ColumnMap, convert, inspect_source, open_source
from motus_adapters.conversion.canonical import numbers_of
from motus_adapters.readers import Part
from motus_embodiments import Card, DataError, UsageError, load_card


def card(unit="rad", **gripper):
    """One arm of two joints and a gripper; what one dataset says otherwise must win."""
    joints = [{"name": n, "unit": unit, "low": -3, "high": 3} for n in ("a", "b")]
    return Card.model_validate(
        {
            "name": "stage",
            "title": "A stage",
            "arms": [{"side": "left", "joints": joints, "gripper": gripper}],
            "cameras": [{"name": "top", "role": "head"}],
            "rate": 10,
            "action": {"representation": "joint_position"},
        }
    )


@pytest.fixture
def source(tmp_path):
    """States of two joints in rad and a gripper, with what ACT's layout does not say."""
    truth = make_truth(0, ("top",), (3, 3))
    truth.state[:, 2] = truth.action[:, 2] = np.linspace(0, 1, len(truth.state))
    return write_act(tmp_path / "act", [truth]), truth


def read(path, **mapping):
    return open_source(path, mapping=mapping)[1][0]


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"stat": ["a"]}, "unknown key 'stat'", "did you mean 'state'?"),
        ({"state": [{"column": "a", "unti": "deg"}]}, "'unti' in state.0", "'unit'"),
        ({"cameras": {"head": {"camera": "a", "flip": True}}}, "'flip' in cameras.head", "known"),
        ({"cameras": {"heat": "a"}}, "unknown camera role 'heat'", "did you mean 'head'?"),
        ({"state": [{"column": "a", "unit": "inch"}]}, "state.0.unit", "convert.md"),
        ({"state": [{"column": "a", "closed": 1}]}, "closed and open belong together", None),
        ({"state": [{"column": "a", "closed": 1, "open": 1}]}, "are both 1", None),
        ({"state": [{"column": "a", "sign": -1}]}, "sign needs the unit", None),
        ({"state": [{"column": "a", "unit": "rad", "scale": 2}]}, "not both", None),
        ({"rate": -3}, "rate: Input should be greater than 0", None),
        ({"action_kind": "poses"}, "action_kind", None),
    ],
)
def test_what_is_wrong_is_named(tmp_path, given, message, hint):
    file = tmp_path / "map.yaml"
    file.write_text(yaml.safe_dump(given))
    with pytest.raises(UsageError) as caught:
        ColumnMap.read(file)
    assert message in caught.value.message
    assert str(file) in caught.value.message
    assert (hint or "") in (caught.value.hint or "")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"state: [", b"- a\n- b\n", None])
def test_files_that_are_no_mapping(tmp_path, content):
    file = tmp_path / "map.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"map\.yaml"):
        ColumnMap.read(file)


_NUMBERS = st.floats(0.01, 100)
_PARTS = st.one_of(
    st.sampled_from(["a", "b[0:3]"]),
    st.builds(Part, column=st.just("a"), unit=st.sampled_from(["rad", "deg", "mm"])),
    st.builds(Part, column=st.just("a[1]"), scale=_NUMBERS, sign=st.sampled_from([1, -1, None])),
    st.builds(Part, column=st.just("g"), closed=st.just(0.0), open=_NUMBERS),
)


@given(
    st.builds(
        ColumnMap,
        state=st.none() | st.lists(_PARTS, max_size=3).map(tuple),
        cameras=st.dictionaries(st.sampled_from(["head", "left_wrist"]), st.just("top")),
        rate=st.none() | _NUMBERS,
        task=st.none() | st.text(max_size=5),
    )
)
def test_what_is_noted_reads_back(mapping):
    assert ColumnMap.read(mapping.to_dict()) == mapping


def test_parts_are_brought_to_si(source):
    path, truth = source
    mapped = read(
        path,
        state=[
            {"column": "observations/qpos[1]", "unit": "deg", "sign": -1},
            {"column": "observations/qpos[0]", "scale": 0.5},
            {"column": "observations/qpos[2]", "closed": 1, "open": 0},
        ],
    )
    wanted = truth.state[:, [1, 0, 2]].astype(np.float64)
    wanted *= [-np.pi / 180, 0.5, -1]
    wanted[:, 2] += 1
    np.testing.assert_allclose(mapped.state, wanted, atol=1e-7)


def test_the_units_of_a_mapping_replace_the_cards(source):
    """The card says degrees and a gripper of 0 to 100; this dataset is in rad and 0 to 1."""
    path, truth = source
    robot = card("deg", closed=0, open=100)
    native = numbers_of(read(path), robot)
    np.testing.assert_allclose(native.state[:, 0], truth.state[:, 0] * np.pi / 180, atol=1e-7)
    np.testing.assert_allclose(native.state[:, 2], truth.state[:, 2] / 100, atol=1e-7)
    for what in ("observations/qpos", "action"):
        told = [
            {"column": f"{what}[0:2]", "unit": "rad"},
            {"column": f"{what}[2]", "closed": 0, "open": 1},
        ]
        numbers = numbers_of(read(path, **{"action" if what == "action" else "state": told}), robot)
        found = numbers.action if what == "action" else numbers.state
        wanted = truth.action if what == "action" else truth.state
        np.testing.assert_allclose(found, wanted, atol=1e-7)


def test_pictures_are_put_right_as_the_mapping_says(source):
    path, truth = source
    view = {"camera": "top", "upside_down": True, "swap_colours": True}
    frame = next(read(path, cameras={"head": view}).frames("top"))
    np.testing.assert_array_equal(frame, truth.frames["top"][0][::-1, :, ::-1])
    assert frame.flags.c_contiguous


def test_a_camera_that_one_recording_lacks(tmp_path):
    path = write_act(tmp_path / "act", [make_truth(i, ("top", "side"), (3, 3)) for i in range(2)])
    write_act(tmp_path / "other", [make_truth(0, ("side",), (3, 3))])
    (tmp_path / "other/episode_0.hdf5").rename(path / "episode_7.hdf5")
    with pytest.raises(DataError, match="episode_7 has no camera 'top' for the head view"):
        convert(path, tmp_path / "set", card=card(), codec=None, allow={"motion"})
    report = convert(
        path, tmp_path / "set", card=card(), codec=None, allow={"motion"}, skip_bad=True
    )
    assert report.episodes == 2
    assert [name for name, _ in report.skipped] == ["episode_7"]


def test_recordings_without_pictures_are_refused_with_the_way_out(shared_data, tmp_path):
    with pytest.raises(DataError, match="has no pictures") as caught:
        convert(shared_data / "robosuite_panda_human", tmp_path / "set", card="franka", codec=None)
    assert "dataset_states_to_obs" in caught.value.hint


def fourteen(i: int, cameras: tuple[str, ...]) -> Truth:
    return make_truth(i, cameras, (14, 14), "fold", 30.0, (72, 64))


@pytest.mark.parametrize(
    ("write", "cameras"),
    [
        (write_act, ("cam_high",)),
        (write_rdt, ("cam_high",)),
        (write_robotwin_old, OLD_CAMERAS),
        (write_robotwin_new, NEW_CAMERAS),
        (write_motus, ("video",)),
    ],
)
def test_what_is_proposed_gives_what_the_layout_gives(tmp_path, write, cameras):
    path = write(tmp_path / "recordings", [fourteen(i, cameras) for i in range(2)])
    file = tmp_path / "map.yaml"
    report = inspect_source(path, card="aloha", map_out=file)
    assert ColumnMap.read(file) == ColumnMap.read(report.mapping)
    plain, mapped = open_source(path)[1][1], open_source(path, mapping=file)[1][1]
    robot, allow = load_card("aloha"), frozenset({"pairs"})
    before, after = numbers_of(plain, robot, allow), numbers_of(mapped, robot, allow)
    np.testing.assert_allclose(after.state, before.state, atol=1e-12)
    np.testing.assert_allclose(after.action, before.action, atol=1e-12)
    assert mapped.task == plain.task
    assert "head" in mapped.mapping.cameras


def test_degrees_and_raw_grippers_are_recognised(tmp_path):
    truth = fourteen(0, ("cam_high",))
    for values in (truth.state, truth.action):
        values *= 20  # rad, well inside the limits
        values[:] = np.clip(values, -0.3, 0.3)
        values *= 180 / np.pi
        values[:, [6, 13]] = np.linspace(0, 255, len(values))[:, None]
    path = write_act(tmp_path / "act", [truth])
    with pytest.raises(DataError):
        numbers_of(open_source(path)[1][0], load_card("aloha"))
    file = tmp_path / "map.yaml"
    report = inspect_source(path, card="aloha", map_out=file)
    remarks = [part.remark for part in report.proposal if "gripper" in part.channels]
    assert all("guessed from the range" in remark for remark in remarks)
    numbers = numbers_of(open_source(path, mapping=file)[1][0], load_card("aloha"))
    np.testing.assert_allclose(numbers.state[:, 0], truth.state[:, 0] * np.pi / 180, atol=1e-6)
    assert numbers.state[:, 6].max() == pytest.approx(1)


def test_what_a_mapping_puts_right_is_proposed_again(tmp_path):
    path = write_act(tmp_path / "recordings", [fourteen(i, ("cam_high",)) for i in range(2)])
    view = {"camera": "cam_high", "upside_down": True}
    given = {"cameras": {"head": view}, "rate": 30000 / 1001, "state": [], "action": ["action"]}
    report = inspect_source(path, card="aloha", mapping=given)
    found = ColumnMap.read(report.mapping)
    assert found.cameras == ColumnMap.read(given).cameras
    assert found.rate == pytest.approx(30000 / 1001, abs=1e-9)
    assert found.state == ()


def test_a_view_that_the_first_recording_lacks_is_proposed(tmp_path):
    views = [("cam_high",), ("cam_high", "cam_left_wrist")]
    path = write_act(tmp_path / "recordings", [fourteen(i, v) for i, v in enumerate(views)])
    report = inspect_source(path, card="aloha")
    assert set(ColumnMap.read(report.mapping).camera_names) == {"head", "left_wrist"}


def test_actions_that_cannot_be_converted_are_made_from_the_state(tmp_path):
    path = write_libero(tmp_path / "x_demo.hdf5", [make_truth(0, ("agentview_rgb",), (8, 7))])
    report = inspect_source(path, card="franka")
    assert report.mapping["action"] == []
    assert report.mapping["state"][0] == "obs/joint_states"


def test_a_source_that_no_card_fits_is_described_all_the_same(tmp_path):
    path = write_act(tmp_path / "act", [make_truth(0, ("left", "gripper_cam"), (5, 5))])
    file = tmp_path / "map.yaml"
    report = inspect_source(path, map_out=file)
    assert report.embodiments == ()
    assert "no card" in file.read_text()
    assert ColumnMap.read(file).state == ("observations/qpos",)


def test_commands(motus, tmp_path):
    path = write_act(tmp_path / "recordings", [fourteen(i, ("cam_high",)) for i in range(2)])
    ran = motus("inspect", path, "--map-out", "map.yaml")
    assert ran.code == 0
    assert "observations/qpos[0:6]" in ran.out
    assert "--map map.yaml" in ran.err
    again = motus("inspect", path, "--map-out", "map.yaml")
    assert (again.code, "map.yaml exists" in again.err) == (2, True)
    assert motus("inspect", path, "--map-out", "map.yaml", "--force").code == 0
    document = motus("inspect", path, "--map", "map.yaml", "--json").document
    assert document["mapping"]["cameras"] == {"head": "cam_high"}
    assert document["proposal"][0]["column"] == "observations/qpos[0:6]"
    options = ("-e", "aloha", "--codec", "none", "--allow", "motion", "--allow", "pairs")
    done = motus("convert", path, "set", "--map", "map.yaml", *options)
    assert done.code == 0, done.err
    bad = tmp_path / "bad.yaml"
    bad.write_text("state: [observations/qpos, effort]\n")
    refused = motus("convert", path, "other", "--map", bad, *options, "--json")
    assert refused.code == 2
    assert "has no column 'effort'" in refused.document["error"]["message"]
    assert not (tmp_path / "other").exists()
