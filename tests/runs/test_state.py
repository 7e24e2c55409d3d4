from __future__ import annotations

import json
import math
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from datanas.runs.state import decode_state, encode_state

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


def round_trip(state: Any) -> Any:
    structure, tensors = encode_state(state)
    return decode_state(
        json.loads(json.dumps(structure, allow_nan=False)), safetensors.torch.load(safetensors.torch.save(tensors))
    )


def is_same(a: Any, b: Any) -> bool:
    """Equal in value, type, key order; NaN equals NaN."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        keys = [(type(key), key) for key in a] == [(type(key), key) for key in b]
        return keys and all(is_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(is_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return a == b


tensors = st.builds(
    lambda shape, dtype, seed: (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 9).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
    st.integers(0, 99),
)
keys = st.one_of(
    st.text(max_size=5), st.integers(), st.sampled_from(["0", "a/b", "a", "__metadata__", "tensor", "dict"])
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), tensors)
nested = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(keys, nested, max_size=5))
def test_any_state_comes_back(state: Any) -> None:
    assert is_same(round_trip(state), state)


def test_the_comparison_above_can_fail() -> None:
    for a, b in [({1: 0}, {"1": 0}), ([1], (1,)), (1, True), (0.0, -0.0), ({"a": 1, "b": 2}, {"b": 2, "a": 1})]:
        assert not is_same(a, b)
    assert not is_same(torch.zeros(1), torch.zeros(1, dtype=torch.float64))


def test_colliding_paths_stay_apart() -> None:
    state = {
        "a/b": torch.tensor(1),
        "a": {"b": torch.tensor(2)},
        0: torch.tensor(3),
        "0": torch.tensor(4),
        "": torch.tensor(5),
    }
    assert is_same(round_trip(state), state)


def test_tensors_carry_their_paths() -> None:
    _, named = encode_state({"model": {"conv.weight": torch.zeros(1)}, "optimizer": [{0: torch.zeros(2)}]})
    assert sorted(named) == ["model/conv.weight", "optimizer/0/0"]


def test_channels_last_and_other_strides_come_back() -> None:
    image = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    state = {
        "last": image.to(memory_format=torch.channels_last),
        "t": image.permute(3, 1, 0, 2),
        "slice": image[:, 1:, ::2],
    }
    assert is_same(round_trip(state), state)


def test_tensors_that_share_memory_come_back_apart() -> None:
    weight = torch.arange(6.0)
    back = round_trip({"a": weight, "b": weight, "row": weight.view(2, 3)[1], "wide": weight[:1].expand(4)})
    assert is_same(back, {"a": weight, "b": weight, "row": weight[3:], "wide": torch.zeros(4)})
    back["a"].zero_()
    assert torch.equal(back["b"], weight)


def test_tied_modules_come_back() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    other = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    other.load_state_dict(round_trip({"model": model.state_dict()})["model"])
    assert is_same(dict(other.state_dict()), dict(model.state_dict()))


def test_a_mapping_comes_back_as_a_dict_and_a_parameter_as_a_tensor() -> None:
    back = round_trip(OrderedDict(weight=nn.Parameter(torch.ones(2))))
    assert type(back) is dict
    assert type(back["weight"]) is torch.Tensor
    assert not back["weight"].requires_grad


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"a": {"b": object()}}, "state at a/b: cannot store a object"),
        ({"a": [{1, 2}]}, "state at a/0: cannot store a set"),
        ({"a": np.int64(1)}, "state at a: cannot store a int64"),
        ({"a": b"bytes"}, "state at a: cannot store a bytes"),
        ({"a": {(1, 2): 3}}, r"state at a: the key \(1, 2\) is neither"),
        ({True: 3}, "state at top: the key True is neither"),
        ({"a": torch.zeros(1, dtype=torch.complex128)}, "state at a: safetensors has no torch.complex128"),
        ({"a": torch.zeros(1).to_sparse()}, "state at a: safetensors has no .*sparse"),
    ],
)
def test_what_cannot_be_stored_is_named(state: Any, where: str) -> None:
    with pytest.raises(TypeError, match=where):
        encode_state(state)


@pytest.mark.parametrize(
    "structure", [{"tensor": "gone"}, {"tensor": []}, {"what": 1}, {}, {"dict": [1]}, {"float": "x"}]
)
def test_a_structure_that_does_not_fit_is_refused(structure: Any) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode_state(structure, {})
