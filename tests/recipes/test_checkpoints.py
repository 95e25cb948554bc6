"""Weights move between models by name, and every key is accounted for."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from motus_embodiments import DataError
from motus_recipes.schema import EngineSpec, Optimizer
from motus_recipes.training.averaging import Average
from motus_recipes.training.checkpoints import Training, load_checkpoint, save_checkpoint, transfer
from motus_recipes.training.engine import Engine
from motus_recipes.training.trainer import rate


def test_transfer_accounts_for_every_key():
    old = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 2), "gone": nn.Linear(1, 1)})
    new = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 4), "head": nn.Linear(1, 1)})
    moved = transfer(old.state_dict(), new, fresh=("head",))
    assert moved.loaded == ("a.bias", "a.weight")
    assert set(moved.fresh) == {"b.bias", "b.weight", "head.bias", "head.weight"}
    assert set(moved.unused) == {"b.bias", "b.weight", "gone.bias", "gone.weight"}
    assert torch.equal(new["a"].weight, old["a"].weight)


def training(seed: int, steps: int, decay: float = 0.9) -> Training:
    torch.manual_seed(seed)
    layer = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    optimizer = torch.optim.AdamW(layer[0].parameters())
    made = Training(layer, optimizer, Average(layer, decay))
    for step in range(steps):
        layer(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        made.average.update(layer, step)
    return made


def test_the_count_of_steps_lies_where_the_weights_are():
    """A fused optimizer on CUDA wants it there; `meta` stands for any other device."""
    layer = nn.Linear(3, 2, device="meta")
    fresh = Training(layer, torch.optim.AdamW(layer.parameters()), Average(layer, 0))
    shapes = {f"model.{key}": tuple(value.shape) for key, value in layer.state_dict().items()}
    for name, parameter in layer.named_parameters():
        shapes |= {f"optimizer.{name}.{key}": tuple(parameter.shape) for key in ("exp_avg",)}
        shapes[f"optimizer.{name}.step"] = ()
    room = fresh.blank(shapes, Path("checkpoint"))
    assert {value.device.type for value in room.values()} == {"meta"}


def test_a_training_survives_without_a_pickle(tmp_path: Path):
    before, after = training(0, 2), training(1, 0)
    save_checkpoint(tmp_path / "step-2", before, {"step": 2}, Engine(EngineSpec(), "cpu"))
    assert load_checkpoint(tmp_path / "step-2", after, Engine(EngineSpec(), "cpu")) == {"step": 2}
    old, new = before.tensors(), after.tensors()
    assert set(old) == set(new)
    assert any(name.endswith("exp_avg_sq") for name in old)
    assert all(torch.equal(old[name], new[name]) for name in old)
    suffixes = {file.suffix for file in (tmp_path / "step-2").iterdir()}
    assert suffixes == {".safetensors", ".json"}


def test_a_checkpoint_of_another_model_is_refused_with_its_keys(tmp_path: Path):
    engine = Engine(EngineSpec(), "cpu")
    save_checkpoint(tmp_path / "step-1", training(0, 1), {}, engine)
    other = training(0, 0)
    other.module.append(nn.ModuleDict({"other": nn.Bilinear(1, 2, 3), "more": nn.Linear(1, 1)}))
    other = Training(other.module, other.optimizer, Average(other.module, 0.0))
    with pytest.raises(DataError, match="tensors differ") as error:
        load_checkpoint(tmp_path / "step-1", other, engine)
    told = str(error.value)
    assert re.search(r"model\.2\.other\.weight +- +3 x 1 x 2", told)
    assert re.search(r"average\.0\.bias +2 +-\n", told)


def test_a_checkpoint_of_another_shape_is_refused(tmp_path: Path):
    engine = Engine(EngineSpec(), "cpu")
    save_checkpoint(tmp_path / "step-1", training(0, 1), {}, engine)
    wide = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    other = Training(wide, torch.optim.AdamW(wide[0].parameters()), Average(wide, 0.9))
    with pytest.raises(DataError, match=r"model\.0\.weight +2 x 3 +5 x 3"):
        load_checkpoint(tmp_path / "step-1", other, engine)


@pytest.mark.parametrize("damage", ["truncate", "delete", "pickle"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str):
    engine = Engine(EngineSpec(), "cpu")
    save_checkpoint(tmp_path / "step-1", training(0, 1), {}, engine)
    file = next((tmp_path / "step-1").glob("*.safetensors"))
    match damage:
        case "truncate":
            file.write_bytes(file.read_bytes()[:-8])
        case "delete":
            file.unlink()
        case "pickle":
            torch.save({"a": torch.ones(1)}, file)
    with pytest.raises(DataError, match="step-1"):
        load_checkpoint(tmp_path / "step-1", training(0, 0), engine)


def test_the_schedule_rises_and_falls():
    settings = Optimizer(learning_rate=1.0, warmup=10)
    rates = [rate(settings, step, 100) for step in range(100)]
    assert rates[0] < rates[5] < rates[9]
    assert rates[10] > rates[50] > rates[99] > 0
    assert rate(Optimizer(learning_rate=1.0, schedule="constant"), 70, 100) == 1.0
    assert rate(Optimizer(learning_rate=1.0, schedule="linear"), 70, 100) == pytest.approx(0.3)
