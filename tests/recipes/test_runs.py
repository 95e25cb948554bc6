"""A run: the whole recipe on a tiny dataset; killed and resumed; exported; refused."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

from motus_adapters import Layout, Policy
from motus_adapters.deployment.bundle import BundleConfig
from motus_embodiments import (
    DataError,
    MismatchError,
    MotusError,
    UsageError,
    load_card,
    save_card,
)
from motus_model import Window
from motus_recipes import demo, export, load_recipe, sample, train
from motus_recipes.exporting import _executed
from motus_recipes.training.checkpoints import read_weights

SMALL = (
    *(
        f"stages.{stage}.{key}={value}"
        for stage in ("codec", "stage1", "stage2", "stage3")
        for key, value in (("steps", 4), ("batch", 4))
    ),
    "stages.stage3.lora.experts=[video, action]",
    "stages.stage3.lora.rank=2",
    "engine.checkpoint_every=2",
)


@pytest.fixture(scope="module")
def finished(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "full"
    torch.set_num_threads(1)  # as the killed runs have: sums are taken in the same order
    recipe = load_recipe("full", overrides=SMALL)
    report = train(recipe, run=run, data={"target": squares})
    assert [stage.name for stage in report.stages] == ["codec", "stage1", "stage2", "stage3"]
    assert all(np.isfinite(stage.loss) for stage in report.stages)
    assert report.stages[0].details["health"]["target"]["frames"] > 0
    return run


def weights(run: Path) -> dict[str, bytes]:
    return {
        f"{path.parent.parent.name}/{path.name}": path.read_bytes()
        for path in sorted(run.glob("*/result/weights.safetensors"))
    }


def test_killed_at_any_moment_and_resumed_equals_never_killed(
    finished: Path, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(Path(__file__).parent)  # other processes have it, too
    from worker import go_on

    # A fork of this process would not train where another test has used autograd's threads.
    server = get_context("forkserver")
    server.set_forkserver_preload([train.__module__, "transformers.models.qwen3_vl"])
    run = tmp_path / "killed"
    kills = 0
    # Before a first checkpoint, and while it is written.
    for sign in ("01-codec/metrics.jsonl", "03-stage2/metrics.jsonl", "04-stage3/checkpoints"):
        process = server.Process(target=go_on, args=(run, squares, *SMALL))
        process.start()
        while process.is_alive() and not (run / sign).exists():
            time.sleep(0.002)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    # When it stands: the run goes on from there.
    stands = {"dies_at": run / "04-stage3/checkpoints/step-00000002/state.json"}
    process = server.Process(target=go_on, args=(run, squares, *SMALL), kwargs=stands)
    process.start()
    process.join()
    kills += process.exitcode == -signal.SIGKILL
    go_on(run, squares, *SMALL)
    assert kills >= 2
    assert weights(run) == weights(finished)
    for file in sorted(finished.glob("*/metrics.jsonl")):
        assert (run / file.relative_to(finished)).read_text() == file.read_text()


def test_a_run_is_not_overwritten_or_mixed_up(
    finished: Path, squares: Path, tmp_path: Path, write: Callable[..., Path]
):
    recipe = load_recipe("full", overrides=SMALL)
    with pytest.raises(UsageError) as error:
        train(recipe, run=finished, data={"target": squares})
    assert "--resume" in (error.value.hint or "")
    other = load_recipe("full", overrides=[*SMALL, "stages.stage1.steps=5"])
    with pytest.raises(MismatchError) as mismatch:
        train(other, run=finished, data={"target": squares}, resume=True)
    assert "stages.1.steps was 4, is 5" in str(mismatch.value)
    another = write(tmp_path / "other", episodes=3)
    with pytest.raises(MismatchError):
        train(recipe, run=finished, data={"target": another}, resume=True)


def test_force_replaces_nothing_but_a_run_or_a_policy(finished: Path, squares: Path, tmp_path):
    recipe = load_recipe("full", overrides=SMALL)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    held = shutil.copytree(squares, tmp_path / "held")
    for folder in (mine, held, mine / "thesis.txt"):
        with pytest.raises(MotusError):
            train(recipe, run=folder, data={"target": squares}, force=True)
        with pytest.raises(UsageError, match="something else"):
            export(finished, "pusht", folder, force=True)
        with pytest.raises(UsageError):
            demo(folder, force=True)
    assert (mine / "thesis.txt").read_text() == "years of work"
    assert (held / "meta/motus.json").is_file()
    export(finished, "pusht", tmp_path / "policy")
    export(finished, "pusht", tmp_path / "policy", force=True)


def test_datasets_are_found_and_checked(squares: Path, tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("full", overrides=SMALL)
    with pytest.raises(DataError) as error:
        train(recipe, run=tmp_path / "run")
    assert "target" in str(error.value)
    with pytest.raises(UsageError) as unknown:
        train(recipe, run=tmp_path / "run", data={"targt": squares})
    assert unknown.value.hint == "did you mean 'target'?"
    low = write(tmp_path / "data" / "low", episodes=2, level=5)
    with pytest.raises(DataError) as level:
        train(recipe, run=tmp_path / "run", data={"target": low})
    assert "level 6" in str(level.value)
    assert not (tmp_path / "run").exists()


def test_what_a_recipe_can_do_without_may_lie_nowhere(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "data" / "pick", episodes=2)
    where = ["datasets.anchor.path=data/moves", "datasets.anchor.required=false"]
    recipe = load_recipe("full", overrides=[*SMALL, *where])
    report = train(recipe, run=tmp_path / "run", dry_run=True)
    assert report.data == {"target": Path("data/pick")}
    assert "anchor" in report.skipped
    with pytest.raises(DataError, match="elsewhere does not exist"):
        train(recipe, run=tmp_path / "run", data={"anchor": Path("elsewhere")}, dry_run=True)
    moves = write(tmp_path / "data" / "moves", episodes=2, level=4)
    assert train(recipe, run=tmp_path / "run", dry_run=True).data["anchor"] == Path("data/moves")
    (moves / "meta/motus.json").rename(moves / "meta/gone.json")
    with pytest.raises(DataError, match="data/moves"):
        train(recipe, run=tmp_path / "run", dry_run=True)


def test_what_may_be_meant_must_be_said(tmp_path: Path, monkeypatch, write):
    """Anchoring data go with the target's robot; two targets are a question."""
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("full", overrides=SMALL)
    write(tmp_path / "data" / "pick", episodes=2)
    write(tmp_path / "data" / "moves", episodes=2, level=4)
    report = train(recipe, run=tmp_path / "run", dry_run=True)
    assert report.data == {"target": Path("data/pick"), "anchor": Path("data/moves")}
    assert [stage.loss for stage in report.stages] == [None] * 4
    own = load_card("pusht").model_copy(update={"name": "pusher"})
    save_card(own, tmp_path / "embodiments")
    write(tmp_path / "data" / "a robot's", episodes=2, level=4, card="pusher")
    assert train(recipe, run=tmp_path / "run", dry_run=True).data["anchor"] == Path("data/moves")
    write(tmp_path / "data" / "an other", episodes=2)
    with pytest.raises(
        UsageError, match="'target' may be any of data/an other, data/pick"
    ) as error:
        train(recipe, run=tmp_path / "run", dry_run=True)
    assert error.value.hint == "say which: --data 'target=data/an other'"
    both = train(recipe, run=tmp_path / "run", data={"target": Path("data/pick")}, dry_run=True)
    assert both.data["target"] == Path("data/pick")


