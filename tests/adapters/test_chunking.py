"""How a new chunk takes over: what an overlap may be, and how two chunks are joined."""

import numpy as np
import pytest
import torch

from motus_adapters import Overlap
from motus_adapters.deployment.splice import Splice
from motus_embodiments import DataError, UsageError

STEPS, WIDTH = 8, 3


def rows(count, value=1.0):
    return np.full((count, WIDTH), value, np.float32)


def test_an_overlap_is_checked():
    with pytest.raises(UsageError, match="no chunking named 'glide'") as error:
        Overlap(rows(3), 1, "glide")
    assert error.value.hint == "did you mean 'guide'?"
    with pytest.raises(DataError, match="the delay is 4 rows, 3 previous"):
        Overlap(rows(3), 4)
    with pytest.raises(DataError, match="finite numbers"):
        Overlap(rows(3, np.nan), 1)
    with pytest.raises(DataError, match="finite numbers"):
        Overlap(np.zeros(3), 0)


@pytest.mark.parametrize("count", [0, 3, STEPS, STEPS + 4])
@pytest.mark.parametrize("method", ["guide", "blend"])
def test_what_is_carried_out_is_held_and_the_far_end_is_new(method, count):
    delay = min(2, count)
    splice = Splice(rows(count), Overlap(rows(count), delay, method), STEPS)
    joined = splice.finish(torch.zeros(1, STEPS, WIDTH))[0, :, 0]
    assert joined[:delay].tolist() == [1.0] * delay
    assert (joined[count:] == 0).all()
    if method == "guide":  # between the two, the sampler has done it
        assert (joined[delay:] == 0).all()
    else:
        assert (joined.diff() <= 0).all()
        assert (joined[delay : min(count, STEPS)] > 0).all()


def test_only_guiding_takes_part_in_sampling():
    device = torch.device("cpu")
    assert Splice(rows(4), Overlap(rows(4), 1, "blend"), STEPS).guide(device) is None
    guide = Splice(rows(4), Overlap(rows(4), 1, "guide"), STEPS).guide(device)
    assert guide.previous[0, :4].eq(1).all()
    assert guide.weights[4:].eq(0).all()
