"""Adapters, diverging losses, checkpoints that are kept, and what a run refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from motus_adapters.devices import torch_device
from motus_embodiments import MismatchError, MissingError, UsageError
from motus_model import SIZES, Motus
from motus_recipes import load_recipe, train
from motus_recipes.data.mixture import Mixture, Row, Source
from motus_recipes.schema import EngineSpec, Lora, Optimizer
from motus_recipes.training.checkpoints import read_weights
from motus_recipes.training.engine import Engine
from motus_recipes.training.heldout import evaluate
from motus_recipes.training.lora import add_lora, merge_lora
from motus_recipes.training.metrics import FEW, Explosion, Metrics
from motus_recipes.training.runs import find_run
from motus_recipes.training.trainer import DivergedError, Loop, fit, parameter_groups


class Loss(NamedTuple):
    total: Tensor


class Line(nn.Module):
    """Fits y = 3 x; `poison` names a window whose target is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, y: Tensor) -> Loss:
        return Loss((self.slope * x - y).square())


class LineObjective:
    def __init__(self, poison: int | None = None) -> None:
        self.module = Line()
        self.poison = poison
        self.calls: list[list[Row]] = []

    def inputs(self, rows: list[Row], *, train: bool) -> tuple[Tensor, Tensor]:
        self.calls.append(list(rows))
        x = torch.tensor([row.window / 10 for row in rows])
        y = torch.tensor([float("nan") if row.window == self.poison else 3.0 for row in rows])
        return x, y * x

    def times(self, inputs: Any) -> dict[str, tuple[Tensor, Tensor]]:
        return {}


def loop(folder: Path, steps: int = 12, **optimizer: Any) -> Loop:
    mixture = Mixture((Source("line", 20, 1.0),), 4, 0)
    settings = Optimizer(**{"learning_rate": 0.1, **optimizer})
    return Loop(folder, steps, mixture, {"line": [1, 2, 3, 4, 5]}, settings)


def engine(**settings: Any) -> Engine:
    return Engine(EngineSpec(**settings), "cpu")


def test_parts_of_a_batch_add_up_to_it(tmp_path: Path):
    whole = fit(LineObjective(), loop(tmp_path / "whole"), engine())
    parts = fit(LineObjective(), loop(tmp_path / "parts"), engine(microbatch=1))
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)
    assert whole.loss["loss"] < 0.95 * whole.first_loss["loss"]


@pytest.mark.parametrize("name", ["foo", "mps", "CPU", "cuda:", "cpu:0", ""])
def test_a_device_that_is_none_is_refused(name: str):
    for opened in (torch_device, lambda name: Engine(EngineSpec(), name)):
        with pytest.raises(UsageError) as error:
            opened(name)
        assert f"'{name}'" in str(error.value)
        assert "cuda:N" in (error.value.hint or "")
    with pytest.raises(MissingError, match="cuda:99"):
        torch_device("cuda:99")


def test_the_gradient_is_clipped_and_its_norm_told(tmp_path: Path):
    objective = LineObjective()
    fit(objective, loop(tmp_path, steps=1, clip=1e-9, weight_decay=0.0), engine())
    norm = json.loads((tmp_path / "metrics.jsonl").read_text())["gradient_norm"]
    assert norm > 1e-3
    # AdamW undoes any scale but that of its epsilon (1e-8), which such a small gradient meets.
    assert abs(float(objective.module.slope.detach())) < 0.05


def test_a_batch_that_does_not_split_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="batch of 4 does not split"):
        fit(LineObjective(), loop(tmp_path), engine(microbatch=3))


def test_a_loss_that_is_no_number_stops_with_its_batch(tmp_path: Path):
    with pytest.raises(DivergedError, match="at step"):
        fit(LineObjective(poison=7), loop(tmp_path), engine())
    saved = json.loads((tmp_path / "bad-batch-0.json").read_text())
    bad = [row["window"] for row in saved["rows"] if row["loss"] != row["loss"]]
    assert bad == [7]


