"""The paper's size, end to end: its recipe form, its encoders' classes, its checkpoint layout.

Encoders are tiny random checkpoints of the real classes and the network is shrunken; all else is
what `motus-8b` does.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from motus_adapters import Policy
from motus_embodiments import DataError, MismatchError, MissingError
from motus_model import SIZES, Motus, MotusConfig
from motus_model.action_expert import ActionConfig
from motus_model.network_folder import read_network
from motus_model.official import FILE, write_official
from motus_model.understanding_expert import UnderstandingConfig
from motus_model.video_expert import VideoConfig
from motus_recipes import export, load_recipe, train
from motus_recipes.training.checkpoints import read_weights
from tests.model.tiny_hub import write_qwen, write_umt5, write_vae

# Stage 2 of the official code: no state, no registers, 14 latent numbers.
SHRUNKEN = MotusConfig(
    video=VideoConfig(
        width=24,
        hidden=32,
        layers=2,
        heads=2,
        channels=48,
        patch=(1, 2, 2),
        text_width=24,
        text_tokens=16,
        frequency_width=16,
    ),
    action=ActionConfig(
        width=16, hidden=24, action_dim=14, steps=8, state_dim=0, registers=0, frequency_width=16
    ),
    understanding=UnderstandingConfig(width=12, hidden=20, feature_width=32),
)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("hub")
    umt5 = str(write_umt5(root / "umt5"))
    return {
        "frames": f"{write_vae(root / 'wan')}:vae",
        "text": umt5,
        "tokenizer": umt5,
        "perception": str(write_qwen(root / "qwen")),
        "precision": "float32",
    }


@pytest.fixture
def recipe(tmp_path: Path, encoders: dict[str, str]) -> Callable[..., Path]:
    """Write a recipe of the paper's size with stages of three steps."""

    def write(*stages: dict, **changes: object) -> Path:
        usual = {
            "objective": "motus",
            "experts": ["video", "action", "understanding"],
            "action": "native",
            "sources": {"target": 1},
            "steps": 3,
            "batch": 2,
            "times": "shifted_uniform",
            "optimizer": {"learning_rate": 1e-3},
        }
        data = {
            "name": "paper",
            "title": "The paper's size, shrunken",
            "size": "motus-8b",
            "window": {
                "video_frames": 8,
                "video_rate": 5.0,
                "action_steps": 8,
                "action_rate": 10.0,
            },
            "encoders": encoders,
            "datasets": {"target": {"level": 6}},
            "stages": [{**usual, **stage} for stage in stages],
            **changes,
        }
        path = tmp_path / "paper.yaml"
        path.write_text(yaml.safe_dump(data, sort_keys=False))
        return path

    return write


def imported(motus: Callable, folder: Path, config: MotusConfig = SHRUNKEN) -> Path:
    """A folder that `motus import` made of a checkpoint in the official layout."""
    torch.manual_seed(0)
    network = Motus(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    positions = None if network.action is None else network.action.positions
    write_official(folder / "official" / FILE, network.state_dict(), positions)
    out = folder / "imported"
    ran = motus(
        *("import", folder / "official", "--out", out, "--text-tokens", 16),
        *("--embodiment", "pusht"),
    )
    assert ran.code == 0, ran.err
    return out


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "01-stage3/metrics.jsonl").read_text().splitlines()]


def test_it_trains_from_an_official_checkpoint(motus, recipe, squares, tmp_path):
    start = imported(motus, tmp_path)
    # One window a step: here pictures are as large as the paper's, and the encoder's work is most.
    path = recipe({"name": "stage3", "start": str(start), "batch": 1})
    run = tmp_path / "run"
    report = train(load_recipe(str(path)), run=run, data={"target": squares}, device="cpu")
    moved = report.stages[0].details["transfer"]
    assert moved["fresh"] == moved["unused"] == []  # nothing but the imported network
    weights = read_weights(run / "01-stage3/result/weights.safetensors")
    config, before = read_network(start)
    assert config.video == SHRUNKEN.video
    assert {key.removeprefix("network.") for key in weights} == set(before)  # no encoder inside
    still = [key for key, value in before.items() if torch.equal(weights[f"network.{key}"], value)]
    # What the last understanding layer gives is never read (see test_network.py).
    assert all(key.startswith("understanding.blocks.1.") for key in still), still
    assert all(torch.isfinite(torch.tensor(line["loss"])) for line in lines(run))


