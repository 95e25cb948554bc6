"""The health of a codec: probes that find what is there, baselines, twins, other robots."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from motus_adapters import UnifiedDataset, label_dataset
from motus_embodiments import DataError, MissingError, UsageError, load_card
from motus_model import CodecConfig, LatentActionCodec, load_codec
from motus_recipes import draw_codec_health, inspect_codec, load_recipe
from motus_recipes.data.cache import open_cached
from motus_recipes.data.latents import latents_of
from motus_recipes.health import baselines
from motus_recipes.health.baselines import components
from motus_recipes.health.brief import brief_health
from motus_recipes.health.codes import compare, read_codes
from motus_recipes.health.crossing import (
    CANDIDATES,
    _changed,
    _head,
    _retrieved,
    _same,
    sensitivities,
)
from motus_recipes.health.probes import Steps, curved_probe, folds, linear_probe, r2
from motus_recipes.health.report import OWN_HEAD, _own_head
from motus_recipes.training.codec_training import Labels


def steps(count: int, seed: int, curve: bool = False) -> Steps:
    """Codes that say motion, linearly or not, with some noise."""
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(count, 2))
    motion = np.stack([seen[:, 0] * seen[:, 1], seen[:, 0] ** 2], axis=1) if curve else seen
    turned = seen @ np.random.default_rng(0).normal(size=(2, 5))
    code = turned + 0.1 * rng.normal(size=(count, 5))
    return Steps(code, motion, np.repeat(np.arange(count // 20), 20))


def test_the_linear_probe_reads_what_is_linear():
    assert linear_probe(steps(400, 1), steps(200, 2)).min() > 0.95
    held = steps(200, 2)
    shuffled = replace(held, code=held.code[::-1].copy())
    assert linear_probe(steps(400, 1), shuffled).max() < 0.1


def test_noise_tells_nothing_and_is_not_believed():
    rng = np.random.default_rng(0)
    train, held = (replace(steps(n, n), code=rng.normal(size=(n, 40))) for n in (100, 200))
    assert np.abs(linear_probe(train, held)).max() < 0.15  # the strength chosen keeps it down


def test_the_curved_probe_reads_more_where_there_is_more():
    train, held = steps(800, 1, curve=True), steps(200, 2, curve=True)
    before = torch.random.get_rng_state()
    curved = curved_probe(train, held)
    assert curved.min() > 0.5 > linear_probe(train, held).max()
    np.testing.assert_array_equal(curved, curved_probe(train, held))
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_episode_is_in_two_folds():
    made = steps(200, 0)
    parts = folds(made)
    assert len(np.unique(parts)) > 1
    for episode in np.unique(made.episode):
        assert len(np.unique(parts[made.episode == episode])) == 1
    assert len(np.unique(folds(replace(made, episode=np.zeros(200, int))))) == 2


def test_components_span_what_varies_most():
    rng = np.random.default_rng(0)
    base = np.linalg.qr(rng.normal(size=(50, 14)))[0]
    rows = (rng.normal(size=(100, 14)) * 5) @ base.T + 0.01 * rng.normal(size=(100, 50))
    axes = components(rows.astype(np.float32))
    np.testing.assert_allclose(np.linalg.svd(axes.T @ base)[1], 1, atol=1e-3)


def test_flow_errors_are_shares_of_zero_flow():
    flow = np.zeros((3, 2, 72, 64), np.float32)
    flow[:, 0, :48] = 2.0
    flow[:, 1, 48:, :32] = 1.0
    half = compare(flow, flow / 2)
    assert half.views == pytest.approx({"head": 0.5, "left_wrist": 0.5})
    assert half.whole == pytest.approx(0.5)
    other = flow.copy()
    other[:, :, 48:, 32:] = 9.0  # where there is no view
    assert compare(flow, other).whole == 0


def test_the_same_motion_is_found_by_latents_that_are_motion():
    rng = np.random.default_rng(0)
    twists = rng.normal(size=(2, 300, 3))
    pairs = _same(twists)
    assert len(pairs.asked) > 100
    assert pairs.cosine > 0.9
    cosine, chance, found = _retrieved(twists @ rng.normal(size=(3, 14)), pairs, rng)
    assert cosine > 0.85 > abs(chance)
    assert found > 0.5
    cosine, chance, found = _retrieved(rng.normal(size=(2, 300, 14)), pairs, rng)
    assert abs(cosine - chance) < 0.1
    assert found < 4 / CANDIDATES
    assert _same([twists[0], twists[1][:5]]) is None


def test_the_head_reads_the_left_arm(codec):
    made = load_codec(codec)
    made.motion_head.weight.data[:6] = torch.eye(6, 14)
    made.motion_head.bias.data.zero_()
    latents = np.random.default_rng(0).normal(size=(5, 14))
    np.testing.assert_allclose(_head(made, latents), latents[:, :6], rtol=1e-5)


def test_what_looks_otherwise_is_named():
    assert _changed("texture=1,light=2", "texture=1,light=3") == "light"
    assert _changed("", "texture=1,colour=2") == "colour texture"
    assert _changed("texture=1", "texture=1") == ""


def test_looks_move_a_latent_by_a_share_of_what_motion_does(squares):
    rng, frames = np.random.default_rng(0), 601
    like = replace(
        open_cached("squares", squares, load_recipe("codec").model),
        state=rng.normal(size=(frames, 3)),
        first=np.zeros(frames, int),
        last=np.full(frames, frames - 1),
        rate=30.0,
    )
    robots = {"one": "franka", "two": "franka", "other": "ur5e"}
    data = {name: replace(like, card=load_card(card)) for name, card in robots.items()}
    paths = {
        name: SimpleNamespace(meta=SimpleNamespace(options={"appearance": f"texture={at},light=1"}))
        for at, name in enumerate(data)
    }
    sizes = np.array([10.0, *[1.0] * 13])  # one number covers up the others
    motion = np.repeat(rng.normal(size=(50, 14)), 12, axis=0) * sizes  # slower than a fifth second
    motion = np.concatenate([motion, motion[-1:]])  # of the last frame, which has no step
    noise = np.r_[0.0, [0.1] * 13] * rng.normal(size=(frames, 14))
    noise[-1] = 100
    (row,) = sensitivities(paths, data, {"one": motion, "two": motion + noise, "other": motion})
    assert (row.robot, row.changed, row.steps) == ("franka", "texture", 600)
    spread = 2 * motion.var(0)
    assert row.share == pytest.approx(13 * 0.01 / spread.sum(), rel=0.05)
    assert row.length == pytest.approx(row.share**0.5)
    assert row.unit_length == pytest.approx((0.01 / spread[1:]).sum() ** 0.5 / 14**0.5, rel=0.05)
    assert row.length_5hz < 0.6 * row.length  # noise of six steps cancels, motion adds up


@pytest.fixture(scope="module")
def codec(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("codec")
    made = LatentActionCodec(CodecConfig(widths=(4, 4, 4), hidden=8))
    data = {"squares": {"robot": "pusht", "level": 6}}
    made.save(folder, {"held_out": 0.3, "data": data, "unlabelled": ["squares"]})
    return folder


def test_health_looks_at_what_labels_are(squares, tmp_path):
    """Of a codec that smooths, the averaged latents; what is drawn is each step's own."""
    one, smooth = (
        LatentActionCodec(CodecConfig(widths=(4, 4, 4), hidden=8, smoothing=s)) for s in (0.0, 0.3)
    )
    smooth.load_state_dict(one.state_dict())
    smooth.save(tmp_path / "codec", {})
    cached = open_cached("squares", squares, load_recipe("codec").model)  # 10 frames a second
    single, labels = latents_of(one, cached), latents_of(smooth, cached)
    codes = read_codes(smooth, cached, 0.3)
    np.testing.assert_array_equal(codes.held.code, labels[codes.held_rows])
    np.testing.assert_array_equal(codes.train.code, labels[codes.train_rows])
    np.testing.assert_allclose(codes.encoded, single[codes.held_rows], atol=1e-5)
    starts = np.unique(cached.first)
    ends = cached.last[starts]
    np.testing.assert_array_equal(labels[ends], labels[ends - 1])
    np.testing.assert_allclose(labels[[starts, ends - 1]], single[[starts, ends - 1]], atol=1e-6)
    inner = np.setdiff1d(np.arange(len(labels)), [starts, ends - 1, ends])
    means = (single[inner - 1] + single[inner] + single[inner + 1]) / 3
    np.testing.assert_allclose(labels[inner], means, atol=1e-6)
    copy = shutil.copytree(squares, tmp_path / "squares")
    label_dataset(copy, tmp_path / "codec")
    written = np.concatenate(
        [UnifiedDataset(copy).arrays(e)["latent_action"] for e in range(len(starts))]
    )
    assert r2(labels, written, labels.mean(0)).min() > 0.99  # flow in the arrays is float16


