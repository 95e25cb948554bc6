"""Baselines of inverse dynamics: trained by a recipe, held against a policy on the same windows."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from motus_adapters import Policy, UnifiedDataset
from motus_embodiments import DataError, MismatchError, UsageError
from motus_recipes import load_recipe, sample, train
from motus_recipes.data.cache import open_cached
from motus_recipes.data.windows import cut_all, joined, which_episodes
from motus_recipes.evaluation.backbones import has_lite0
from motus_recipes.evaluation.baselines import InverseDynamics, read_baselines

pytestmark = pytest.mark.skipif(not has_lite0(), reason="EfficientNet-Lite0 is not installed")
SMALL = [
    change
    for stage in ("resnet18", "frozen")
    for change in (f"stages.{stage}.steps=2", f"stages.{stage}.batch=2")
]


@pytest.fixture(scope="module")
def run(squares: Path, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "idm"
    report = train(load_recipe("idm", overrides=SMALL), run=folder, data={"target": squares})
    assert [stage.name for stage in report.stages] == ["resnet18", "frozen"]
    assert "--baselines" in (report.next or "")
    return folder


@pytest.fixture(scope="module")
def policy(untrained, tmp_path_factory) -> Path:
    return untrained(tmp_path_factory.mktemp("p") / "policy", "pusht", {"head": (48, 48)})


def test_the_table_is_of_the_same_windows(run, policy, squares: Path, tmp_path: Path, motus):
    options = ("--episode", "2-3", "--mode", "idm", "--steps", 1, "--baselines", run, "--json")
    ran = motus("sample", policy, "--dataset", squares, "--out", tmp_path / "out", *options)
    assert ran.code == 0
    found = ran.document
    assert (found["episode"], found["episodes"]) == (2, 2)
    names = [row["name"] for row in found["inverse_dynamics"]]
    assert names == ["motus", "resnet18", "frozen"]
    assert found["inverse_dynamics"][0]["mse"] == found["action_mse"]
    loaded = Policy.load(policy)
    whole = joined(cut_all(loaded, squares, "2-3"))
    assert found["windows"] == len(whole.pictures)
    frames = np.concatenate([whole.pictures[:, None], whole.future], axis=1)
    for row, one in zip(found["inverse_dynamics"][1:], baselines(run, loaded), strict=True):
        actions = one.solve(frames, whole.state)
        wanted = np.square(actions - whole.actions)
        assert row["mse"] == pytest.approx(wanted.mean(), rel=1e-4)
        by_hand = [row["actions"][c]["mse_by_step"] for c in range(2)]
        np.testing.assert_allclose(by_hand, wanted.mean(0).T, rtol=1e-4)


def baselines(run: Path, policy: Policy, card: str = "pusht"):
    from dataclasses import replace

    return read_baselines(run, card, replace(policy.model.config, window=policy.config.window))


def test_it_solves_as_it_was_trained(run, policy, squares: Path):
    """A window from the trainer's cache and one cut for a policy give the same actions."""
    loaded = Policy.load(policy)
    cached = open_cached("target", squares, load_recipe("idm").model)
    (windows,) = cut_all(loaded, squares, 0)
    rows = np.concatenate([[0], cached.future(np.array([0]), 2, 2.5, 1)[0]])
    np.testing.assert_array_equal(cached.canvas[rows[0]], windows.pictures[0])
    np.testing.assert_array_equal(cached.canvas[rows[1:]], windows.future[0])
    for one in baselines(run, loaded):
        frames = np.concatenate([windows.pictures[:1, None], windows.future[:1]], axis=1)
        found = one.solve(frames, windows.state[:1])
        seen = torch.from_numpy(np.array(cached.canvas[rows])).permute(0, 3, 1, 2)[None] / 255
        with torch.no_grad():
            if one.eye is not None:
                seen = one.eye(seen[0])[None]
            state = torch.from_numpy(one.space.state.normalize(cached.state[:1]))
            solved = one.network.solve(seen, state).numpy()
        wanted = one.space.adapter.absolute(one.space.action.denormalize(solved), windows.state[:1])
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_the_mlp_learns_what_its_frames_show():
    generator = torch.Generator().manual_seed(0)
    seen = torch.randn(64, 3, 5, generator=generator)
    state = torch.randn(64, 2, generator=generator)
    # Actions that follow from two frames' difference and the state.
    wanted = (seen[:, 2, :2] - seen[:, 0, :2] + state)[:, None].repeat(1, 4, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = InverseDynamics(None, 5, 3, 2, (4, 2))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = network(seen, state, wanted).total.mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 20


def test_killed_and_resumed_is_never_killed(run, squares: Path, tmp_path: Path):
    again = tmp_path / "again"
    recipe = load_recipe("idm", overrides=[*SMALL, "engine.checkpoint_every=1"])

    class StoppedError(Exception):
        pass

    def stop(done: int, count: int, note: object) -> None:
        if done == 3:  # in the middle of the second stage
            raise StoppedError

    with pytest.raises(StoppedError):
        train(recipe, run=again, data={"target": squares}, on_progress=stop)
    train(recipe, run=again, data={"target": squares}, resume=True)
    for stage in ("01-resnet18", "02-frozen"):
        kept = [f / stage / "result" / "weights.safetensors" for f in (run, again)]
        assert kept[0].read_bytes() == kept[1].read_bytes()


def test_what_does_not_fit_is_refused(run, policy, squares: Path, tmp_path: Path):
    loaded = Policy.load(policy)
    with pytest.raises(MismatchError, match="robot pusht, the policy franka"):
        baselines(run, loaded, "franka")
    with pytest.raises(DataError, match="no run"):
        baselines(tmp_path, loaded)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    state = other / "02-frozen" / "result" / "state.json"
    told = json.loads(state.read_text())
    told["window"]["video_frames"] = 7
    state.write_text(json.dumps(told))
    with pytest.raises(MismatchError, match="window"):
        baselines(other, loaded)
    state.unlink()
    with pytest.raises(DataError, match=r"'frozen' .* is not finished"):
        baselines(other, loaded)
    with pytest.raises(UsageError, match="inverse dynamics, not of vla"):
        sample(policy, squares, 0, "vla", tmp_path / "out", baselines=run)
    with pytest.raises(UsageError, match="if its objective is idm"):
        load_recipe("idm", overrides=["stages.frozen.objective=motus"])
    with pytest.raises(UsageError) as error:
        load_recipe("idm", overrides=["stages.frozen.backbone.frosen=true"])
    assert "frozen" in (error.value.hint or "")


def test_episodes_have_names(squares: Path):
    dataset = UnifiedDataset(squares)
    assert list(which_episodes("heldout", dataset)) == [3]
    assert list(which_episodes("all", dataset)) == [0, 1, 2, 3]
    assert list(which_episodes("1-2", dataset)) == [1, 2]
    assert list(which_episodes(2, dataset)) == [2]
    for wrong in ("4", "2-4", "3-2", "-1", "last", "1-"):
        with pytest.raises(UsageError):
            which_episodes(wrong, dataset)
    cached = open_cached("target", squares, load_recipe("idm").model)
    held = cached.split()[1]  # what no stage trains on
    assert len(held) == dataset.episodes[3].length
