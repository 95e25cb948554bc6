"""Recipes: found by name, changed by --set, refused with the nearest name."""

from pathlib import Path

import pytest
import yaml

from motus_embodiments import UsageError
from motus_model import SIZES
from motus_recipes import describe, list_recipes, load_recipe
from motus_recipes.catalogue import LIBRARY


@pytest.mark.parametrize("info", list_recipes(), ids=lambda info: f"{info.name}-{info.size}")
def test_every_shipped_recipe_loads_and_describes_itself(info):
    recipe = load_recipe(info.name, info.size)
    told = describe(recipe)
    assert told["name"] == info.name
    assert told["parameters"]["video"] > 0
    assert {row["name"] for row in told["stages"]}


@pytest.mark.parametrize("name", ["codec", "stage1", "stage2", "stage3", "full", "smoke"])
def test_recipes_have_every_size(name):
    assert {info.size for info in list_recipes() if info.name == name} == set(SIZES)


def test_the_paper_s_numbers():
    recipe = load_recipe("full", "motus-8b").spec
    levels = {name: spec.level for name, spec in recipe.datasets.items()}
    stages = {stage.name: stage for stage in recipe.stages}
    asked = {name: sorted(levels[source] for source in s.sources) for name, s in stages.items()}
    assert asked["stage1"] == [2, 3, 5]
    assert asked["stage2"] == [2, 3, 4, 5]
    assert asked["stage3"] == [6]
    everyone = ("video", "action", "understanding")
    told = {n: (s.experts, s.action, s.optimizer.learning_rate) for n, s in stages.items()}
    assert told["stage1"] == (("video",), "none", 8e-5)
    assert told["stage2"] == (everyone, "latent", 5e-5)
    assert told["stage3"][:2] == (everyone, "native")
    assert 1e-5 <= told["stage3"][2] <= 5e-5
    for stage in recipe.stages:
        assert stage.batch == 256
        assert stage.optimizer.weight_decay == 0.01


def test_the_command_shows_every_value_with_its_origin(motus):
    ran = motus("recipes", "show", "full", "--resolved", "--set", "stages.stage3.steps=7")
    assert ran.code == 0, ran.err
    rows = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines()[2:]}
    for key, entry in load_recipe("full").resolved().items():
        assert len(rows[key]) >= 2, key
        assert key == "stages.stage3.steps" or rows[key][-1] == entry["origin"]
    assert rows["stages.stage3.steps"] == ["7", "--set"]


def test_every_value_has_an_origin():
    recipe = load_recipe("full", overrides=["stages.stage3.steps=7"])
    values = recipe.resolved()
    assert values["stages.stage3.steps"] == {"value": 7, "origin": "--set"}
    assert values["stages.stage1.steps"]["origin"].endswith("full.tiny.yaml")
    assert values["stages.stage1.times"]["origin"] == "default"
    by_number = load_recipe("full", overrides=["stages.3.steps=7", "stages.1.lora.experts=[video]"])
    values = by_number.resolved()
    assert values["stages.stage3.steps"] == {"value": 7, "origin": "--set"}
    assert values["stages.stage1.lora.experts"]["origin"] == "--set"
    assert values["stages.stage1.lora.rank"]["origin"] == "default"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("stages.stage3.step=7", "steps"),
        ("stages.stage9.steps=7", "stage3"),
        ("stages.stage3.optimizer.learning_rat=1", "learning_rate"),
        ("windows=3", "window"),
        ("stages.codec.codec.fram=camera", "frame"),
        ("engine.trackrs=[wandb]", "trackers"),
        ("datasets.target.levl=6", "level"),
        ("stages.stage3.optimizer.experts.vidio=1e-5", "video"),
        ("stages.stage3.lora.expert=[video]", "experts"),
        ("stages.stage3.modes.vlaa=1", "vla"),
        ("stages.stage3.sources.targt=1", "target"),
        ("engine.sharding=fsdq", "fsdp"),
    ],
)
def test_an_unknown_key_names_its_neighbour(change, told):
    with pytest.raises(UsageError) as error:
        load_recipe("full", overrides=[change])
    assert told in (error.value.hint or "")