def test_a_report_of_a_real_dataset(codec, squares, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "UPDATES", 1)
    report = inspect_codec(codec, [squares])
    assert report.datasets[0].seen == "flow"
    assert report.datasets[0].steps > 0
    assert {row.view for row in report.reconstruction} == {"head"}
    assert len(report.probes) == 6
    assert [row["arm"] for row in report.twists] == ["left"]
    assert report.appearance == report.crossings == []
    page = draw_codec_health(report, tmp_path / "health.html")
    assert "supervised" in page.read_text()
    with pytest.raises(UsageError):
        draw_codec_health(report, tmp_path / "health.png")


def test_a_robots_own_head_is_read_with_nothing_fitted(codec, squares, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "UPDATES", 1)
    torch.manual_seed(0)
    made = LatentActionCodec(CodecConfig(widths=(4, 4, 4), hidden=8, motion=42))
    cached = open_cached("squares", squares, load_recipe("codec").model)
    codes = read_codes(made, cached, 0.3)
    columns = [14 + column for column in codes.columns]
    code, motion = codes.train.code, codes.train.motion
    fitted = np.linalg.lstsq(code - code.mean(0), motion - motion.mean(0), rcond=None)[0]
    bias = motion.mean(0) - code.mean(0) @ fitted
    made.motion_head.weight.data[columns] = torch.tensor(fitted.T, dtype=torch.float32)
    made.motion_head.bias.data[columns] = torch.tensor(bias, dtype=torch.float32)
    told = {"robot": "pusht", "level": 6, "hash": ""}
    about = {"held_out": 0.3, "data": {"mine": told}, "own_heads": ["mine"], "unlabelled": []}
    made.save(tmp_path, about)
    rows = {row.code: row for row in inspect_codec(tmp_path, [squares]).probes}
    assert rows[OWN_HEAD].network is None
    said = r2(codes.held.motion, codes.held.code @ fitted + bias, motion.mean(0)).mean()
    assert said > 0.3
    assert rows[OWN_HEAD].linear == pytest.approx(said, abs=0.02)
    made.save(tmp_path, about | {"unlabelled": ["mine"]})  # a head that was taught nothing
    assert OWN_HEAD not in {row.code for row in inspect_codec(tmp_path, [squares]).probes}


