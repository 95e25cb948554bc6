"""Shapes are checked at run time in every test run, whichever file comes first."""

import sys

import pytest
import torch
from jaxtyping import TypeCheckError

from motus_model.flow_matching import interpolate
from motus_model.layers import rotate


def test_every_module_of_the_network_is_checked():
    loaded = {name: module for name, module in sys.modules.items() if "motus_model." in name}
    assert len(loaded) > 10
    unchecked = [n for n, m in loaded.items() if "jaxtyping" not in type(m.__loader__).__module__]
    assert unchecked == []


def test_a_wrong_shape_is_refused():
    with pytest.raises(TypeCheckError, match="times"):
        interpolate(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(TypeCheckError, match="table"):
        rotate(torch.zeros(1, 4, 2, 6), torch.zeros(5, 1, 3, 2))


def test_a_wrong_type_is_refused():
    with pytest.raises(TypeCheckError):
        interpolate(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2))