def test_a_loss_explodes_only_against_its_own_past():
    explosion = Explosion()
    assert not any(explosion.seen(1.0 + 0.01 * i) for i in range(FEW))
    assert not explosion.seen(10.0)
    assert explosion.seen(1000.0)


def test_the_watch_on_the_loss_goes_on_where_a_run_was_cut_off(tmp_path: Path):
    """At step 60 the targets jump: seen against the 50 steps before, which a resume remembers."""

    class Jumping(LineObjective):
        def inputs(self, rows: list[Row], *, train: bool) -> tuple[Tensor, Tensor]:
            x, y = super().inputs(rows, train=train)
            return x, y + (1000.0 if train and len(self.calls) + before > 60 else 0.0)

    def stop(done: int, steps: int, note: object) -> None:
        if done == 55:
            raise KeyboardInterrupt

    still = {"learning_rate": 1e-9, "schedule": "constant"}
    settings, before = engine(checkpoint_every=50), 0
    with pytest.raises(KeyboardInterrupt):
        fit(Jumping(), loop(tmp_path, 80, **still), settings, stop)
    before = 50
    with pytest.raises(DivergedError, match="at step 60"):
        fit(Jumping(), loop(tmp_path, 80, **still), settings)


def test_a_kill_while_lines_are_cut_off_takes_none_of_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lines = [f'{{"step": {step}, "loss": 1.0}}\n' for step in range(3)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))

    def killed(self: Path, text: str) -> None:
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            Metrics(tmp_path, 2, (), main=True)
    with Metrics(tmp_path, 2, (), main=True):
        pass
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(lines[:2])


def test_newest_and_best_checkpoints_are_kept(tmp_path: Path):
    settings = engine(checkpoint_every=2, keep=2, keep_best=True)
    # A rate that overshoots: the held-out loss is best somewhere in the middle.
    result = fit(LineObjective(), loop(tmp_path, learning_rate=1.2, schedule="constant"), settings)
    names = sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir())
    assert names == ["best", "step-00000008", "step-00000010"]
    best = json.loads((tmp_path / "checkpoints/best/state.json").read_text())["best"]
    assert result.heldout["line"]["loss"] <= best + 1e-6


def test_realised_shares_are_told_by_source_and_by_level(
    squares: Path, tmp_path: Path, write: Callable[..., Path]
):
    moves = write(tmp_path / "moves", episodes=3, level=4)
    changes = ["steps=4", "batch=6", "sources={target: 2, anchor: 1}"]
    recipe = load_recipe("stage1", overrides=[f"stages.stage1.{change}" for change in changes])
    data = {"target": squares, "anchor": moves}
    told = train(recipe, run=tmp_path / "run", data=data).stages[0].details
    assert told["shares"] == pytest.approx({"target": 2 / 3, "anchor": 1 / 3}, abs=0.05)
    assert told["levels"] == {"4": told["shares"]["anchor"], "6": told["shares"]["target"]}


class Timed(NamedTuple):
    total: Tensor
    video: Tensor