def test_of_a_robots_heads_the_nearest_is_read(squares):
    dataset = UnifiedDataset(squares)
    content, level = dataset.meta.source.hash, dataset.meta.level
    data = {
        "arm": {"robot": "franka", "level": level, "hash": content},
        "first": {"robot": "pusht", "level": level + 1, "hash": ""},
        "level": {"robot": "pusht", "level": level, "hash": ""},
        "same": {"robot": "pusht", "level": level + 1, "hash": content},
    }

    def head(*names, unlabelled=()):
        about = {"data": data, "own_heads": list(names), "unlabelled": list(unlabelled)}
        return _own_head(dataset, about)

    assert head("arm", "first", "level", "same") == 4
    assert head("arm", "first", "level") == 3
    assert head("arm", "first", "level", unlabelled=["level"]) == 2
    assert head("arm") is None
    assert _own_head(dataset, {}) is None


def test_a_dataset_without_a_held_out_step_is_left_out(
    codec, squares, write, tmp_path, monkeypatch
):
    monkeypatch.setattr(baselines, "UPDATES", 1)
    one = write(tmp_path / "one", episodes=1, frames=2)
    report = inspect_codec(codec, [squares, one])
    assert [row.dataset for row in report.datasets] == ["squares"]
    data = {
        path.name: open_cached(path.name, path, load_recipe("codec").model)
        for path in (squares, one)
    }
    assert list(brief_health(load_codec(codec), data, 0.3)) == ["squares"]


