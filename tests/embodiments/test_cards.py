"""Cards on disk: they load, they say what is wrong with them, and they hash by meaning."""

from pathlib import Path

import pytest
import yaml

import motus_embodiments
from motus_embodiments import (
    Card,
    UsageError,
    add_embodiment,
    card_hash,
    draft_embodiment,
    list_cards,
    load_card,
    save_card,
    write_draft,
)
from motus_embodiments.cards import validated
from tests.embodiments.conftest import OPTIONS

SHIPPED_CARDS = Path(motus_embodiments.__file__).parent / "cards"
NUMBERS = {"low", "high", "home", "velocity", "slack", "scale"}

# Numbers of a recorded state and action.
SHIPPED = {
    "ac-one": (14, 14),
    "agilex-aloha-2": (14, 14),
    "aloha": (14, 14),
    "aloha-wide": (14, 14),
    "baxter": (16, 16),
    "franka": (8, 7),
    "franka-droid": (8, 8),
    "genie-1": (16, 16),
    "gr1": (44, 44),
    "human-hands": (12, 0),
    "iiwa": (8, 8),
    "jaco": (8, 8),
    "kinova3": (8, 8),
    "libero": (8, 7),
    "libero-lerobot": (8, 7),
    "panda-robosuite": (8, 8),
    "pusht": (2, 2),
    "sawyer": (8, 8),
    "sawyer-metaworld": (4, 4),
    "so101": (6, 6),
    "unitree-g1": (28, 28),
    "two-pandas": (16, 16),
    "ur5e": (7, 7),
    "widowx": (7, 7),
    "widowx-bridge": (7, 7),
    "xarm7": (8, 8),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_cards_load_and_name_their_sources(name):
    card = load_card(name)
    assert (len(card.recorded_state), len(card.recorded_action)) == SHIPPED[name]
    assert len(card.home()) == len(card.state_channels)
    assert card.sources
    assert Card.model_validate_json(card.model_dump_json()) == card


def test_all_shipped_cards_are_listed():
    assert {card.name for card, _ in list_cards()} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_number_of_a_shipped_card_has_a_source(name):
    told = " ".join(load_card(name).sources)
    data = yaml.safe_load(SHIPPED_CARDS.joinpath(f"{name}.yaml").read_text())
    for arm in data["arms"]:
        for key in {key for joint in arm.get("joints", ()) for key in joint} & NUMBERS:
            assert f"joints.{key}" in told or "arms.joints (names, limits" in told
        for key in arm.get("gripper", {}).keys() & {"closed", "open", "model_open", "slack"}:
            assert f"gripper.{key}" in told or "arms.gripper," in told
        assert "workspace" not in arm or "arms.workspace" in told
    assert "rate" in told
    assert "cameras" in told


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_without_a_model_says_that_nothing_is_rendered(name):
    card = load_card(name)
    if card.model is None:
        assert (
            "rendered" in card.notes or "rendering" in card.notes or "no robot model" in card.notes
        )


def test_channels_are_in_order_left_first():
    sides = [channel.side for channel in load_card("aloha").state_channels]
    assert sides == ["left"] * 7 + ["right"] * 7
    names = [channel.name for channel in load_card("franka").action_channels]
    assert names == [f"left_{n}" for n in ("x", "y", "z", "rx", "ry", "rz", "gripper")]


def test_unknown_name_gives_the_nearest():
    with pytest.raises(UsageError) as caught:
        load_card("frankaa")
    assert caught.value.message == "no embodiment named 'frankaa'"
    assert caught.value.hint == "did you mean 'franka'?"
    for name, told in (("frankaa", "did you mean 'franka'?"), ("nothing", "known: ac-one, ")):
        with pytest.raises(UsageError, match="comes with motus") as caught:
            add_embodiment(name)
        assert (caught.value.hint or "").startswith(told)


@pytest.mark.parametrize(
    ("where", "key", "valid"),
    [
        ((), "armz", "arms"),
        (("arms", 0), "grippper", "gripper"),
        (("arms", 0, "joints", 2), "hgih", "high"),
        (("action",), "relativ", "relative"),
        (("cameras", 0), "rol", "role"),
    ],
)
def test_unknown_key_is_named_with_the_file_and_the_nearest(tmp_path, where, key, valid):
    data = load_card("franka").model_dump(mode="json", exclude_none=True)
    table = data
    for part in where:
        table = table[part]
    table[key] = 1
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(UsageError) as caught:
        load_card(path)
    assert key in caught.value.message
    assert str(path) in caught.value.message
    assert valid in caught.value.hint


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"rate": "fast"}, "rate"),
        ({"arms": []}, "arms"),
        ({"state_order": ["joint1"]}, "state_order"),
        ({"name": "Franka!"}, "name"),
    ],
)
def test_wrong_values_name_the_key_and_the_file(tmp_path, change, says):
    data = load_card("franka").model_dump(mode="json", exclude_none=True) | change
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(UsageError) as caught:
        load_card(path)
    assert says in caught.value.message
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("where", "key", "value"),
    [
        ((), "rate", float("inf")),
        ((), "rate", True),
        (("cameras", 0, "mount"), "position", [True, 0, 0]),
        (("arms", 0, "joints", 0), "home", float("nan")),
        (("arms", 0, "gripper"), "open", float("nan")),
        (("cameras", 0, "mount"), "position", [float("nan"), 0, 0]),
        (("arms", 0), "workspace", {"low": [0, 0, 0], "high": [1, 1, float("inf")]}),
        (("arms", 0), "workspace", {"low": [0, 1, 0], "high": [1, 0, 1]}),
    ],
)
def test_numbers_that_cannot_be_are_refused(where, key, value):
    data = load_card("ur5e").model_dump()
    table = data
    for part in where:
        table = table[part]
    table[key] = value
    with pytest.raises(
        UsageError, match=r"finite number|no numbers|low 1\.0 of y is not"
    ) as caught:
        validated(data, Path("mine.yaml"))
    assert caught.value.message.startswith(".".join(map(str, (*where, key))))