class TimedObjective:
    """Window w has noise time w / 8 and an error of as much, with weight 2; window 0 is clean."""

    def __init__(self) -> None:
        self.module = nn.Identity()

    def inputs(self, rows: list[Row], *, train: bool) -> Tensor:
        assert not train
        return torch.tensor([row.window / 8 for row in rows])

    def times(self, inputs: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        return {"video": (inputs, 2.0 * (inputs > 0))}


def test_heldout_errors_are_told_by_noise_time():
    class Module(nn.Module):
        def forward(self, *times: Tensor) -> Timed:
            loss = 2.0 * torch.stack(times)
            return Timed(loss + 1, loss)

    found = evaluate(TimedObjective(), Module(), engine(), "line", range(9), batch=3)
    assert found == pytest.approx(
        {
            "loss": 2.0,
            "video": 1.0,
            "video@0.00-0.25": 0.125,
            "video@0.25-0.50": (0.25 + 0.375) / 2,
            "video@0.50-0.75": (0.5 + 0.625) / 2,
            "video@0.75-1.00": (0.75 + 0.875 + 1.0) / 3,
        }
    )


def test_experts_may_have_their_own_rates():
    module = nn.ModuleDict({"network": nn.ModuleDict({"video": Line(), "action": Line()})})
    groups = parameter_groups(module, Optimizer(learning_rate=0.1, experts={"video": 0.01}))
    assert sorted((group["peak"], len(group["params"])) for group in groups) == [
        (0.01, 1),
        (0.1, 1),
    ]


def test_merged_adapters_equal_the_network_with_them():
    torch.manual_seed(0)
    network = Motus(SIZES["tiny"].network)
    for part in network.parameters():
        nn.init.normal_(part, std=0.05)
    names = set(network.state_dict())
    lora = Lora(experts=("video", "action"), rank=4, alpha=8)
    add_lora(network, lora)
    adapters = [p for name, p in network.named_parameters() if ".lora_" in name]
    assert adapters
    assert all(part.requires_grad for part in adapters)
    assert not network.video.block(0).self_attn.q.base_layer.weight.requires_grad
    assert network.action.block(0).qkv.requires_grad  # no linear layer, so that it has no adapter
    for part in adapters:
        nn.init.normal_(part, std=0.1)
    plain = Motus(SIZES["tiny"].network)
    merged = merge_lora(network.state_dict(), lora)
    assert set(merged) == names
    plain.load_state_dict(merged)
    text = torch.randn(1, 3, 128)
    video, actions = torch.randn(1, 8, 3, 18, 12), torch.randn(1, 8, 14)
    time = torch.full((1,), 0.3)
    state, features = torch.randn(1, 14), torch.randn(1, 5, 128)
    outs = []
    for net in (network.eval(), plain.eval()):
        context = net.prepare(text, features=features, state=state)
        outs.append(net(context, video, time, actions, time))
    torch.testing.assert_close(outs[0].video, outs[1].video, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(outs[0].action, outs[1].action, atol=1e-5, rtol=1e-4)


def test_an_unknown_engine_key_names_its_neighbour():
    with pytest.raises(UsageError) as error:
        load_recipe("full", overrides=["engine.precison=bf16"])
    assert "precision" in error.value.hint


def test_bf16_computes_in_halves_and_keeps_whole_weights(squares: Path, tmp_path: Path):
    found = {}
    for precision in ("float32", "bf16"):
        few = ["stages.stage1.steps=2", "stages.stage1.batch=2", f"engine.precision={precision}"]
        run = tmp_path / precision
        train(load_recipe("stage1", overrides=few), run=run, data={"target": squares})
        rows = (run / "01-stage1/metrics.jsonl").read_text().splitlines()
        found[precision] = [json.loads(row)["loss"] for row in rows]
        weights = read_weights(run / "01-stage1/result/weights.safetensors")
        assert {value.dtype for value in weights.values()} == {torch.float32}
    assert found["bf16"] != found["float32"]
    assert found["bf16"] == pytest.approx(found["float32"], rel=0.01)


def test_a_run_is_found_from_anything_inside_it(
    squares: Path, tmp_path: Path, write: Callable[..., Path]
):
    run = tmp_path / "run"
    small = [f"stages.{s}.steps=2" for s in ("codec", "stage1", "stage2", "stage3")]
    small += [f"stages.{s}.batch=2" for s in ("codec", "stage1", "stage2", "stage3")]
    recipe = load_recipe("full", overrides=small)
    train(recipe, run=run, data={"target": squares})
    again = train(
        recipe, run=run / "04-stage3/metrics.jsonl", data={"target": squares}, resume=True
    )
    assert again.run == run
    finished = run / "04-stage3/checkpoints/step-00000001"
    with pytest.raises(UsageError, match="finished"):
        train(recipe, run=finished, data={"target": squares}, resume=True)
    with pytest.raises(UsageError, match="is no run"):
        train(recipe, run=squares, data={"target": squares}, resume=True)


def test_a_run_that_died_before_its_data_were_noted_is_begun_anew(squares: Path, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text("{")
    recipe = load_recipe("stage1", overrides=["stages.stage1.steps=1", "stages.stage1.batch=2"])
    with pytest.raises(UsageError, match="exists"):
        train(recipe, run=run, data={"target": squares})
    train(recipe, run=run, data={"target": squares}, resume=True)
    assert (run / "run.json").is_file()


def test_a_run_beside_another_is_not_that_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("data.json", "recipe.json"):
        (run / name).write_text("{}")
    monkeypatch.chdir(run)
    assert find_run(Path("../other")) == Path("../other")
    assert find_run(Path("01-codec/metrics.jsonl")) == run


def test_a_stage_starts_from_another_runs_stage(squares: Path, tmp_path: Path):
    few = ["stages.stage1.steps=2", "stages.stage1.batch=2"]
    train(load_recipe("stage1", overrides=few), run=tmp_path / "one", data={"target": squares})
    few = ["stages.stage3.steps=2", "stages.stage3.batch=2"]
    start = f"stages.stage3.start={tmp_path}/one/01-stage1"
    recipe = load_recipe("stage3", overrides=[*few, start])
    report = train(recipe, run=tmp_path / "two", data={"target": squares})
    moved = report.stages[0].details["transfer"]
    assert moved["loaded"] > 100
    assert not any(key.startswith("network.video") for key in moved["fresh"])


def test_a_named_checkpoint_is_gone_back_to_only_when_training_really_goes_on(
    squares: Path, tmp_path: Path
):
    small = ["stages.codec.steps=6", "stages.codec.batch=2", "engine.checkpoint_every=2"]
    recipe = load_recipe("codec", overrides=[*small, "engine.keep=9"])
    run = tmp_path / "run"

    def stop(done: int, steps: int, note: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, run=run, data={"target": squares}, on_progress=stop)
    checkpoints = run / "01-codec/checkpoints"
    names = sorted(folder.name for folder in checkpoints.iterdir())
    assert names == ["step-00000002", "step-00000004"]
    named = checkpoints / "step-00000002"
    train(recipe, run=named, data={"target": squares}, resume=True, dry_run=True)
    other = load_recipe("codec", overrides=[*small, "seed=7"])
    with pytest.raises(MismatchError):
        train(other, run=named, data={"target": squares}, resume=True)
    assert sorted(folder.name for folder in checkpoints.iterdir()) == names
    absent = checkpoints / "step-00000003"
    for dry in (True, False):
        with pytest.raises(UsageError, match="no checkpoint") as error:
            train(recipe, run=absent, data={"target": squares}, resume=True, dry_run=dry)
        assert error.value.hint == "there are step-00000002, step-00000004"
    assert sorted(folder.name for folder in checkpoints.iterdir()) == names
    train(recipe, run=named, data={"target": squares}, resume=True)
    assert (run / "run.json").exists()


def test_the_best_checkpoint_can_be_gone_back_to(squares: Path, tmp_path: Path):
    """Also when newer ones have pushed out the place where it was made."""
    recipe = load_recipe(
        "codec",
        overrides=[
            *("stages.codec.steps=8", "stages.codec.batch=2", "engine.checkpoint_every=2"),
            *("engine.keep_best=true", "stages.codec.optimizer.learning_rate=1.0"),  # ever worse
        ],
    )
    run, done = tmp_path / "run", []

    def stop(step: int, steps: int, note: object) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe, run=run, data={"target": squares}, on_progress=stop)
    checkpoints = run / "01-codec/checkpoints"
    assert sorted(folder.name for folder in checkpoints.iterdir()) == ["best", "step-00000006"]
    best = checkpoints / "best"
    step = json.loads((best / "state.json").read_text())["step"]
    assert step < 6
    data = {"target": squares}
    train(recipe, run=best, data=data, resume=True, on_progress=lambda at, *_: done.append(at))
    assert min(done) == step + 1
    assert (run / "run.json").exists()


def test_a_moved_dataset_is_the_same(squares: Path, tmp_path: Path):
    few = load_recipe("codec", overrides=["stages.codec.steps=2", "stages.codec.batch=2"])
    run, moved = tmp_path / "run", tmp_path / "moved"
    train(few, run=run, data={"target": squares})
    shutil.copytree(squares, moved)
    assert train(few, run=run, data={"target": moved}, resume=True).data == {"target": moved}
