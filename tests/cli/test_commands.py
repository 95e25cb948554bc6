"""Each command calls its one function of a lower floor with what was typed."""

import re
import shlex
import tomllib
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


@dataclass
class Calls:
    """A stand-in for a lower floor: remembers how it was called."""

    positional: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, *positional: Any, **options: Any) -> SimpleNamespace:
        self.positional, self.options = positional, options
        if "on_progress" in options:
            options["on_progress"](1, 2, "note")
        return SimpleNamespace(
            card="franka",
            results=(),
            model_dump=lambda: {"a": 1, "next": "motus export --target franka"},
        )


@pytest.fixture
def replace(monkeypatch):
    """Put a value in a room's public face, without asking the face for the real one."""

    def put(name: str, value: object) -> None:
        room, _, member = name.partition(".")
        monkeypatch.setitem(vars(import_module(room)), member, value)

    return put


@pytest.fixture
def stand_in(replace):
    def put(name: str) -> Calls:
        calls = Calls()
        replace(name, calls)
        return calls

    return put


@pytest.mark.parametrize(
    ("function", "arguments", "positional", "options"),
    [
        (
            "motus_adapters.convert",
            ["convert", "rec", "data/pick", "-e", "franka", "--codec", "none", "-n"],
            (Path("rec"), Path("data/pick")),
            {"card": "franka", "codec": None, "dry_run": True, "format": "auto", "level": 6},
        ),
        (
            "motus_adapters.anchor",
            ["anchor", "franka", "data/a", "--episodes", 3, "--seed", 7, "--resume"],
            ("franka", Path("data/a")),
            {"episodes": 3, "seed": 7, "resume": True},
        ),
        (
            "motus_adapters.label_dataset",
            ["label", "data/pick", "--codec", "runs/full/01-codec/codec", "--force"],
            (Path("data/pick"),),
            {"codec": "runs/full/01-codec/codec", "force": True},
        ),
        (
            "motus_adapters.record",
            ["record", "--env", "e:T", "--expert", "--episodes", 2, "--out", "r/pick.hdf5"],
            ("e:T", Path("r/pick.hdf5")),
            {"episodes": 2, "seed": 0},
        ),
        (
            "motus_recipes.sample",
            ["sample", "policies/f", "--dataset", "data/pick", "--mode", "idm", "--episode", 4],
            (Path("policies/f"), Path("data/pick"), "4", "idm", Path("samples")),
            {"seed": 0, "device": "auto"},
        ),
        (
            "motus_recipes.evaluate",
            ["eval", "expert", "--env", "e:T", "--episodes", 5],
            ("expert", "e:T", 5, 0),
            {"device": "auto"},
        ),
        (
            "motus_recipes.sample_all",
            ["sample", "policies/f", "--dataset", "data/pick", "--all-modes"],
            (Path("policies/f"), Path("data/pick"), "0", Path("samples")),
            {"seed": 0, "device": "auto"},
        ),
        (
            "motus_recipes.compare",
            ["compare", "a.json", "b.json"],
            (Path("a.json"), Path("b.json")),
            {},
        ),
        (
            "motus_recipes.report",
            ["report", "runs/a", "runs/b"],
            ([Path("runs/a"), Path("runs/b")], Path("report.html")),
            {"force": False},
        ),
        (
            "motus_recipes.export",
            ["export", "--target", "franka"],
            (None, "franka", Path("policies/franka")),
            {"force": False, "dry_run": False},
        ),
        ("motus_recipes.demo", ["demo", "--quick"], (Path("demo"), True), {"resume": False}),
    ],
)
def test_arguments_reach_the_lower_floor(motus, stand_in, function, arguments, positional, options):
    calls = stand_in(function)
    ran = motus(*arguments, "--json")
    assert ran.code == 0, ran.err
    assert ran.document["ok"] is True
    assert ran.document["a"] == 1
    assert calls.positional == positional
    assert options.items() <= calls.options.items()


def test_a_dry_run_of_record_refuses_what_a_run_would(motus):
    ran = motus("record", "--env", "e:T", "--expert", "--out", "a.hdf5", "--dry-run", "--json")
    assert ran.code == 2
    assert ran.document["error"]["message"] == "no simulator named 'e:T'"


def test_one_mode_and_all_modes_are_a_contradiction(motus):
    ran = motus("sample", "p", "--dataset", "d", "--mode", "idm", "--all-modes")
    assert ran.code == 2
    assert "--mode idm and --all-modes contradict each other" in ran.err


