"""A codec's batches and labels: the mixture is exact, a mirror is a mirror, axes are turned."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from motus_embodiments import (
    DataError,
    Kinematics,
    MissingError,
    UsageError,
    head_axes,
    load_card,
    wrist_axes,
)
from motus_recipes.data.cache import open_cached
from motus_recipes.data.mixture import Source
from motus_recipes.library import load_recipe
from motus_recipes.schema import Stage
from motus_recipes.training.codec_training import (
    ARMS,
    CodecMixture,
    CodecObjective,
    labelled_shares,
    mirror,
    read_labels,
)

STAGE = {
    "name": "codec",
    "objective": "codec",
    "sources": {"a": 1, "b": 3},
    "steps": 4,
    "batch": 20,
    "optimizer": {"learning_rate": 1e-3},
}


def dataset(name: str, card: str = "pusht", frames: int = 60) -> SimpleNamespace:
    """What the objective reads of a cached dataset: six episodes of random flow."""
    rng = np.random.default_rng(len(name))
    first = np.repeat(np.arange(0, frames, 10), 10)

    def split(share):
        border = frames - 10 * max(1, round(share * 6))
        return np.arange(border), np.arange(border, frames)

    mask = np.zeros(14, bool)
    mask[:6] = True
    return SimpleNamespace(
        name=name,
        card=load_card(card),
        flow=rng.normal(size=(frames, 2, 72, 64)).astype(np.float16),
        motion=rng.normal(size=(frames, 14)).astype(np.float32),
        state=np.zeros((frames, 2)),
        motion_mask=mask,
        first=first,
        last=first + 9,
        rate=10.0,
        split=split,
    )


def objective(**changes) -> CodecObjective:
    data = {"a": dataset("a"), "b": dataset("bb")}
    return CodecObjective(data, Stage.model_validate(STAGE | changes), torch.device("cpu"))


@given(
    shown=st.integers(0, 12),
    rest=st.integers(0, 12),
    weights=st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
    seed=st.integers(0, 5),
)
def test_every_batch_has_exactly_its_labelled_part(shown, rest, weights, seed):
    if shown + rest == 0:
        return
    sources = tuple(Source(n, 7, w) for n, w in zip("abc", weights, strict=True))
    windows = {name: np.arange(100 * i, 100 * i + 7) for i, name in enumerate("abc")}
    mixture = CodecMixture(sources, shown + rest, seed, windows, sources[:2], shown)
    for step in (0, 3):
        rows = mixture.draw(step)
        assert rows == mixture.draw(step)
        assert [row.slot for row in rows] == list(range(shown + rest))
        assert all(row.source in "ab" for row in rows[:shown])
        assert all(row.window in windows[row.source] for row in rows)
    batches = [[row.source for row in mixture.draw(step)] for step in range(6)]
    assert mixture.taken(6) == {name: sum(b.count(name) for b in batches) for name in "abc"}
    told = labelled_shares(mixture, 6)
    assert told["per_batch"] == shown
    assert told["share"] == shown / (shown + rest)
    assert told["sources"] == {
        name: sum(b[:shown].count(name) for b in batches) / max(1, 6 * shown) for name in "ab"
    }


def test_a_tenth_of_each_batch_shows_its_motion():
    made = objective()
    for step in range(4):
        _, _, labelled, _ = made.inputs(made.mixture(0).draw(step), train=True)
        assert int((labelled.sum(1) > 0).sum()) == 2
        # The batch's mean is then one a sample, but for the care each robot gets.
        assert float(labelled.sum(1).max()) == pytest.approx(14 * 20 / 2, rel=0.2)


def test_small_moves_count_for_more_within_bounds():
    data = {"a": dataset("a"), "b": dataset("bb")}
    data["a"].motion *= 0.5
    data["b"].motion[:, 3:6] *= 1e-4
    made = CodecObjective(data, Stage.model_validate(STAGE), torch.device("cpu"))
    assert (made.care["a"][:3] > 1.5).all()
    assert (made.care["b"][:3] < 1).all()
    assert made.care["b"][3] == 4.0


def test_unlabelled_sources_and_grippers_show_none():
    made = objective(codec={"unlabelled": ["b"]})
    for step in range(6):
        rows = made.mixture(0).draw(step)
        _, _, labelled, _ = made.inputs(rows, train=True)
        shown = {row.source for row, weight in zip(rows, labelled, strict=True) if weight.sum() > 0}
        assert shown == {"a"}
        assert float(labelled[:, [6, 13]].abs().max()) == 0
    assert float(made.inputs(rows, train=False)[2][[r.source == "b" for r in rows]].sum()) == 0
    none = objective(codec={"unlabelled": ["a", "b"]})
    assert none.shown == 0
    assert float(none.inputs(none.mixture(0).draw(0), train=True)[2].sum()) == 0
    with pytest.raises(ValidationError, match=r"codec\.unlabelled: .* no source 'c'"):
        objective(codec={"unlabelled": ["c"]})


def test_data_in_which_nothing_moves_are_refused():
    still = dataset("a")
    still.flow[:] = 0
    stage = Stage.model_validate(STAGE | {"sources": {"a": 1}})
    with pytest.raises(DataError, match=r"nothing moves .* \(a\)"):
        CodecObjective({"a": still}, stage, torch.device("cpu"))


def test_of_a_small_batch_at_least_one_step_is_shown():
    assert [objective(batch=batch).shown for batch in (1, 4, 20)] == [1, 1, 2]
    assert objective(labelled=0).shown == 0


def test_what_it_says_of_smoothing_goes_with_the_codec():
    assert objective().module.config.smoothing == 0
    assert objective(codec={"smoothing": 0.1}).module.config.smoothing == 0.1


def test_each_source_teaches_a_head_of_its_own_along_its_bases():
    made = objective(labelled=0.5, codec={"own_heads": True, "unlabelled": ["b"]})
    rows = made.mixture(0).draw(0)
    _, motion, labelled, _ = made.inputs(rows, train=False)
    heads, weights = motion.unflatten(1, (5, 14)), labelled.unflatten(1, (5, 14))
    for row, told, weight in zip(rows, heads, weights, strict=True):
        if row.source == "a":
            expected = torch.from_numpy(made.data["a"].motion[row.window])
            assert torch.equal(told[0, :6], expected[:6])
            assert torch.equal(told[1], told[0])
            assert float(weight[1, :6].sum()) == 5 * 14  # its mean is one, as that of the first
            assert float(weight[1, 6:].sum()) == 0
        assert float(weight[2:].abs().max()) == 0  # b shows no motion, and nothing is mirrored
        assert row.source == "a" or float(weight.abs().max()) == 0
    made.module(*made.inputs(rows, train=True)).total.mean().backward()
    moved = made.module.motion_head.weight.grad.unflatten(0, (5, 14)).abs().amax((1, 2))
    assert (moved > 0).tolist() == [True, True, False, False, False]


def test_what_stands_in_a_mirror_teaches_a_head_for_such(monkeypatch):
    import motus_recipes.training.codec_training as training

    monkeypatch.setattr(training, "head_axes", lambda card: np.eye(3)[None])
    made = objective(labelled=1.0, codec={"own_heads": True, "frame": "camera"})
    rows = made.mixture(0).draw(0)
    flow, motion, labelled, _ = made.inputs(rows, train=True)
    plain, told, _, _ = made.inputs(rows, train=False)
    straight = ((flow == plain) | (flow == -plain)).flatten(1).all(1)
    assert 0 < int(straight.sum()) < len(rows)
    taught = labelled.unflatten(1, (5, 14)).sum(2) > 0
    for row, direct, heads in zip(rows, straight.tolist(), taught.tolist(), strict=True):
        head = 1 + ["a", "b"].index(row.source) + (0 if direct else 2)
        assert [at for at, is_taught in enumerate(heads) if is_taught] == [0, head]
    # Along the bases the mirror changes nothing, and both heads begin at the same size.
    own, before = (values.unflatten(1, (5, 14))[:, 1:].abs() for values in (motion, told))
    assert torch.equal(own, before)
    size = made.module.motion_size.unflatten(0, (5, 14))
    assert torch.equal(size[1:3], size[3:5])


def test_an_autoencoder_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="no AutoencoderDC") as error:
        objective(codec={"autoencoder": str(tmp_path)})
    assert "stages.codec.codec.autoencoder" in (error.value.hint or "")


def test_no_step_is_trained_on_and_held_out():
    made = objective(codec={"held_out": 0.4})
    held = made.windows(0).heldout["a"]
    assert set(held) == {*range(40, 49), *range(50, 59)}  # the last of an episode has no step
    drawn = {row.window for step in range(30) for row in made.mixture(0).draw(step)}
    assert drawn <= set(range(40)) - {9, 19, 29, 39}


def test_half_of_the_steps_are_shown_backwards():
    made = objective()
    rows = made.mixture(0).draw(0)
    flow, motion, _, _ = made.inputs(rows, train=True)
    plain, still, _, _ = made.inputs(rows, train=False)
    turned = (flow == -plain).flatten(1).all(1)
    assert 0 < int(turned.sum()) < len(rows)
    assert torch.equal(flow[~turned], plain[~turned])
    assert torch.equal(motion[turned], -still[turned])


def twins(**changes) -> CodecObjective:
    """Two sources, of which the first also has the flow of other looks."""
    data = {"a": dataset("a"), "b": dataset("bb"), "again": dataset("a")}
    data["again"].flow = data["a"].flow + np.float16(0.5)
    changes["codec"] = {"twins": {"a": "again"}} | changes.get("codec", {})
    return CodecObjective(data, Stage.model_validate(STAGE | changes), torch.device("cpu"))


def test_each_step_is_seen_as_either_twin_shows_it():
    made = twins()
    assert list(made.data) == ["a", "b"]
    assert set(made.mixture(0).taken(3)) == {"a", "b"}
    rows = made.mixture(0).draw(0)
    flow, _, _, _, other, alike = made.inputs(rows, train=False)
    assert alike.tolist() == [10.0] * len(rows)
    for row, one, two in zip(rows, flow, other, strict=True):
        looks = [made.data[row.source].flow[row.window]] * 2
        if row.source == "a":
            looks[1] = made.twins["a"].flow[row.window]
        for at, seen in zip((0, 1), (two, one) if row.slot % 2 else (one, two), strict=True):
            np.testing.assert_array_equal(seen, looks[at])
    assert {row.slot % 2 for row in rows if row.source == "a"} == {0, 1}


def test_twins_are_turned_alike(monkeypatch):
    import motus_recipes.training.codec_training as training

    monkeypatch.setattr(training, "head_axes", lambda card: np.eye(3)[None])
    made = twins(codec={"frame": "camera"})
    made.twins["a"].flow = made.data["a"].flow
    rows = made.mixture(0).draw(0)
    flow, _, _, _, other, _ = made.inputs(rows, train=True)
    assert torch.equal(flow, other)
    assert not torch.equal(flow, made.inputs(rows, train=False)[0])
    loss = made.module(*made.inputs(rows, train=True))
    assert float(loss.agreement.detach().max()) == 0


def test_a_twin_is_the_same_motion_step_by_step():
    data = {"a": dataset("a"), "b": dataset("bb"), "again": dataset("other")}
    stage = Stage.model_validate(STAGE | {"codec": {"twins": {"a": "again"}}})
    with pytest.raises(DataError, match="'other' is no twin of 'a': it is not the same") as error:
        CodecObjective(data, stage, torch.device("cpu"))
    assert "--appearance" in (error.value.hint or "")
    del data["again"]  # an optional dataset that is not there
    assert not CodecObjective(data, stage, torch.device("cpu")).twins
    with pytest.raises(ValidationError, match=r"codec\.twins: .* no source 'c'"):
        twins(codec={"twins": {"c": "again"}})


def test_twins_of_unlabelled_sources_count_as_unlabelled(tmp_path):
    made = twins(codec={"twins": {"a": "again"}, "unlabelled": ["a"], "own_heads": True})
    made.finish(tmp_path)
    about = json.loads((tmp_path / "codec/config.json").read_text())["about"]
    assert about["unlabelled"] == ["a", "again"]
    assert about["own_heads"] == ["a", "b"]


def test_a_mirror_twice_is_nothing():
    rng = np.random.default_rng(0)
    for two in (True, False):
        flow = rng.normal(size=(2, 72, 64)).astype(np.float32)
        if not two:
            flow[:, 48:, 32:] = 0
        motion, mask = rng.normal(size=14).astype(np.float32), np.zeros(14, bool)
        mask[ARMS[0]] = True
        before = flow.copy(), motion.copy(), mask.copy()
        mirror(flow, motion, mask)
        assert mask[ARMS[1]].all() == two
        assert not np.array_equal(flow, before[0])
        mirror(flow, motion, mask)
        for now, then in zip((flow, motion, mask), before, strict=True):
            np.testing.assert_array_equal(now, then)


def test_in_a_mirror_a_move_to_the_right_is_one_to_the_left():
    flow = np.zeros((2, 72, 64), np.float32)
    flow[0, :48, 10] = 1.0
    motion = np.arange(1, 15, dtype=np.float32)
    mirror(flow, motion, np.ones(14, bool))
    assert flow[0, 0, 53] == -1.0
    np.testing.assert_array_equal(motion[:6], [-1, 2, 3, 4, -5, -6])


def test_labels_are_turned_to_the_head_camera(monkeypatch):
    import motus_recipes.training.codec_training as training

    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    monkeypatch.setattr(training, "head_axes", lambda card: turn[None])
    made = dataset("a")
    labels = read_labels(made, "camera")
    np.testing.assert_allclose(labels.motion[:, :3], made.motion[:, :3] @ turn.T, rtol=1e-5)
    np.testing.assert_allclose(labels.motion[:, 3:6], made.motion[:, 3:6] @ turn.T, rtol=1e-5)
    assert not labels.mask[6:].any()
    made.motion_mask[2] = False  # only part of a move is known: none of it, along other axes
    assert read_labels(made, "camera").mask.tolist() == [False] * 3 + [True] * 3 + [False] * 8
    assert read_labels(made, "base").mask[:3].tolist() == [True, True, False]
    monkeypatch.setattr(training, "head_axes", lambda card: None)
    assert not read_labels(made, "camera").mask.any()


def test_head_axes_are_turns():
    pytest.importorskip("gym_aloha")
    axes = head_axes(load_card("aloha"))
    assert axes is not None
    np.testing.assert_allclose(axes @ axes.transpose(0, 2, 1), np.stack([np.eye(3)] * 2), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(axes), 1, atol=1e-6)
    assert axes[0, 2, 2] > 0.5  # seen from above: up in the base is towards the camera
    assert head_axes(load_card("pusht")) is None


def test_wrist_axes_turn_with_the_hand():
    pytest.importorskip("gym_aloha")
    card = load_card("aloha-wide")
    states = np.tile(card.home(), (5, 1))
    states += np.random.default_rng(0).uniform(-0.3, 0.3, states.shape)
    axes = wrist_axes(card, states)
    hands = Kinematics(card).poses(states)[..., :3, :3]
    mounts = axes @ hands  # from the hand to its camera
    np.testing.assert_allclose(mounts, np.broadcast_to(mounts[:1], mounts.shape), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(mounts), 1, atol=1e-6)
    assert np.abs(hands - hands[:1]).max() > 0.1
    assert wrist_axes(load_card("pusht"), np.zeros((1, 2))) is None
    cameras = tuple(camera for camera in card.cameras if camera.role != "left_wrist")
    headed = card.model_copy(update={"cameras": cameras})
    assert np.isnan(wrist_axes(headed, states)[:, 0]).all()


def test_labels_are_turned_to_the_wrist_camera_of_each_step(monkeypatch):
    import motus_recipes.training.codec_training as training

    made = dataset("a")
    rng = np.random.default_rng(0)
    turns = np.linalg.qr(rng.normal(size=(len(made.first), 1, 3, 3)))[0]
    monkeypatch.setattr(training, "wrist_axes", lambda card, states: turns)
    motion = read_labels(made, "wrist").motion
    for part in (slice(0, 3), slice(3, 6)):
        expected = np.einsum("nij,nj->ni", turns[:, 0], made.motion[:, part])
        np.testing.assert_allclose(motion[:, part], expected, rtol=1e-4, atol=1e-6)
    turns[3] = np.nan
    assert not read_labels(made, "wrist").mask.any()


def test_the_codec_stage_says_how_all_stages_have_their_flow(squares):
    recipe = load_recipe("codec", overrides=["stages.codec.codec.flow=dis-fine"])
    assert recipe.spec.flow == "dis-fine"
    assert load_recipe("codec").spec.flow == load_recipe("stage3").spec.flow == "dis"
    plain = open_cached("squares", squares, recipe.model)
    fine = open_cached("squares", squares, recipe.model, flow=recipe.spec.flow)
    assert plain.key == open_cached("squares", squares, recipe.model, flow="dis").key != fine.key
    assert np.abs(np.float32(plain.flow) - fine.flow).max() > 1e-3
    with pytest.raises(UsageError, match="no flow estimator named 'dus'"):
        open_cached("squares", squares, recipe.model, flow="dus")