@pytest.mark.parametrize(
    "change",
    [
        "stages.stage3.steps=0",
        "seed=x",
        "stages.stage1.batch=-1",
        "stages.stage1.optimizer.betas=0.8",
        "stages.stage1.optimizer.betas=[0.8]",
        "stages.stage1.optimizer.betas.1=0.8",
        "stages.stage1.experts.0.name=video",
        "seed=-1",
        "seed=[",
        "seed=2020-13-45",
        "seed=!!python/object:os.system {}",
        "size=[tiny]",
        "window.action_rate=1e-9",
        "window.video_rate=.nan",
        "engine.timeout=.inf",
        "stages.stage1.experts=[]",
        "stages.stage3.sources={}",
        "stages.stage3.sources.target=0",
        "stages.stage3.sources.target=-3",
        "stages.stage3.modes={}",
        "stages.stage3.modes={joint: 0}",
        "stages.stage3.modes={joint: -1, vla: 2}",
        "stages.stage1.optimizer.clip=0",
        "stages.stage1.optimizer.warmup=-5",
        "stages.stage1.optimizer.weight_decay=-1",
        "stages.stage1.optimizer.learning_rate=.inf",
        "stages.stage1.optimizer.experts={video: -1}",
    ],
)
def test_a_value_that_cannot_be_is_named(change):
    with pytest.raises(UsageError) as error:
        load_recipe("full", overrides=[change])
    for part in change.partition("=")[0].split("."):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("codec.start=runs/x", "objective codec has no use for `start`"),
        ("codec.lora.experts=[video]", "no use for `lora`"),
        ("codec.modes={vla: 1}", "no use for `modes`"),
        ("codec.experts=[video]", "no use for `experts`"),
        (
            "codec.augment=true",
            "no use for `augment`: leave it out, or take objective motus or idm",
        ),
        ("codec.action=native", "no use for `action`"),
        ("stage1.labelled=0.5", "objective motus has no use for `labelled`"),
        ("stage1.modes={vla: 1, joint: 1}", "mode vla has nothing to learn"),
        ("stage1.experts=[video, action]", "no action expert"),
        ("stage1.lora.experts=[understanding]", "no understanding expert"),
        ("codec.codec.unlabelled=[targt]", "codec.unlabelled: the stage has no source 'targt'"),
        ("codec.codec.twins={targt: human}", "codec.twins: the stage has no source 'targt'"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(change, told):
    with pytest.raises(UsageError) as error:
        load_recipe("full", overrides=[f"stages.{change}"])
    stage = change.partition(".")[0]
    assert f": stages.{stage}: " in str(error.value)
    assert told in str(error.value)
    assert "targt" not in change or "target" in (error.value.hint or "")


@pytest.mark.parametrize("beta", ["[2, 0.9]", "[0.9, 1]", "[-0.1, 0.9]"])
def test_betas_are_shares(beta):
    with pytest.raises(UsageError, match=r"stages\.stage1\.optimizer\.betas\.[01]: "):
        load_recipe("full", overrides=[f"stages.stage1.optimizer.betas={beta}"])


def test_an_expert_may_rest_and_a_mode_be_left_out():
    changes = ["optimizer.experts={video: 0}", "modes={joint: 1, vla: 0}"]
    load_recipe("full", overrides=[f"stages.stage3.{change}" for change in changes])


@pytest.mark.parametrize("name", ["../../out", "a/b", "a.b", ""])
def test_a_stage_s_name_is_a_folder_s(name):
    with pytest.raises(UsageError, match="letters, digits"):
        load_recipe("full", overrides=[f"stages.stage1.name='{name}'"])


def test_stages_differ_by_name():
    changes = ["stages.stage2.name=stage1", "stages.3.steps=-1"]
    with pytest.raises(UsageError, match="two are named 'stage1'"):
        load_recipe("full", overrides=changes[:1])
    with pytest.raises(UsageError, match="stage3"):
        load_recipe("full", overrides=changes)


def test_a_stage_that_was_named_anew_keeps_its_values():
    values = load_recipe("full", overrides=["stages.stage1.name=foo"]).resolved()
    assert values["stages.foo.name"] == {"value": "foo", "origin": "--set"}
    assert values["stages.foo.batch"]["value"] == 32


def test_unknown_names():
    with pytest.raises(UsageError) as error:
        load_recipe("ful")
    assert error.value.hint == "did you mean 'full'?"
    with pytest.raises(UsageError):
        load_recipe("full", size="huge")


def test_a_stage_of_full_is_a_recipe_of_its_own():
    alone, whole = load_recipe("stage2"), load_recipe("full")
    assert alone.spec.stages == (whole.spec.stages[2],)
    assert alone.spec.name == "stage2"
    changed = load_recipe("stage2", overrides=["stages.stage2.steps=3"])
    assert changed.resolved()["stages.stage2.steps"] == {"value": 3, "origin": "--set"}
    assert "human" in alone.spec.datasets
    assert set(load_recipe("stage3").spec.datasets) == {"target"}
    # A recipe with a file of its own goes before the stage of that name.
    assert load_recipe("codec").spec.stages[0].steps == 1500


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own recipes, in which the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    return tmp_path / "recipes"


@pytest.mark.parametrize(
    "text", [b"name: [", b"- a", b"title: caf\xe9", b"a: 2020-13-45", b"name: mine", b"size: tiny"]
)
def test_a_bad_file_is_an_error_only_where_it_is_named(own: Path, motus, text: bytes):
    (own / "mine.yaml").write_bytes(text)
    rows = motus("recipes", "list", "--json").document["recipes"]
    (row,) = [row for row in rows if row["path"] == "recipes/mine.yaml"]
    assert (row["name"], row["size"]) == ("mine", None)
    assert row["title"].startswith("not valid; `motus recipes show mine` says why")
    assert motus("recipes", "show", "full").code == 0
    ran = motus("recipes", "show", "mine")
    assert ran.code == 2
    assert "recipes/mine.yaml" in ran.err


def test_one_s_own_full_wins_for_its_stages(own: Path):
    data = yaml.safe_load((LIBRARY / "full.tiny.yaml").read_text())
    data["stages"][3]["steps"] = 7
    file = own / "full.yaml"
    file.write_text(yaml.safe_dump(data | {"stages": data["stages"][2:]}))
    assert load_recipe("stage3").spec.stages[0].steps == 7
    assert load_recipe("stage3", "small").path == LIBRARY / "full.small.yaml"
    with pytest.raises(UsageError, match="no size 'tiny'"):  # one's own has no stage 1
        load_recipe("stage1")


@pytest.mark.parametrize("stages", [3, ["a"], [{"steps": 2}], [{"name": "stage3"}]])
def test_one_s_own_full_without_sound_stages_is_refused_by_name(own: Path, stages):
    data = yaml.safe_load((LIBRARY / "full.tiny.yaml").read_text())
    (own / "full.yaml").write_text(yaml.safe_dump(data | {"stages": stages}))
    assert load_recipe("codec").spec.name == "codec"
    for name in ("full", "stage3"):
        with pytest.raises(UsageError):
            load_recipe(name)
