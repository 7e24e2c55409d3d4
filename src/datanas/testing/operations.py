"""What every operation keeps to: it keeps its channels, divides its size by its stride, and passes gradients."""

from __future__ import annotations

import pytest
import torch

from datanas.ops import NONE, OpSettings, operations
from datanas.testing.contract import Contract


class OperationContract(Contract):
    """The suite of operations; they are built from `OpSettings` alone, so it has no settings."""

    @pytest.mark.parametrize(("stride", "size"), [(1, 8), (2, 8), (2, 7)])
    def test_shape_follows_stride(self, name: str, stride: int, size: int) -> None:
        x = torch.randn(2, 4, size, size, requires_grad=True)
        y = operations[name](OpSettings(4, stride))(x)
        side = -(-size // stride)
        assert y.shape == (2, 4, side, side), f"of {size}x{size} stride {stride} makes {side}x{side}, channels stay"
        if name != NONE:
            y.square().sum().backward()
            assert x.grad is not None
            assert x.grad.abs().sum() > 0

    def test_searching_form_has_no_affine_norm(self, name: str) -> None:
        op = operations[name](OpSettings(4, 1, affine=False, pooling_norm=True))
        norms = [part for part in op.modules() if isinstance(part, torch.nn.BatchNorm2d)]
        assert all(norm.weight is None for norm in norms)
        if "pool" in name:
            assert len(norms) == 1

    def test_rows_of_a_batch_do_not_mix_in_evaluation(self, name: str) -> None:
        op = operations[name](OpSettings(4)).eval()
        x = torch.randn(3, 4, 6, 6)
        torch.testing.assert_close(op(x)[1:2], op(x[1:2]))