def test_twists_are_also_read_along_the_wrist(squares, codec, monkeypatch):
    from motus_recipes.health import report

    cached = open_cached("squares", squares, load_recipe("codec").model)
    codes = read_codes(load_codec(codec), cached, 0.3)
    motion = np.random.default_rng(0).normal(size=(len(cached.first), 14)).astype(np.float32)
    known = np.ones(14, bool)

    def labels(cached, frame):
        assert frame == "wrist"
        return Labels(motion, known)

    def turns(cached, frame, rows):
        return np.broadcast_to(np.eye(3), (len(rows), 1, 3, 3))

    monkeypatch.setattr(report, "read_labels", labels)
    monkeypatch.setattr(report, "turns_of", turns)
    along = report._along_wrists(cached, codes)
    columns = list(codes.columns)
    np.testing.assert_array_equal(along.held.motion, motion[codes.held_rows][:, columns])
    np.testing.assert_array_equal(along.train.motion, motion[codes.train_rows][:, columns])
    np.testing.assert_array_equal(along.train.code, codes.train.code)
    monkeypatch.setattr(baselines, "UPDATES", 1)
    rows = inspect_codec(codec, [squares]).probes
    by_state = [row.code for row in rows if row.code.endswith("turned by the state")]
    assert len(by_state) == 2
    assert [row.code for row in rows if row.axes == "wrist"] == [
        "latent",
        "flow, 14 components",
        "flow, fully supervised network",
    ]
    known[columns[0]] = False
    assert report._along_wrists(cached, codes) is None


def test_the_state_turns_what_the_latent_tells_along_the_wrist(squares, codec, monkeypatch):
    from motus_recipes.health import report
    from motus_recipes.training.codec_training import turned

    cached = open_cached("squares", squares, load_recipe("codec").model)
    codes = read_codes(load_codec(codec), cached, 0.3)
    source = np.random.default_rng(0)
    axes = np.linalg.qr(source.normal(size=(len(cached.first), 3, 3)))[0]
    monkeypatch.setattr(report, "turns_of", lambda cached, frame, rows: axes[rows][:, None])
    columns = tuple(range(6))
    codes = replace(codes, columns=columns)
    parts, seen = {}, {}
    for part, rows in (("train", codes.train_rows), ("held", codes.held_rows)):
        own = source.normal(size=(len(rows), 6))  # along the wrist, which is what the latent tells
        base = turned(own, axes[rows].swapaxes(1, 2))
        parts[part] = replace(getattr(codes, part), code=own @ np.eye(6, 14), motion=base)
        seen[part] = replace(parts[part], motion=own)
    codes, along = replace(codes, **parts), replace(codes, **seen)
    assert linear_probe(codes.train, codes.held).mean() < 0.2
    by_state = report._turned_by_state(cached, codes, along)
    assert linear_probe(*by_state).min() > 0.999


def test_what_cannot_be_measured(codec, squares, tmp_path):
    with pytest.raises(UsageError, match="measured on data"):
        inspect_codec(codec, [])
    with pytest.raises(MissingError, match="no codec at"):
        inspect_codec(tmp_path, [squares])
    with pytest.raises(DataError):
        inspect_codec(codec, [tmp_path / "nothing"])
    with pytest.raises(UsageError, match="same name"):
        inspect_codec(codec, [squares, squares])
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "codec.safetensors").write_bytes(b"cut")
    (broken / "config.json").write_text((codec / "config.json").read_text())
    with pytest.raises(DataError, match="holds no codec"):
        inspect_codec(broken, [squares])