def test_convert_takes_the_only_robot_there_is(motus, stand_in, tmp_path):
    calls = stand_in("motus_adapters.convert")
    ran = motus("convert", "rec", "data/pick")
    assert ran.code == 2
    assert "motus add-embodiment" in ran.err
    assert "motus inspect rec" in ran.err
    assert motus("convert", "rec", "data/pick", "-e", "aloha", "--rate", "0").code == 2
    (tmp_path / "embodiments").mkdir()
    (tmp_path / "embodiments" / "arm.yaml").touch()
    assert motus("convert", "rec", "data/pick").code == 0
    assert calls.options["card"] == "arm"
    (tmp_path / "embodiments" / "leg.yaml").touch()
    ran = motus("convert", "rec", "data/pick")
    assert ran.code == 2
    assert "arm, leg" in ran.err


def test_train_loads_the_recipe_and_says_what_is_next(motus, stand_in, replace):
    loaded = {}

    def load_recipe(name, *, size, overrides):
        loaded.update(name=name, size=size, overrides=overrides)
        return "the recipe"

    replace("motus_recipes.load_recipe", load_recipe)
    calls = stand_in("motus_recipes.train")
    ran = motus("train", "--data", "target=data/pick", "--set", "a.b=1", "--seed", 3)
    assert ran.code == 0, ran.err
    assert loaded == {"name": "full", "size": "tiny", "overrides": ["a.b=1", "seed=3"]}
    assert calls.positional == ("the recipe",)
    assert calls.options["run"] == Path("runs/full")
    assert calls.options["data"] == {"target": Path("data/pick")}
    assert "next: motus export --target franka" in ran.err


def test_anchor_says_what_is_next_for_this_robot(motus, stand_in):
    stand_in("motus_adapters.anchor")
    for robot, told in (("franka", "franka"), ("my cards/a.yaml", "'my cards/a.yaml'")):
        ran = motus("anchor", robot, "data/a")
        assert f"next: motus convert recordings/ data/NAME --embodiment {told}\n" in ran.err


def test_paths_at_home_and_with_spaces(motus, stand_in, monkeypatch):
    """A shell leaves the `~` of --out=~/x alone; what is to be typed next can be typed."""
    monkeypatch.setenv("HOME", "/home/me")
    calls = stand_in("motus_recipes.train")
    assert motus("train", "--run=~/runs/a", "--data", "target=~/pick").code == 0
    assert calls.options["run"] == Path("/home/me/runs/a")
    assert calls.options["data"] == {"target": Path("/home/me/pick")}
    calls = stand_in("motus_adapters.convert")
    ran = motus("convert", "rec", "data/my pick", "-e", "franka")
    assert "next: motus train --recipe full --data 'target=data/my pick'\n" in ran.err
    ran = motus("convert", "rec", "data/human", "-e", "human-hands", "--level", "2")
    assert "next: motus train --recipe full\n" in ran.err


def test_health_of_a_runs_codec_names_the_folder_to_label_with(motus, replace):
    @dataclass(frozen=True)
    class Health:
        codec: Path

    replace("motus_recipes.inspect_codec", lambda path, data, on_progress: Health(Path("a/codec")))
    ran = motus("inspect", "a", "data/pick", "--health")
    assert "next: motus label data/pick --codec a/codec\n" in ran.err
    ran = motus("inspect", "shipped", "data/pick", "--health")
    assert "next: motus label data/pick --codec shipped\n" in ran.err


def test_plan_passes_on_what_train_is_to_get(motus, stand_in, replace):
    replace("motus_recipes.load_recipe", lambda name, *, size, overrides: "the recipe")
    replace("motus_recipes.choose_devices", lambda recipe, devices: devices or "8xH100")
    given = ["--data", "target=my pick", "--set", "engine.sharding=fsdp"]
    words = ["--recipe", "full", "--size", "tiny", *given]
    stand_in("motus_recipes.plan")
    ran = motus("plan", *given)
    assert f"next: {shlex.join(['motus', 'train', *words])}\n" in ran.err
    calls = stand_in("motus_recipes.write_launch_script")
    assert motus("plan", *given, "--launch", "slurm").code == 0
    assert calls.positional == ("slurm", [*words, "--run", "runs/full"], "8xH100")


