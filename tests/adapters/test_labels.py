"""Latent actions of episodes and of finished datasets."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from motus_adapters import (
    SHIPPED,
    DisFlow,
    UnifiedDataset,
    chain_canvases,
    convert,
    find_codec,
    flow_canvas,
    flow_of,
    label_dataset,
    labeler_for,
    layout_for,
)
from motus_adapters.unified.staging import Staging
from motus_embodiments import DataError, MismatchError, MissingError, UsageError
from motus_model import load_codec
from tests.adapters.pictures import shifted, texture


def _make_codec(folder, seed, smoothing=0.0):
    import torch

    from motus_model import CodecConfig, LatentActionCodec

    torch.manual_seed(seed)
    config = CodecConfig(widths=(4, 4, 4), hidden=8, smoothing=smoothing)
    LatentActionCodec(config).save(folder, {})
    return folder


@pytest.fixture(scope="module")
def codecs(tmp_path_factory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("codecs")
    return _make_codec(base / "a", 0), _make_codec(base / "b", 1)


def test_labels_that_wait_survive_a_conversion_with_nothing_to_do(pusht_source, tmp_path, codecs):
    out = tmp_path / "set"
    convert(pusht_source, out, card="pusht", codec=codecs[0])

    def stop(done, total, key):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_dataset(out, codecs[1], force=True, on_progress=stop)
    staged = sorted((out / ".partial").glob("0*"))
    assert staged
    convert(pusht_source, out, card="pusht", codec=codecs[0], resume=True)
    assert sorted((out / ".partial").glob("0*")) == staged
    with Staging(out / ".partial").locked(), pytest.raises(UsageError, match="another process"):
        convert(pusht_source, out, card="pusht", codec=codecs[0], force=True)
    assert label_dataset(out, codecs[1], resume=True, force=True).resumed == len(staged)


def test_conversion_writes_latent_actions(pusht_source, tmp_path, codecs):
    report = convert(pusht_source, tmp_path / "set", card="pusht", codec=codecs[0])
    assert report.latent_actions
    dataset = UnifiedDataset(tmp_path / "set")
    assert dataset.meta.codec == labeler_for(codecs[0]).codec
    assert dataset.meta.flow == "dis-medium-orb-rest-256"
    latents = dataset.arrays(3)["latent_action"]
    assert latents.shape == (11, 14)
    assert np.isfinite(latents).all()
    np.testing.assert_array_equal(latents[-1], latents[-2])
    assert np.ptp(latents[:-1], axis=0).max() > 0
    assert set(dataset.stats) >= {"latent_action", "motion", "action", "observation.state"}


def _run(track, frames):
    for frame in frames:
        track.push(frame)
    return track.result()


@pytest.mark.parametrize("length", [1, 2, 4, 65, 131])
def test_a_long_episode_is_encoded_in_parts(codecs, length):
    """As if all its flow lay there at once; the last rows repeat, a short one has what it has."""
    labeler, layout = labeler_for(codecs[0]), layout_for({"head": (32, 40)})
    frames = np.stack([shifted(texture(32, 40), t % 7, t % 3) for t in range(length)])
    latents = _run(labeler.track(layout, 30.0, {"one": 1, "three": 3}), frames)
    assert [rows.shape for rows in latents.values()] == [(length, 14)] * 2
    if length == 1:
        assert not any(rows.any() for rows in latents.values())
        return
    codec = load_codec(codecs[0])
    flow = flow_canvas(frames[:-1], frames[1:], layout, DisFlow())
    np.testing.assert_allclose(latents["one"][:-1], codec.encode_flow(flow), atol=1e-5)
    np.testing.assert_array_equal(latents["one"][-1], latents["one"][-2])
    spans = min(3, length - 1)
    composed = flow[: len(flow) - spans + 1]
    for at in range(1, spans):
        composed = chain_canvases(composed, flow[at : at + len(composed)], layout)
    np.testing.assert_allclose(
        latents["three"][: len(composed)], codec.encode_flow(composed), atol=1e-5
    )
    rest = latents["three"][len(composed) :]
    np.testing.assert_array_equal(rest, np.repeat(rest[:1], spans, axis=0))


def test_labels_of_a_codec_that_smooths(tmp_path):
    """Those of single frames are averaged, those of a fifth of a second stay as they are."""
    frames = [shifted(texture(32, 40), t % 7, t % 3) for t in range(70)]
    rows = []
    for smoothing in (0.0, 0.1):
        labeler = labeler_for(_make_codec(tmp_path / str(smoothing), 0, smoothing))
        steps = {"fast": 1, "slow": 6}
        rows.append(_run(labeler.track(layout_for({"head": (32, 40)}), 30.0, steps), frames))
    one, smooth = rows
    means = (one["fast"][:-3] + one["fast"][1:-2] + one["fast"][2:-1]) / 3
    np.testing.assert_allclose(smooth["fast"][1:-2], means, atol=1e-5)
    np.testing.assert_array_equal(smooth["fast"][[0, -2]], one["fast"][[0, -2]])
    np.testing.assert_array_equal(smooth["fast"][-1], smooth["fast"][-2])
    np.testing.assert_array_equal(smooth["slow"], one["slow"])


def test_both_rates_lie_side_by_side(pusht_source, tmp_path, layouts, codecs):
    """PushT has 10 frames a second, so a latent of 5 Hz spans two of them."""
    out = tmp_path / "set"
    convert(pusht_source, out, card="pusht", codec=codecs[0])
    fast = UnifiedDataset(out).arrays(3)["latent_action"]
    with pytest.raises(UsageError, match="4 latent actions a second do not fit 10 frames") as told:
        label_dataset(out, codecs[0], rates=(4,))
    assert "10, 5" in told.value.hint
    report = label_dataset(out, codecs[0], rates=(5,))
    assert report.rates == (10.0, 5.0)
    dataset = UnifiedDataset(out)
    arrays = dataset.arrays(3)
    np.testing.assert_array_equal(arrays["latent_action"], fast)
    slow = arrays["latent_action_5hz"]
    np.testing.assert_array_equal(slow[-1], slow[-3])
    assert np.abs(slow - fast).max() > 1e-3
    assert {"latent_action", "latent_action_5hz"} < set(dataset.stats)
    assert label_dataset(out, codecs[0], rates=(5,)).unchanged
    tree = layouts.tree(out)
    label_dataset(out, codecs[0], rates=(10, 5), force=True)
    again = layouts.tree(out)
    assert again.keys() == tree.keys()
    label_dataset(out, codecs[0], rates=(10, 5), force=True)
    assert layouts.tree(out) == again
    _only_slow_latents(out, codecs[0])


def _only_slow_latents(out, codec):
    label_dataset(out, codec, rates=(5,), force=True)
    dataset = UnifiedDataset(out)
    assert "latent_action" not in dataset.arrays(3)
    assert dataset.meta.latent_steps == {"latent_action_5hz": 2}
    names = pq.read_schema(next((out / "data").rglob("*.parquet"))).names
    episodes = pq.read_schema(out / "meta/episodes/chunk-000/file-000.parquet").names
    assert "latent_action" not in names
    assert not any(name.startswith("stats/latent_action/") for name in episodes)


def test_another_flow_needs_force(pusht_source, tmp_path, codecs):
    out = tmp_path / "set"
    convert(pusht_source, out, card="pusht", codec=codecs[0], flow="dis+still")
    assert UnifiedDataset(out).meta.flow == "dis-medium-orb-rest-256+still"
    with pytest.raises(UsageError, match=r"256.still, not of codec .* by dis-medium-orb-rest-256"):
        label_dataset(out, codecs[0])
    before = UnifiedDataset(out).arrays(0)["latent_action"]
    report = label_dataset(out, codecs[0], flow="dis-fine", force=True)
    meta = UnifiedDataset(out).meta
    assert report.flow == meta.flow == "dis-fine-orb-rest-256"
    contracts = {meta.labelled(*pair).contract for pair in (("a", "x"), ("a", "y"), ("b", "x"))}
    assert len({*contracts, meta.labelled("a", "x", (5,)).contract, meta.contract}) == 5
    assert np.abs(UnifiedDataset(out).arrays(0)["latent_action"] - before).max() > 1e-4
    with pytest.raises(UsageError, match="'dis-fine' is for latent actions"):
        convert(pusht_source, tmp_path / "none", card="pusht", codec=None, flow="dis-fine")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UsageError, match="no flow estimator named 'diss'") as told:
        label_dataset(out, codecs[0], flow="diss")
    assert "'dis'" in told.value.hint


def test_a_codec_labels_the_flow_that_it_learnt_from(pusht_source, tmp_path, codecs):
    """Left out, the estimator is the codec's own; another one is refused, a still camera is not."""
    folder, out = tmp_path / "codec", tmp_path / "set"
    load_codec(codecs[0]).save(
        folder, {"flow": {"name": "dis-fine-orb-rest-256", "choice": "dis-fine"}}
    )
    assert flow_of(folder).choice == "dis-fine"
    convert(pusht_source, out, card="pusht", codec=folder)
    assert UnifiedDataset(out).meta.flow == "dis-fine-orb-rest-256"
    for other in ("dis", "dis-fine+consistent"):
        with pytest.raises(
            MismatchError, match="learnt from flow of 'dis-fine-orb-rest-256'"
        ) as told:
            label_dataset(out, folder, flow=other, force=True)
        assert "--flow dis-fine" in told.value.hint
    report = label_dataset(out, folder, flow="dis-fine+still", force=True)
    assert report.flow == "dis-fine-orb-rest-256+still"
    with pytest.raises(MismatchError):
        convert(pusht_source, tmp_path / "none", card="pusht", codec=folder, flow="dis")
    assert not (tmp_path / "none").exists()
    load_codec(codecs[0]).save(folder, {"flow": {"name": "dis-fine-256", "choice": "dis-fine"}})
    with pytest.raises(MismatchError, match="not of 'dis-fine-orb-rest-256'") as told:
        label_dataset(out, folder, force=True)
    assert "the release that trained it; or train one" in told.value.hint
    load_codec(codecs[0]).save(folder, {})
    assert flow_of(folder) == flow_of(tmp_path)
    assert labeler_for(folder).flow == "dis-medium-orb-rest-256"


