"""Weights move between models by name, and every key is accounted for."""

import torch
from torch import nn

from motus_recipes.checkpoints import load_optimizer, optimizer_tensors, transfer
from motus_recipes.schema import Optimizer
from motus_recipes.trainer import rate


def test_transfer_accounts_for_every_key():
    old = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 2), "gone": nn.Linear(1, 1)})
    new = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 4), "head": nn.Linear(1, 1)})
    moved = transfer(old.state_dict(), new, fresh=("head",))
    assert moved.loaded == ("a.bias", "a.weight")
    assert set(moved.fresh) == {"b.bias", "b.weight", "head.bias", "head.weight"}
    assert set(moved.unused) == {"b.bias", "b.weight", "gone.bias", "gone.weight"}
    assert torch.equal(new["a"].weight, old["a"].weight)


def test_optimizer_state_survives_without_a_pickle():
    layer = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    other = torch.optim.AdamW(layer.parameters())
    load_optimizer(other, optimizer_tensors(optimizer))
    before, after = optimizer.state_dict()["state"], other.state_dict()["state"]
    assert all(torch.equal(before[i][key], after[i][key]) for i in before for key in before[i])


def test_the_schedule_rises_and_falls():
    settings = Optimizer(learning_rate=1.0, warmup=10)
    rates = [rate(settings, step, 100) for step in range(100)]
    assert rates[0] < rates[5] < rates[9]
    assert rates[10] > rates[50] > rates[99] > 0
    assert rate(Optimizer(learning_rate=1.0, schedule="constant"), 70, 100) == 1.0