@pytest.mark.parametrize("text", ["- 1", "a: [", ""])
def test_a_file_that_is_no_card_is_refused(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"mine\.yaml"):
        load_card(path)


def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path):
    text = SHIPPED_CARDS.joinpath("pusht.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text + "rate: 5\n")
    with pytest.raises(UsageError, match="the key 'rate' stands twice") as caught:
        load_card(path)
    assert caught.value.message.endswith(f"line {text.count(chr(10)) + 1}")
    path.write_text(text.replace("side: ", "side: right\n    side: ", 1))
    with pytest.raises(UsageError, match="the key 'side' stands twice"):
        load_card(path)


def test_an_own_card_that_is_called_otherwise_is_not_valid(tmp_path, monkeypatch):
    """Its name would be none that a command takes; by its path it is what it says."""
    monkeypatch.chdir(tmp_path)
    path = save_card(load_card("pusht"), tmp_path / "embodiments")
    path.rename(path.with_name("my-pusht.yaml"))
    with pytest.raises(UsageError, match=r"my-pusht\.yaml is called 'pusht'") as caught:
        load_card("my-pusht")
    assert "write name: my-pusht in it" in caught.value.hint
    assert sum(card.name == "pusht" for card, _ in list_cards()) == 1
    assert load_card("embodiments/my-pusht.yaml") == load_card("pusht")


def test_an_own_card_wins_and_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = load_card("pusht").model_copy(update={"title": "mine"})
    save_card(own, tmp_path / "embodiments")
    assert load_card("pusht").title == "mine"
    with pytest.raises(UsageError, match="exists already"):
        save_card(own, tmp_path / "embodiments")
    save_card(own, tmp_path / "embodiments", force=True)


def test_saved_card_reads_back_equal_with_its_model_file(toy, toy_model):
    path = save_card(toy, toy_model.parent)
    assert yaml.safe_load(path.read_text())["model"]["file"] == "toy.xml"
    assert load_card(path) == toy


def test_hash_follows_meaning_and_not_words():
    card = load_card("franka")
    assert card_hash(card) == card_hash(card.model_copy(update={"title": "x", "notes": "y"}))
    assert card_hash(card) != card_hash(card.model_copy(update={"rate": 20.0}))


def test_cameras_are_found_by_alias_and_lerobot_name():
    card = load_card("aloha")
    assert card.camera("cam_high").role == "head"
    assert card.camera("observation.images.cam_left_wrist").role == "left_wrist"
    assert card.camera("nothing") is None


def test_no_card_is_written_outside_its_folder(toy_model, tmp_path):
    draft = draft_embodiment("../evil", model=toy_model, **OPTIONS)
    with pytest.raises(UsageError, match=r"'\.\./evil' is no name"):
        write_draft(draft, "../evil", tmp_path / "own")
