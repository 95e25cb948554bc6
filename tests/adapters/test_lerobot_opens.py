"""LeRobot 0.6 with a unified dataset: statistics, windows, batches, its editing tools, training."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layouts.unified import write_unified

from motus_adapters import UnifiedDataset

LENGTHS = (20, 3, 18)
QUANTILES = ("q01", "q10", "q50", "q90", "q99")
CANVAS = "observation.images.canvas"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_unified(tmp_path_factory.mktemp("data") / "set", "aloha", LENGTHS)


@pytest.fixture(scope="module")
def theirs(root):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    return LeRobotDataset("motus/set", root=root, video_backend="pyav")


def test_statistics_are_what_lerobot_itself_would_compute(root, theirs):
    from lerobot.datasets.compute_stats import get_feature_stats

    ours = UnifiedDataset(root)
    columns = [ours.columns(e.index) for e in ours.episodes]
    for feature in ours.meta.channels:
        rows = np.concatenate([c[feature] for c in columns])
        wanted = get_feature_stats(rows, axis=0, keepdims=False)
        found = theirs.meta.stats[feature]
        assert set(found) == set(wanted) == {"min", "max", "mean", "std", "count", *QUANTILES}
        for key in wanted:
            assert found[key].shape == wanted[key].shape, (feature, key)
            close = 1e-5 if key not in QUANTILES else 0.1  # its own quantiles are approximate
            np.testing.assert_allclose(found[key], wanted[key], atol=close)
        for key in QUANTILES:
            share = int(key[1:]) / 100
            exact = np.quantile(rows, share, axis=0, method="inverted_cdf")
            span = np.ptp(rows, axis=0)
            assert (np.abs(found[key] - exact) <= span / 1000 + 1e-7).all(), (feature, key)


def test_image_statistics_are_what_lerobot_itself_would_compute(root, theirs):
    from lerobot.datasets.compute_stats import get_feature_stats

    ours = UnifiedDataset(root)
    frames = np.stack([f for e in ours.episodes for f in ours.frames(e.index)])
    pictures = frames.transpose(0, 3, 1, 2) / 255
    wanted = get_feature_stats(pictures, axis=(0, 2, 3), keepdims=True)
    found = theirs.meta.stats[CANVAS]
    assert set(found) == set(wanted)
    assert found["count"] == wanted["count"] == sum(LENGTHS)
    for key in set(wanted) - {"count"}:
        assert found[key].shape == np.shape(wanted[key][0]) == (3, 1, 1)
        np.testing.assert_allclose(
            found[key], wanted[key][0], atol=0.05
        )  # every fourth pixel counts


def test_every_episode_has_statistics_of_its_own(root, theirs):
    import pyarrow.parquet as pq

    ours = UnifiedDataset(root)
    table = pq.read_table(next(root.glob("meta/episodes/*/*.parquet"))).to_pylist()
    for episode, row in zip(ours.episodes, table, strict=True):
        action = ours.arrays(episode.index)["action"]
        np.testing.assert_allclose(row["stats/action/min"], action.min(0), atol=1e-6)
        exact = np.quantile(action.astype(np.float64), 0.9, axis=0)
        np.testing.assert_allclose(row["stats/action/q90"], exact, atol=1e-6)
        assert row[f"stats/{CANVAS}/count"] == [episode.length]
    assert len(theirs.meta.episodes) == len(LENGTHS)


def test_windows_stop_at_the_ends_of_an_episode(root):
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    deltas = {"action": [-0.1, 0.0, 0.1], CANVAS: [0.0, 0.1]}
    windows = LeRobotDataset("m/s", root=root, video_backend="pyav", delta_timestamps=deltas)
    ours = UnifiedDataset(root)
    action = ours.arrays(1)["action"]
    frames = list(ours.frames(1))
    first, last = windows[LENGTHS[0]], windows[LENGTHS[0] + LENGTHS[1] - 1]
    assert first["action_is_pad"].tolist() == [True, False, False]
    assert last["action_is_pad"].tolist() == [False, False, True]
    np.testing.assert_array_equal(first["action"], action[[0, 0, 1]])
    np.testing.assert_array_equal(last["action"], action[[1, 2, 2]])
    assert last[f"{CANVAS}_is_pad"].tolist() == [False, True]
    for item, numbers in ((first, (0, 1)), (last, (2, 2))):
        for image, number in zip(item[CANVAS].numpy(), numbers, strict=True):
            np.testing.assert_allclose(image.transpose(1, 2, 0) * 255, frames[number], atol=0.5)


def test_it_plays_in_a_loader(theirs):
    """Every row once, shuffled, in batches."""
    import torch

    loader = torch.utils.data.DataLoader(theirs, batch_size=8, shuffle=True)
    batches = list(loader)
    assert sorted(torch.cat([b["index"] for b in batches]).tolist()) == list(range(sum(LENGTHS)))
    assert batches[0][CANVAS].shape == (8, 3, 72, 64)
    assert {task for b in batches for task in b["task"]} == {"push", "pull"}


def test_lerobots_own_tools_edit_it(theirs, tmp_path):
    from lerobot.datasets import dataset_tools

    shorter = dataset_tools.delete_episodes(
        theirs, [0], output_dir=tmp_path / "shorter", repo_id="m/shorter"
    )
    assert (len(shorter), shorter.num_episodes) == (21, 2)
    merged = dataset_tools.merge_datasets(
        [theirs, theirs], output_repo_id="m/merged", output_dir=tmp_path / "merged"
    )
    assert (len(merged), merged.num_episodes) == (82, 6)
    for ours, other in ((25, 25), (25, 66)):
        np.testing.assert_array_equal(merged[other]["action"], theirs[ours]["action"])
        image = merged[other][CANVAS] - theirs[ours][CANVAS]
        assert float(image.abs().mean()) < 0.01
    assert merged.meta.stats["action"]["count"] == [82]


@pytest.mark.slow
def test_lerobot_trains_on_it(root, theirs, tmp_path):
    """Two steps of ACT with quantile normalisation, which needs q01 and q99."""
    from safetensors.numpy import load_file

    run = tmp_path / "run"
    norm = {"STATE": "QUANTILES", "ACTION": "QUANTILES", "VISUAL": "MEAN_STD"}
    small = {"chunk_size": 8, "n_action_steps": 8, "dim_model": 32, "n_heads": 2}
    small |= {"dim_feedforward": 64, "n_encoder_layers": 1, "use_vae": "false"}
    options = {
        "policy.type": "act",
        "policy.device": "cpu",
        "policy.push_to_hub": "false",
        "policy.pretrained_backbone_weights": "null",
        "policy.normalization_mapping": json.dumps(norm),
        **{f"policy.{name}": value for name, value in small.items()},
        "dataset.repo_id": "motus/set",
        "dataset.root": root,
        "dataset.video_backend": "pyav",
        "steps": 2,
        "batch_size": 2,
        "num_workers": 0,
        "save_freq": 2,
        "log_freq": 1,
        "output_dir": run,
    }
    command = [Path(sys.executable).with_name("lerobot-train")]
    command += [f"--{name}={value}" for name, value in options.items()]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    losses = [float(loss) for loss in re.findall(r" loss:(\S+)", ran.stderr)]
    assert len(losses) == 2, ran.stderr[-2000:]
    assert np.isfinite(losses).all()
    (saved,) = run.glob("checkpoints/000002/pretrained_model/*preprocessor*normalizer*.safetensors")
    kept = load_file(saved)
    for key in ("q01", "q99"):
        np.testing.assert_allclose(
            kept[f"action.{key}"], theirs.meta.stats["action"][key], rtol=1e-5
        )