def test_a_run_that_was_cut_short_is_gone_on_with_the_same_way(pusht_source, tmp_path, codecs):
    out = tmp_path / "set"
    convert(pusht_source, out, card="pusht", codec=codecs[0])
    before = UnifiedDataset(out).arrays(0)["latent_action"]
    done = []

    def stop(at, count, name):
        done.append(at)
        if at == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_dataset(out, codecs[1], rates=(5,), force=True, on_progress=stop)
    np.testing.assert_array_equal(UnifiedDataset(out).arrays(0)["latent_action"], before)
    with pytest.raises(MismatchError, match="flow"):
        label_dataset(out, codecs[1], rates=(5,), flow="dis-fine", resume=True)
    with pytest.raises(MismatchError, match="rates"):
        label_dataset(out, codecs[1], rates=(2,), resume=True)
    report = label_dataset(out, codecs[1], rates=(5,), resume=True)
    assert (report.resumed, report.episodes) == (2, 5)
    assert UnifiedDataset(out).meta.latent_steps == {"latent_action_5hz": 2}
    # Nothing is left to go on with.
    with pytest.raises(UsageError, match="has latent actions of codec"):
        label_dataset(out, codecs[0], resume=True)


def test_labels_half_put_in_are_finished_or_replaced_never_used(
    pusht_source, tmp_path, codecs, monkeypatch
):
    out = tmp_path / "set"
    convert(pusht_source, out, card="pusht", codec=codecs[0])

    def broken(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("motus_adapters.unified.assemble._write_tasks", broken)
        with pytest.raises(KeyboardInterrupt):  # the data files have the new labels by then
            label_dataset(out, codecs[1], rates=(5,), force=True)
    with pytest.raises(DataError, match="half written"):
        UnifiedDataset(out)
    for codec in codecs:
        with pytest.raises(DataError, match="half written"):
            label_dataset(out, codec)
    finished, replaced = tmp_path / "finished", tmp_path / "replaced"
    shutil.copytree(out, finished)
    label_dataset(finished, codecs[1], rates=(5,), resume=True)
    assert "latent_action_5hz" in UnifiedDataset(finished).arrays(0)
    shutil.copytree(out, replaced)

    def stop(at, count, name):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_dataset(replaced, codecs[0], force=True, on_progress=stop)
    with pytest.raises(DataError, match="half written"):  # still
        UnifiedDataset(replaced)
    label_dataset(replaced, codecs[0], force=True)
    convert(pusht_source, tmp_path / "calm", card="pusht", codec=None)
    label_dataset(tmp_path / "calm", codecs[0])
    for index in range(5):
        wanted = UnifiedDataset(tmp_path / "calm").arrays(index)["latent_action"]
        found = UnifiedDataset(replaced).arrays(index)["latent_action"]
        np.testing.assert_array_equal(found, wanted)


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
    tree = layouts.tree(out)
    label_dataset(out, codecs[0], workers=1, force=True)
    assert layouts.tree(out) == tree


def _check_lerobot(out, dataset):
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
    with pytest.raises(UsageError, match="has latent actions of codec"):
        label_dataset(out, codecs[1])
    assert label_dataset(out, codecs[1], force=True, dry_run=True).unchanged
    assert layouts.tree(out) == tree
    label_dataset(out, codecs[1], force=True)
    assert UnifiedDataset(out).meta.codec == labeler_for(codecs[1]).codec
    assert layouts.tree(out) != tree


def test_what_cannot_be_labelled(tmp_path, codecs):
    with pytest.raises(DataError, match="does not exist"):
        label_dataset(tmp_path / "none", codecs[0])
    with pytest.raises(MissingError, match="no codec at"):
        label_dataset(tmp_path, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "codec.safetensors").write_bytes(b"cut")
    with pytest.raises(DataError, match="no codec that can be read"):
        _ = labeler_for(tmp_path).codec


def test_a_codec_is_found_in_its_stage_and_its_run(codecs, tmp_path):
    inside = tmp_path / "run/01-codec/codec"
    shutil.copytree(codecs[0], inside)
    for place in (inside, inside.parent, tmp_path / "run"):
        assert find_codec(place) == inside
        assert labeler_for(place).codec == labeler_for(codecs[0]).codec
    assert find_codec("shipped") == SHIPPED


def test_the_shipped_codec_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= 5e6
