"""`motus add-embodiment` and `motus embodiments`, as a person and as a program use them."""

import json
import os
import pty
import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path

import pytest

from tests.embodiments.conftest import ARM

MOTUS = Path(sys.executable).with_name("motus")
TOY = ["add-embodiment", "toy", "--model", "toy.xml", "--anchor", "0"]
SAID = ["--end-effector", "grip", "--side", "left", "--rate", "10", "--action", "joint_position"]
REST = ["--cameras", "front=head", "--gripper-values", "0", "0.08"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "toy.xml").write_text(ARM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_draft_does_not_validate_until_it_is_filled_in(folder, motus):
    code, _, err = astuple(motus(*TOY, *SAID, "--draft"))
    assert code == 0, err
    path = folder / "embodiments/toy.yaml"
    text = path.read_text()
    assert "'?'" in text
    assert "gripper_values" in text.splitlines()[1] + text.splitlines()[2]
    code, _, err = astuple(motus("embodiments", "check", "toy"))
    assert code == 2
    assert "arms.0.gripper.closed" in err
    assert "cameras" in err
    assert "what recordings hold when the gripper is closed" in err
    code, out, _ = astuple(motus("embodiments", "list", "--json"))
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)["embodiments"]}
    assert "not valid" in rows["toy"]["title"]
    filled = text.replace("closed: '?'", "closed: 0").replace("open: '?'", "open: 0.08")
    path.write_text(filled.replace("cameras: '?'", "cameras: []"))
    code, out, err = astuple(motus("embodiments", "check", "toy"))
    assert code == 0, err


@pytest.mark.parametrize("more", [[], ["--draft"], [*REST], ["--resume"]])
@pytest.mark.parametrize("name", ["../evil", "My Robot"])
def test_a_name_that_no_card_can_have_is_refused_first(folder, motus, name, more):
    before = sorted(folder.parent.rglob("*"))
    ran = motus("add-embodiment", "--model", "toy.xml", "--anchor", "0", *SAID, *more, "--", name)
    assert ran.code == 2
    assert f"'{name}' is no name of a robot" in ran.err
    assert sorted(folder.parent.rglob("*")) == before


