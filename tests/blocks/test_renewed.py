"""Fresh weights are those that parts give themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from datanas.blocks.renewed import renew


def test_weights_and_running_statistics_are_new() -> None:
    linear, norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
    module = nn.Sequential(linear, norm)
    module(torch.randn(4, 3))
    before = linear.weight.detach().clone()
    renew(module)
    assert not torch.equal(linear.weight, before)
    assert norm.running_mean is not None
    assert not norm.running_mean.any()


def test_attention_initialises_its_parts_in_its_own_way() -> None:
    attention = nn.MultiheadAttention(4, 2)
    nn.init.ones_(attention.out_proj.bias)
    renew(attention)
    assert not attention.out_proj.bias.any()


def test_a_parametrised_weight_cannot_be_renewed_unnoticed() -> None:
    with pytest.raises(ValueError, match="has the parameters original and no reset_parameters"):
        renew(nn.Sequential(spectral_norm(nn.Linear(2, 2))))
