"""Flow of a known shift, and latent actions made of it."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from motus_adapters import (
    DisFlow,
    UnifiedDataset,
    compose,
    convert,
    flow_canvas,
    label_dataset,
    labeler_for,
    layout_for,
    open_source,
)
from motus_embodiments import DataError, MissingError, UsageError


def _texture(height, width):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (height // 6, width // 6, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def _shifted(picture, right, down):
    matrix = np.float32([[1, 0, right], [0, 1, down]])
    size = picture.shape[1::-1]
    return cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize("size", [(240, 320), (96, 128)])
def test_known_shift(size):
    """Every view tells its own shift, in percent of its own width, at any resolution."""
    height, width = size
    layout = layout_for(dict.fromkeys(("head", "left_wrist", "right_wrist"), size))
    picture = _texture(height, width)
    percent = {"head": (2.0, -1.0), "left_wrist": (-1.5, 0.0), "right_wrist": (0.0, 2.0)}
    moved = {
        r: _shifted(picture, x * width / 100, y * width / 100) for r, (x, y) in percent.items()
    }
    before = compose(dict.fromkeys(percent, picture), layout)
    flow = flow_canvas(before, compose(moved, layout), layout, DisFlow())
    assert flow.shape == (2, 72, 64)
    assert flow.dtype == np.float32
    inner = {
        "head": flow[:, 8:40, 8:56],
        "left_wrist": flow[:, 52:68, 4:28],
        "right_wrist": flow[:, 52:68, 36:60],
    }
    for role, part in inner.items():
        error = part - np.asarray(percent[role])[:, None, None]
        assert np.hypot(*error).mean() < 0.1


def test_known_shift_of_a_real_picture(shared):
    recording = open_source(shared / "act_hdf5_aloha_sim")[1][1]
    picture = next(iter(recording.frames("top")))
    layout = layout_for({"head": picture.shape[:2]})
    flow = flow_canvas(picture, _shifted(picture, 6.4, 3.2), layout, DisFlow())
    inner = flow[:, 8:40, 8:56]
    # A flat table has no texture to follow, so the typical cell counts, not the mean.
    assert np.abs(np.median(inner, axis=(1, 2)) - [2.0, 1.0]).max() < 0.15


def test_without_wrists_their_part_is_zero():
    layout = layout_for({"head": (96, 128)})
    picture = _texture(96, 128)
    flow = flow_canvas(picture, _shifted(picture, 3, 0), layout, DisFlow())
    assert (flow[:, 48:] == 0).all()
    assert (flow[0, 8:40, 8:56] > 1).all()


def test_threads_change_nothing():
    layout = layout_for({"head": (240, 320)})
    pair = _texture(240, 320), _shifted(_texture(240, 320), 5, 2)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        many = flow_canvas(*pair, layout, DisFlow())
        assert cv2.getNumThreads() == 4
        cv2.setNumThreads(1)
        np.testing.assert_array_equal(many, flow_canvas(*pair, layout, DisFlow()))
    finally:
        cv2.setNumThreads(threads)


def _make_codec(folder, seed):
    import torch

    from motus_model import CodecConfig, LatentActionCodec

    torch.manual_seed(seed)
    LatentActionCodec(CodecConfig(widths=(4, 4, 4), hidden=8)).save(folder, {})
    return folder


@pytest.fixture(scope="module")
def codecs(tmp_path_factory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("codecs")
    return _make_codec(base / "a", 0), _make_codec(base / "b", 1)


def test_conversion_writes_latent_actions(pusht_source, tmp_path, codecs):
    report = convert(pusht_source, tmp_path / "set", card="pusht", codec=codecs[0])
    assert report.latent_actions
    dataset = UnifiedDataset(tmp_path / "set")
    assert dataset.meta.codec == labeler_for(codecs[0]).codec
    assert dataset.meta.flow == "dis-medium"
    latents = dataset.arrays(3)["latent_action"]
    assert latents.shape == (11, 14)
    assert np.isfinite(latents).all()
    np.testing.assert_array_equal(latents[-1], latents[-2])
    assert np.ptp(latents[:-1], axis=0).max() > 0
    assert set(dataset.stats) >= {"latent_action", "motion", "action", "observation.state"}


def test_long_episodes_are_encoded_in_batches(codecs):
    labeler = labeler_for(codecs[0])
    layout = layout_for({"head": (48, 64)})
    frames = [_shifted(_texture(48, 64), t % 7, 0) for t in range(70)]
    track, short = labeler.track(layout), labeler.track(layout)
    for frame in frames:
        track.push(frame)
    for frame in frames[:3]:
        short.push(frame)
    assert track.result().shape == (70, 14)
    np.testing.assert_allclose(track.result()[:2], short.result()[:2], atol=1e-5)
    alone = labeler.track(layout)
    alone.push(frames[0])
    assert (alone.result() == np.zeros((1, 14))).all()


def test_labelling_changes_only_latents(pusht_source, tmp_path, layouts, codecs):
    out = tmp_path / "set"
    convert(pusht_source, out, card="pusht", codec=None)
    before, tree = UnifiedDataset(out), layouts.tree(out)
    old, stats_before = [before.arrays(e.index) for e in before.episodes], before.stats
    report = label_dataset(out, codecs[0], workers=2)
    assert (report.episodes, report.previous) == (5, None)
    after = UnifiedDataset(out)
    for episode, arrays in zip(after.episodes, old, strict=True):
        new = after.arrays(episode.index)
        assert new.pop("latent_action").shape == (episode.length, 14)
        for name, values in arrays.items():
            np.testing.assert_array_equal(new[name], values)
    changed = {name for name, data in layouts.tree(out).items() if tree.get(name) != data}
    assert not any(name.endswith(".mp4") for name in changed)
    stats = dict(after.stats)
    assert stats.pop("latent_action")
    assert stats == stats_before
    _check_lerobot(out, after)


def _check_lerobot(out, dataset):
    import pyarrow.parquet as pq

    schema = pq.read_schema(next((out / "data").rglob("*.parquet")))
    assert schema.field("latent_action").type.list_size == 14
    assert (
        "stats/latent_action/q99"
        in pq.read_schema(out / "meta/episodes/chunk-000/file-000.parquet").names
    )


def test_another_codec_needs_force(pusht_source, tmp_path, layouts, codecs):
    out = tmp_path / "set"
    convert(pusht_source, out, card="pusht", codec=codecs[0])
    tree = layouts.tree(out)
    assert label_dataset(out, codecs[0]).unchanged
    with pytest.raises(UsageError, match="latent actions of another codec"):
        label_dataset(out, codecs[1])
    assert label_dataset(out, codecs[1], force=True, dry_run=True).unchanged
    assert layouts.tree(out) == tree
    label_dataset(out, codecs[1], force=True)
    assert UnifiedDataset(out).meta.codec == labeler_for(codecs[1]).codec
    assert layouts.tree(out) != tree


def test_what_cannot_be_labelled(tmp_path, codecs):
    with pytest.raises(DataError, match="does not exist"):
        label_dataset(tmp_path / "none", codecs[0])
    with pytest.raises(MissingError, match="no codec in"):
        label_dataset(tmp_path, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(DataError, match="no codec that can be read"):
        _ = labeler_for(tmp_path).codec


def test_shipped_codec_or_a_clear_word(monkeypatch, tmp_path):
    monkeypatch.setattr("motus_adapters.labels.SHIPPED", tmp_path / "absent")
    with pytest.raises(MissingError, match="ships no codec") as caught:
        labeler_for("shipped")
    assert "--codec none" in caught.value.hint