def test_add_embodiment_writes_the_card_and_its_anchoring_data(motus, stand_in, replace):
    seen = SimpleNamespace(role="head", model_camera="top", mount=None)
    card = SimpleNamespace(
        model="file.xml", cameras=[seen], notes="is coupled", model_dump=lambda: {"name": "arm"}
    )
    given = {}

    def add(name, **options):
        given.update(options, name=name)
        return card, Path("embodiments/arm.yaml")

    replace("motus_embodiments.add_embodiment", add)
    anchored = stand_in("motus_adapters.anchor")
    arguments = [
        "--model",
        "arm.xml",
        "--end-effector",
        "tcp",
        "--cameras",
        "top=head",
        "--rate",
        50,
    ]
    ran = motus("add-embodiment", "arm", *arguments, "--force", "--json")
    assert ran.code == 0, ran.err
    assert "is coupled" in ran.err
    assert given == {
        "name": "arm",
        "model": Path("arm.xml"),
        "dataset": None,
        "end_effector": "tcp",
        "cameras": {"top": "head"},
        "rate": 50.0,
        "force": True,
        "dry_run": False,
    }
    assert anchored.positional == (card, Path("data/arm-anchor"))
    assert ran.document["path"] == "embodiments/arm.yaml"
    assert ran.document["anchoring"]["a"] == 1


def test_add_embodiment_without_a_model_has_no_anchoring_data(motus, stand_in, replace):
    card = SimpleNamespace(model=None, model_dump=lambda: {})
    replace("motus_embodiments.add_embodiment", lambda *_a, **_o: (card, Path("p")))
    anchored = stand_in("motus_adapters.anchor")
    assert motus("add-embodiment", "pusht", "--dry-run").code == 0
    assert anchored.positional == ()


@pytest.mark.parametrize("pair", ["top", "=head", "top="])
def test_a_camera_without_a_role_is_named(motus, pair):
    ran = motus("add-embodiment", "arm", "--cameras", pair)
    assert ran.code == 2
    assert f"--cameras '{pair}' is not NAME=VALUE" in ran.err


def test_recipes(motus, replace):
    row = SimpleNamespace(model_dump=lambda: {"name": "full", "title": "t", "path": "p"})
    recipe = SimpleNamespace(resolved=lambda: {"a.b": {"value": 1, "origin": "file"}})
    replace("motus_recipes.list_recipes", lambda: [row])
    replace("motus_recipes.load_recipe", lambda *_a, **_o: recipe)
    described = {"parameters": {"video": 1, "vlm": 2, "action": 3, "understanding": 4}}
    replace("motus_recipes.describe", lambda _recipe: described)
    assert motus("recipes", "list", "--json").document["recipes"][0]["name"] == "full"
    assert motus("recipes", "show", "full", "--json").document["parameters"]["vlm"] == 2
    given = ["full", "--size", "small", "--set", "a.b=[1, 2]"]
    told = motus("recipes", "show", *given, "--json").document["next"]
    assert told == shlex.join(["motus", "train", "--recipe", *given])
    values = motus("recipes", "show", "full", "--resolved", "--json").document["values"]
    assert values == [{"key": "a.b", "value": 1, "origin": "file"}]


def test_doctor_looks_at_this_machine(motus):
    ran = motus("doctor", "--json")
    checks = {check["name"]: check["status"] for check in ran.document["checks"]}
    assert checks["python"] == "ok"
    assert checks["video decoding"] == "ok"
    assert ran.code in (0, 3)


@pytest.mark.parametrize(("free", "status"), [(1.5, "ok"), (0.5, "missing")])
def test_doctor_wants_a_gigabyte(motus, monkeypatch, free, status):
    from motus_cli import doctor

    disk = SimpleNamespace(free=free * doctor.GIGABYTE)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: disk)
    ran = motus("doctor", "--json")
    checks = {check["name"]: check for check in ran.document["checks"]}
    assert checks["disk"]["status"] == status
    assert checks["disk"]["found"] == f"{free} GB free"
    assert checks["disk"]["remedy"] == (None if status == "ok" else "free 1 GB")


def test_doctor_knows_every_extra():
    from motus_cli.doctor import OPTIONAL_PACKAGES

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(OPTIONAL_PACKAGES.values()) == set(extras) - {"dev"}
    for package, extra in OPTIONAL_PACKAGES.items():
        assert any(re.split(r"[<>=]", needed)[0] == package for needed in extras[extra])