def test_dry_run_writes_nothing(squares: Path, tmp_path: Path):
    recipe = load_recipe("full", overrides=SMALL)
    report = train(recipe, run=tmp_path / "run", data={"target": squares}, dry_run=True)
    assert len(report.stages) == 4
    uneven = load_recipe("full", overrides=[*SMALL, "engine.microbatch=7"])
    with pytest.raises(UsageError, match="does not split"):
        train(uneven, run=tmp_path / "run", data={"target": squares}, dry_run=True)
    with pytest.raises(UsageError, match="device"):
        train(recipe, run=tmp_path / "run", data={"target": squares}, dry_run=True, device="gpu")
    assert not (tmp_path / "run").exists()


def test_the_exported_policy_takes_and_gives_native_values(finished: Path, tmp_path: Path):
    bundle = tmp_path / "policy"
    export(finished, "pusht", bundle)
    policy = Policy.load(bundle)
    picture = np.zeros((48, 48, 3), np.uint8)
    state = np.array([200.0, 300.0])  # pixels, the recordings' own unit
    actions = policy.act({"img": picture}, state, "push the block")
    assert actions.shape == (8, 2)
    assert (actions >= 0).all()
    assert (actions <= 512).all()
    again = Policy.load(bundle).act({"img": picture}, state, "push the block")
    np.testing.assert_array_equal(actions, again)
    with pytest.raises(DataError) as error:
        policy.act({"left": picture}, state, "push")
    assert "head" in str(error.value)
    with pytest.raises(DataError):
        policy.act({"img": picture.astype(np.float32)}, state, "push")
    with pytest.raises(DataError):
        policy.act({"img": picture}, np.zeros(8), "push")