@pytest.fixture
def small_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer pixels, where their number is not the point."""
    monkeypatch.setitem(SIZES, "motus-8b", replace(SIZES["motus-8b"], canvas=(64, 64)))


@pytest.mark.usefixtures("small_canvas")
def test_its_policy_runs_with_the_encoders_that_it_names(motus, recipe, squares, tmp_path):
    path = recipe({"name": "stage3", "start": str(imported(motus, tmp_path))})
    run, out = tmp_path / "run", tmp_path / "policy"
    train(load_recipe(str(path)), run=run, data={"target": squares}, device="cpu")
    export(run, "pusht", out, steps=2)
    policy = Policy.load(out)
    picture = np.zeros((48, 48, 3), np.uint8)
    camera = policy.card.cameras[0].name
    actions = policy.act({camera: picture}, np.full(2, 200.0), "push the block")
    assert actions.shape == (8, 2)
    assert np.isfinite(actions).all()
    config = json.loads((out / "config.json").read_text())
    config["encoders"]["text"] = str(tmp_path / "gone")
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(MismatchError, match="encoders"):
        Policy.load(out)


@pytest.mark.usefixtures("small_canvas")
def test_cached_and_on_the_fly_have_the_same_losses(motus, recipe, squares, tmp_path):
    shutil.rmtree(squares / ".cache/encoded", ignore_errors=True)
    stage = {"name": "stage3", "start": str(imported(motus, tmp_path))}
    runs = {}
    for name, cache in (("cold", 1.0), ("warm", 1.0), ("fly", 0.0)):
        path = recipe(stage, engine={"encoder_cache": cache})
        runs[name] = tmp_path / name
        train(load_recipe(str(path)), run=runs[name], data={"target": squares}, device="cpu")
    assert lines(runs["cold"]) == lines(runs["warm"]) == lines(runs["fly"])
    kinds = {folder.name.split("-")[0] for folder in squares.glob(".cache/encoded/*/*")}
    assert kinds == {"frames", "text", "perception"}


@pytest.mark.usefixtures("small_canvas")
def test_later_stages_keep_the_sizes_that_the_first_one_started_with(
    motus, recipe, squares, tmp_path
):
    start = imported(motus, tmp_path)
    path = recipe(
        {"name": "one", "start": str(start), "experts": ["video"], "action": "none"},
        {"name": "two", "experts": ["action"]},
    )
    run = tmp_path / "run"
    report = train(load_recipe(str(path)), run=run, data={"target": squares}, device="cpu")
    first, second = (
        read_weights(run / f"{stage}/result/weights.safetensors") for stage in ("01-one", "02-two")
    )
    video = [key for key in first if key.startswith("network.video.")]
    assert video
    assert all(torch.equal(first[key], second[key]) for key in video)
    assert report.stages[0].details["transfer"]["unused"]  # the action expert, for one
    state = json.loads((run / "02-two/result/state.json").read_text())
    assert state["network"]["video"]["width"] == 24
    assert state["encoders"]["precision"] == "float32"


@pytest.mark.usefixtures("small_canvas")
def test_what_is_missing_or_does_not_fit_is_named(motus, recipe, squares, tmp_path, encoders):
    def run(**changes: object) -> None:
        path = recipe({"name": "stage3", "start": str(tmp_path / "imported")}, **changes)
        train(load_recipe(str(path)), run=tmp_path / "run", data={"target": squares}, force=True)

    with pytest.raises(DataError, match="no stage can start from") as error:
        run()
    assert "motus import" in str(error.value.hint)
    imported(motus, tmp_path)
    with pytest.raises(MissingError, match="no AutoencoderKLWan"):
        run(encoders={**encoders, "frames": str(tmp_path / "nothing")})
    narrow = write_umt5(tmp_path / "narrow", width=16)
    with pytest.raises(MismatchError, match="'text' gives 16 numbers and the network reads 24"):
        run(encoders={**encoders, "text": str(narrow)})
