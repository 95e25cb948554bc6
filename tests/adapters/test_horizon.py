"""Statistics of action chunks: per horizon, absolute and relative, kept with the dataset."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_unified import LENGTHS, Job, header

from motus_adapters import (
    ActionSpace,
    Normalizer,
    UnifiedDataset,
    action_chunks,
    chunk_statistics,
    write_dataset,
)
from motus_adapters.unified.horizon import ACTION_STATS
from motus_embodiments import ActionAdapter, load_card


@pytest.fixture
def dataset(tmp_path):
    write_dataset(tmp_path / "d", header(), [Job(i) for i in range(len(LENGTHS))])
    return UnifiedDataset(tmp_path / "d")


def chunks_of(dataset, steps, rate, relative):
    spec = dataset.meta.card.action.model_copy(update={"relative": relative})
    adapter = ActionAdapter(dataset.meta.card.model_copy(update={"action": spec}))
    parts = [
        action_chunks(dataset.arrays(i), adapter, dataset.meta.rate, steps, rate)
        for i in range(len(dataset.episodes))
    ]
    return np.concatenate(parts).reshape(-1, parts[0].shape[-1])


def test_statistics_are_those_of_the_chunks(dataset):
    stats = chunk_statistics(dataset, 5, dataset.meta.rate)
    for name, relative in (("absolute", False), ("relative", True)):
        values = chunks_of(dataset, 5, dataset.meta.rate, relative).astype(float)
        for key, truth in (
            ("min", values.min(0)),
            ("max", values.max(0)),
            ("mean", values.mean(0)),
            ("std", values.std(0)),
        ):
            np.testing.assert_allclose(stats[name][key], truth, atol=1e-7)
        width = (values.max(0) - values.min(0)) / 4096 + 1e-7
        for key, share in (("q01", 0.01), ("q99", 0.99)):
            # As many values lie below as the name says, to a bin of the histogram.
            assert ((values < stats[name][key] - width).mean(0) <= share).all()
            assert ((values <= stats[name][key] + width).mean(0) >= share).all()
    assert stats["relative"] != stats["absolute"]


def test_another_horizon_is_measured_anew_and_both_are_kept(dataset):
    short = chunk_statistics(dataset, 2, dataset.meta.rate)
    long = chunk_statistics(dataset, 10, dataset.meta.rate)
    assert long["relative"]["max"] > short["relative"]["max"]
    kept = json.loads((dataset.path / ACTION_STATS).read_text())
    assert sorted(entry["steps"] for entry in kept.values()) == [2, 10]
    assert len({*kept}) == 2
    # What is kept is read, not measured again.
    for entry in kept.values():
        entry["relative"]["max"] = [7.0, 7.0]
    (dataset.path / ACTION_STATS).write_text(json.dumps(kept))
    assert chunk_statistics(dataset, 2, dataset.meta.rate)["relative"]["max"] == [7.0, 7.0]


def test_the_last_action_is_held(dataset):
    arrays = dataset.arrays(1)
    chunks = action_chunks(arrays, ActionAdapter(dataset.meta.card), dataset.meta.rate, 4, 10.0)
    assert chunks.shape == (LENGTHS[1], 4, 2)
    np.testing.assert_allclose(chunks[-1], np.tile(arrays["action"][-1], (4, 1)))


def test_a_dataset_without_actions_has_none(tmp_path):
    class Silent(Job):
        def load(self):
            return replace(super().load(), action=None)

    write_dataset(tmp_path / "s", header(has_action=False), [Silent(0)])
    assert chunk_statistics(UnifiedDataset(tmp_path / "s"), 4, 10.0) == {}


def test_normalizers_keep_their_range():
    values = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    fitted = Normalizer.fit(values)
    told = fitted.to_dict()
    assert set(told) == {"mean", "std", "min", "q01", "q99", "max"}
    np.testing.assert_allclose(told["q99"], np.quantile(values, 0.99, axis=0), atol=1e-5)
    again = Normalizer.from_dict(told)
    np.testing.assert_array_equal(again.range, fitted.range)
    bare = Normalizer.from_dict({"mean": told["mean"], "std": told["std"]})
    assert bare.range is None
    np.testing.assert_allclose(bare.denormalize(bare.normalize(values)), values, atol=1e-5)
    card = load_card("pusht")
    space = ActionSpace(card, fitted, fitted)
    assert ActionSpace.from_dict(card, space.to_dict()).to_dict() == space.to_dict()