def test_export_is_repeatable_and_refuses_other_robots(finished: Path, tmp_path: Path):
    one, two = tmp_path / "one", tmp_path / "two"
    export(finished, "pusht", one)
    export(finished, "pusht", two)
    for file in one.iterdir():
        assert file.read_bytes() == (two / file.name).read_bytes()
    with pytest.raises(UsageError):
        export(finished, "pusht", one)
    with pytest.raises(UsageError, match=r"--execute 9 .* 8 at 10 Hz"):
        export(finished, "pusht", tmp_path / "three", execute=9)
    with pytest.raises(MismatchError) as error:
        export(finished, "aloha", tmp_path / "three")
    assert "trained for 'pusht'" in str(error.value)


def test_a_changed_bundle_is_refused(finished: Path, tmp_path: Path):
    bundle = tmp_path / "policy"
    export(finished, "pusht", bundle)
    stats = (bundle / "stats.json").read_text()
    (bundle / "stats.json").write_text(stats.replace("0.", "1.", 1))
    with pytest.raises(MismatchError) as error:
        Policy.load(bundle)
    assert "statistics" in str(error.value)
    (bundle / "stats.json").write_text(stats)
    whole = (bundle / "policy.safetensors").read_bytes()
    (bundle / "policy.safetensors").write_bytes(whole[:1000])
    with pytest.raises(DataError):
        Policy.load(bundle)
    with pytest.raises(DataError):
        Policy.load(tmp_path / "nowhere")


@pytest.mark.parametrize("mode", ["vgm", "wm", "idm", "vla", "joint"])
def test_sample_writes_what_a_mode_solves(finished: Path, squares: Path, tmp_path: Path, mode):
    bundle = tmp_path / "policy"
    export(finished, "pusht", bundle)
    report = sample(bundle, squares, 0, mode, tmp_path / "out", steps=2)
    assert (report.film is not None) == (mode in ("vgm", "wm", "joint"))
    assert (report.plot is not None) == (mode in ("idm", "vla", "joint"))
    for path in (report.film, report.plot):
        assert path is None or path.stat().st_size > 500
    assert (report.video is not None) == (report.film is not None)
    with pytest.raises(UsageError):
        sample(bundle, squares, 99, mode, tmp_path / "other")


def test_weights_are_never_a_pickle(tmp_path: Path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"\x80\x04" + os.urandom(200))
    with pytest.raises(DataError):
        read_weights(path)


def test_a_robot_whose_chunk_is_one_row_carries_out_that_one():
    one = BundleConfig("tiny", Window(2, 2.5, 1, 10.0), Layout(48, 48, {}), 10.0)
    assert _executed(one, None) == 1
    assert _executed(replace(one, rate=20.0), None) == 2


def test_a_run_behind_a_link_goes_on_from_its_checkpoint(squares: Path, tmp_path: Path):
    """As where `runs` is a link to a larger disk."""
    few = ["stages.stage1.steps=4", "stages.stage1.batch=2", "engine.checkpoint_every=1"]
    recipe, data = load_recipe("stage1", overrides=few), {"target": squares}

    def stop(done: int, steps: int, note: object) -> None:
        if done == 3:
            raise KeyboardInterrupt

    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to("disk")
    run = tmp_path / "runs" / "one"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, run=run, data=data, on_progress=stop)
    named = run / "01-stage1/checkpoints/step-00000003"
    assert train(recipe, run=named, data=data, resume=True).stages[0].steps == 4


def test_a_runs_folder_may_be_a_link_or_where_one_is(squares: Path, tmp_path: Path, monkeypatch):
    few = ["stages.stage1.steps=1", "stages.stage1.batch=2"]
    recipe, data = load_recipe("stage1", overrides=few), {"target": squares}
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to("disk")
    train(recipe, run=tmp_path / "run", data=data)
    monkeypatch.chdir(tmp_path / "disk")
    Path("old.txt").touch()
    train(recipe, run=Path(), data=data, force=True)
    assert Path("run.json").is_file()
    assert not Path("old.txt").exists()
    assert (tmp_path / "run").is_symlink()
