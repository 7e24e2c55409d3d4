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


def test_what_is_frozen_stays() -> None:
    """Whole parts with their statistics, and single parameters."""
    backbone = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).requires_grad_(False)
    head = nn.Linear(3, 3)
    head.bias.requires_grad_(False)
    module = nn.Sequential(backbone, head)
    module(torch.randn(4, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    renew(module)
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"1.weight"}


class Keeping(nn.Module):
    def __init__(self, *, persistent: bool = True) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(3), persistent=persistent)


def test_parts_with_buffers_that_they_cannot_reset_are_named() -> None:
    with pytest.warns(UserWarning, match=r"^1 \(Keeping: mean\), 2 \(Keeping: mean\): buffers stay as they are"):
        renew(nn.Sequential(nn.Linear(2, 2), Keeping(), Keeping(), Keeping(persistent=False)))