def test_a_card_whose_file_is_called_otherwise_is_listed_as_not_valid(folder, motus):
    assert motus("add-embodiment", "pusht").code == 0
    (folder / "embodiments/pusht.yaml").rename(folder / "embodiments/mine.yaml")
    rows = json.loads(motus("embodiments", "list", "--json").out)["embodiments"]
    titles = {row["name"]: row["title"] for row in rows}
    assert titles["mine"] == "not valid; `motus embodiments check mine` says why"
    assert "is called 'pusht'" in motus("embodiments", "check", "mine").err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["left=grip", "--end-effector", "left=palm"], "twice for 'left': grip and palm"),
        (["left=grip", "--end-effector", "right=palm"], "the side is given as left"),
        (["grip", "--cameras", "front=left_wrist"], "twice for 'front': head and left_wrist"),
        (["grip", "--arm", "left=a:b"], "--arm has no meaning for a model\n\nhint: leave it out"),
        (["grip", "--home", "rest"], "no keyframe 'rest'\n\nhint: none is known here"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(folder, motus, more, says):
    path = folder / "toy.xml"
    path.write_text(path.read_text().replace('key name="home"', "key"))
    ran = motus(*TOY, *SAID[2:], *REST, "--end-effector", *more)
    assert ran.code == 2
    assert says in ran.err


def test_a_draft_needs_an_end_effector(folder, motus):
    code, _, err = astuple(motus(*TOY, "--draft"))
    assert code == 2
    assert "--end-effector: one of grip" in err
    assert not (folder / "embodiments").exists()


def test_on_a_terminal_it_asks(folder):
    """Wrong answers are asked for again."""
    answers = ["nonsense", "grip", "left", "0", "-3", "fast", "10", "joint_position", "front=hed"]
    answers += ["front=head", "1 1", "0 0.08 1", "0 nan", "0 0.08"]
    main, side = pty.openpty()
    process = subprocess.Popen(
        [MOTUS, *TOY], stdin=side, stdout=side, stderr=side, env=os.environ | {"TERM": "dumb"}
    )
    os.close(side)
    told = ""
    for answer in answers:
        told += read_until(main, "leaves it open)")
        os.write(main, f"{answer}\n".encode())
    told += read_until(main, "written")
    assert process.wait(60) == 0, told
    os.close(main)
    assert "--end-effector: one of grip" in told
    assert "no site or body 'nonsense'" in told
    for rate in (0, -3):
        assert f"a rate of {rate} Hz is too slow; at least 0.01 Hz" in told
    assert "'fast' is no number" in told
    assert "'hed' is no role; did you mean 'head'?" in told
    assert "'1 1' is not closed and open, two numbers that differ" in told
    assert "'0 0.08 1' is not closed and open" in told
    assert "'nan' is no number" in told
    card = (folder / "embodiments/toy.yaml").read_text()
    assert "end_effector: grip" in card
    assert "rate: 10.0" in card


def test_an_empty_answer_leaves_a_mark(folder):
    main, side = pty.openpty()
    process = subprocess.Popen(
        [MOTUS, *TOY, *SAID, *REST[:2]], stdin=side, stdout=side, stderr=side
    )
    os.close(side)
    told = read_until(main, "leaves it open)")
    os.write(main, b"\n")
    told += read_until(main, "fill in what is marked")
    assert process.wait(60) == 0, told
    os.close(main)
    assert "closed: '?'" in (folder / "embodiments/toy.yaml").read_text()


def test_interrupted_at_a_question_nothing_is_written(folder):
    main, side = pty.openpty()
    process = subprocess.Popen([MOTUS, *TOY], stdin=side, stdout=side, stderr=side)
    os.close(side)
    read_until(main, "leaves it open)")
    os.write(main, b"\x04")
    told = read_until(main, "interrupted")
    assert process.wait(60) == 130, told
    os.close(main)
    assert not (folder / "embodiments").exists()


def read_until(main, text):
    told, deadline = "", time.monotonic() + 90
    while text not in told and time.monotonic() < deadline:
        told += os.read(main, 4096).decode(errors="replace")
    assert text in told
    return told


def test_pictures_and_differences(folder, motus):
    code, _, err = astuple(motus(*TOY, *SAID, *REST))
    assert code == 0, err
    code, out, err = astuple(motus("embodiments", "show", "toy", "--picture", "toy.png", "--json"))
    assert code == 0, err
    assert json.loads(out)["views"] == ["at home", "front (head)"]
    assert (folder / "toy.png").read_bytes().startswith(b"\x89PNG")
    assert motus("embodiments", "show", "toy", "--picture", "toy.png").code == 2  # it is there
    other = folder / "other.yaml"
    text = (folder / "embodiments/toy.yaml").read_text()
    other.write_text(text.replace("high: 2.0", "high: 1.5"))
    code, out, _ = astuple(motus("embodiments", "diff", "toy", "other.yaml", "--json"))
    assert code == 1
    rows = [r for r in json.loads(out)["differences"] if r["key"] != "model.file"]
    assert rows == [{"key": "arms.left.joints.turn.high", "old": 2.0, "new": 1.5}]
    assert motus("embodiments", "diff", "toy", "toy").code == 0


@pytest.mark.parametrize(
    ("file", "says"), [("embodiments", "is a folder"), ("toy.jpg", "is no name of a PNG")]
)
def test_a_picture_is_a_file_and_a_png(folder, motus, file, says):
    assert motus(*TOY, *SAID, *REST).code == 0
    ran = motus("embodiments", "show", "toy", "--picture", file, "--force")
    assert ran.code == 2
    assert f"--picture {file} {says}" in ran.err
    assert not (folder / "toy.jpg").exists()


def test_a_robot_without_a_model_has_no_picture(folder, motus):
    code, _, err = astuple(motus("embodiments", "show", "pusht", "--picture", "x.png"))
    assert code == 3
    assert "no robot model" in err


def test_no_card_is_written_where_its_anchoring_data_have_no_room(folder, motus):
    taken = folder / "data/toy-anchor/mine.txt"
    taken.parent.mkdir(parents=True)
    taken.write_text("mine")
    for said in ([*SAID, *REST], []):  # and before anything is asked
        ran = motus(*TOY[:-2], *said)
        assert ran.code == 2
        assert "data/toy-anchor is not empty" in ran.err
    assert not (folder / "embodiments").exists()
    assert motus(*TOY, *SAID, *REST).code == 0  # none are wanted
    ran = motus(*TOY, *SAID, *REST)
    assert ran.code == 2
    assert "--resume" in ran.err
    taken.unlink()
    wrist = ["--cameras", "front=left_wrist", *REST[2:], "--force"]
    ran = motus(*TOY[:-2], *SAID, *wrist)
    assert ran.code == 0, ran.err
    assert "no head camera of 'toy' can be rendered" in ran.err


def test_a_resumed_command_keeps_its_card_and_says_so(folder, motus):
    path = folder / "embodiments/toy.yaml"
    assert json.loads(motus(*TOY, *SAID, *REST, "--resume", "--json").out)["written"] is True
    text = path.read_text()
    for more in ([*TOY, *SAID, *REST], [*TOY], ["add-embodiment", "toy", "--anchor", "0"]):
        ran = motus(*more, "--resume", "--json")
        assert json.loads(ran.out)["written"] is False
    path.write_text(text.replace("rate: 10.0", "rate: 20.0"))
    ran = motus(*TOY, *SAID, *REST, "--resume")
    assert ran.code == 2
    assert "rate 20.0 there, 10.0 by the options" in ran.err
    assert motus("add-embodiment", "toy", "--rate", "10", "--resume").code == 2
    (folder / "toy.xml").write_text(ARM.replace('"-1.2 1.2"', '"-1 1.2"'))
    assert "arms.left.joints.lift.low -1.2 there, -1.0 by" in motus(*TOY, "--resume").err
    assert path.read_text() == text.replace("rate: 10.0", "rate: 20.0")


@pytest.mark.parametrize("flag", ["--force", "--draft"])
def test_resume_goes_with_neither_force_nor_draft(folder, motus, flag):
    ran = motus(*TOY, *SAID, *REST, "--resume", flag)
    assert ran.code == 2
    assert f"--resume and {flag} contradict each other" in ran.err


def test_stopped_before_its_card_is_written_it_does_not_say_resume(folder, motus, monkeypatch):
    def stop(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("motus_embodiments.add_embodiment", stop, raising=False)
    ran = motus(*TOY, *SAID, *REST, "--force")
    assert ran.code == 130
    assert "interrupted before a card was written" in ran.err
    assert "--resume" not in ran.err


def test_actions_of_an_end_effector_need_its_poses(folder, motus):
    path = folder / "embodiments/told.yaml"
    path.parent.mkdir()
    card = (
        "{name: told, title: t, rate: 10, action: {representation: ee_pose, relative: true}, arms: "
        "[{side: left, joints: [{name: x, unit: rad}], pose: rpy}]}"
    )
    path.write_text(card)
    assert motus("embodiments", "check", "told").code == 0
    path.write_text(card.replace(", pose: rpy", ""))
    ran = motus("embodiments", "check", "told")
    assert ran.code == 1
    assert "no end-effector poses, which ee_pose needs" in " ".join(ran.out.split())


def test_a_model_that_is_not_here_is_no_fault_of_the_card(folder, motus):
    assert motus(*TOY, *SAID, *REST).code == 0
    (folder / "toy.xml").rename(folder / "elsewhere.xml")
    ran = motus("embodiments", "check", "toy")
    assert ran.code == 3
    assert "put the model back at" in ran.err
    assert "mend the card" not in ran.err


DATASET = {
    "codebase_version": "v3.0",
    "fps": 30,
    "features": {
        "observation.state": {
            "dtype": "float32",
            "shape": [7],
            "names": ["j1.pos", "j2.pos", "j3.pos", "j4.pos", "j5.pos", "j6.pos", "gripper.pos"],
        },
        "action": {
            "dtype": "float32",
            "shape": [7],
            "names": ["j1.pos", "j2.pos", "j3.pos", "j4.pos", "j5.pos", "j6.pos", "gripper.pos"],
        },
        "observation.images.front": {"dtype": "video", "shape": [480, 640, 3]},
    },
}


def test_a_robot_that_only_a_dataset_knows(folder, motus):
    meta = folder / "data/meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(DATASET))
    stats = {"min": [-90.0] * 6 + [2.0], "max": [95.0] * 6 + [98.0], "mean": [10.0] * 6 + [50.0]}
    (meta / "stats.json").write_text(json.dumps({"observation.state": stats}))
    code, _, err = astuple(motus("add-embodiment", "arm", "--from-dataset", "data"))
    assert code == 2
    assert "--unit: deg, as they are too large for rad: values span -90 to 95" in err
    assert "values span 2 to 98" in err
    said = ["--side", "left", "--unit", "deg", "--action", "joint_position"]
    said += ["--cameras", "front=head", "--gripper-values", "0", "100"]
    code, _, err = astuple(motus("add-embodiment", "arm", "--from-dataset", "data", *said))
    assert code == 0, err
    assert motus("embodiments", "check", "arm").code == 0
    text = (folder / "embodiments/arm.yaml").read_text()
    assert "name: gripper.pos" in text
    assert "rate: 30.0" in text
    assert "limits are unknown" in " ".join(text.split())
    code, _, err = astuple(motus("add-embodiment", "x", "--from-dataset", "data", "--home", "rest"))
    assert code == 2
    assert "--home has no meaning for a dataset" in err
    (meta / "info.json").write_text("{")
    assert motus("add-embodiment", "y", "--from-dataset", "data").code == 4
    assert motus("add-embodiment", "z", "--from-dataset", "nowhere").code == 4
