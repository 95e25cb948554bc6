"""The mixture draws what it says, and nothing else decides it."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motus_embodiments import DataError
from motus_recipes.data.mixture import Mixture, Source


def mixture(weights: list[float], windows: list[int], batch: int, seed: int = 0) -> Mixture:
    sources = tuple(
        Source(f"s{i}", count, weight)
        for i, (count, weight) in enumerate(zip(windows, weights, strict=True))
    )
    return Mixture(sources, batch, seed)


@settings(max_examples=40)
@given(
    weights=st.lists(st.floats(0.05, 10), min_size=1, max_size=4),
    batch=st.integers(1, 33),
    seed=st.integers(0, 5),
)
def test_shares_stray_by_a_few_windows_at_most(weights, batch, seed):
    mixed = mixture(weights, [17] * len(weights), batch, seed)
    counts: Counter[str] = Counter()
    for step in range(30):
        rows = mixed.draw(step)
        assert len(rows) == batch
        counts.update(row.source for row in rows)
        assert len({row.seed for row in rows}) == batch
        for name, share in mixed.shares().items():
            assert abs(counts[name] - share * batch * (step + 1)) <= 4


def test_every_window_comes_once_in_an_epoch():
    mixed = mixture([1.0], [12], 4)
    epoch = [window for step in range(3) for _, window, _, _ in mixed.draw(step)]
    following = [window for step in range(3, 6) for _, window, _, _ in mixed.draw(step)]
    assert sorted(epoch) == sorted(following) == list(range(12))
    assert epoch != following


def test_a_step_is_the_same_whenever_it_is_asked_for():
    first = mixture([1, 3], [9, 20], 8, seed=4)
    again = mixture([1, 3], [9, 20], 8, seed=4)
    other = mixture([1, 3], [9, 20], 8, seed=5)
    assert first.draw(7) == again.draw(7)
    assert first.draw(7) != other.draw(7)


def test_a_thousand_batches_have_the_asked_shares_within_a_hundredth():
    """The paper's mixture; `taken` counts without drawing, and counts what is drawn."""
    weights, windows = [230949, 27500, 1000, 751153], [50, 7, 3, 90]
    mixed = mixture(weights, windows, 16)
    counts: Counter[str] = Counter()
    for step in range(1000):
        counts.update(row.source for row in mixed.draw(step))
    assert mixed.taken(1000) == counts
    whole = mixture(weights, windows, 256)
    for name, share in whole.shares().items():
        assert whole.taken(1000)[name] / 256_000 == pytest.approx(share, rel=0.01)


def test_two_processes_share_the_rows_of_one():
    from motus_recipes.schema import EngineSpec
    from motus_recipes.training.engine import Engine

    rows = mixture([1, 3], [9, 20], 8).draw(5)
    engine = Engine(EngineSpec(microbatch=2), "cpu")
    parts = []
    for engine.rank, engine.world in ((0, 2), (1, 2)):
        parts += engine.share(rows)
    assert [len(part) for part in parts] == [2, 2, 2, 2]
    assert [row for part in parts for row in part] == rows


def test_a_source_with_nothing_to_draw_is_named():
    with pytest.raises(DataError, match="dataset 'still' has nothing to learn from"):
        Source("still", 0, 1.0)
