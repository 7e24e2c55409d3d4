"""What is known of a candidate before it runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from datanas.blocks.naming import Function
from datanas.core.torch_draws import draws_unasked
from datanas.kernels.candidates import may_draw
from datanas.kernels.cell_operation import CellOperation
from datanas.kernels.mixed import MixedNode
from datanas.nn import EnsembleGumbelSoftmax, EnsemblePooling
from datanas.ops import OpSettings, operations
from datanas.ops.identity import Zero

CODES: Any = EnsembleGumbelSoftmax(2)


@pytest.mark.parametrize(
    ("module", "draws", "unasked"),
    [
        (nn.Linear(2, 2), False, False),
        (operations["sep_conv_3x3"](OpSettings(4)), False, False),
        (nn.RReLU(), True, True),
        (Function(torch.rand_like), True, True),
        (CODES, True, False),
        (nn.Sequential(nn.Linear(2, 2), CODES), True, False),
        (EnsemblePooling(4, 2, samples=1), True, False),
        (MixedNode({"a": CellOperation(0, 0, 0, 1, nn.Conv2d(4, 4, 1))}, Zero(1)), True, False),
    ],
)
def test_who_may_draw_and_who_does_so_unasked(module: nn.Module, draws: bool, unasked: bool) -> None:
    assert may_draw(module) is draws
    assert draws_unasked(module) is unasked
