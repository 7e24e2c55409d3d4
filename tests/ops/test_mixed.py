"""A node of the supernet: sparse execution has the values and every gradient of the dense one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from datanas.ops import OpSettings, operations
from datanas.ops.gates import Gates
from datanas.ops.identity import Zero
from datanas.ops.mixed import Candidate, MixedNode, set_drop_path
from datanas.ops.norm import statistics_kept

NAMES = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5")


def make_node(stride: int = 1) -> MixedNode:
    torch.manual_seed(1)
    candidates = {
        f"{edge}_{name}": Candidate(
            edge, op, edge, operations[name](OpSettings(4, stride, affine=False, pooling_norm=True))
        )
        for edge in range(2)
        for op, name in enumerate(NAMES)
    }
    return MixedNode(candidates, Zero(stride)).double()


def states(size: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(3, 4, size, size, dtype=torch.double, generator=generator) for _ in range(2)]


CODES = {
    "nothing": [[0, 0, 0, 0], [0, 0, 0, 0]],
    "one": [[0, 0, 1, 0], [0, 0, 0, 0]],
    "several": [[1, 1, 0, 1], [0, 1, 1, 0]],
    "scaled": [[0, 0.25, 0, 0.25], [0.5, 0, 0, 0]],
}


def gradients(dense: bool, code: str, stride: int) -> tuple[torch.Tensor, ...]:
    node = make_node(stride)
    inputs = [state.requires_grad_() for state in states()]
    values = torch.tensor(CODES[code], dtype=torch.double, requires_grad=True)
    gates = Gates(values, tuple(tuple(row) for row in values.tolist()), dense=dense)
    output = node(inputs, gates)
    loss = (output * torch.linspace(-1, 1, output.numel()).double().reshape(output.shape)).sum() + output.square().sum()
    weights = list(node.parameters())
    found = torch.autograd.grad(loss, [values, *inputs, *weights], allow_unused=True)
    zeros = [torch.zeros_like(x) if g is None else g for g, x in zip(found, [values, *inputs, *weights], strict=True)]
    return (output.detach(), *zeros)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("stride", [1, 2])
def test_sparse_equals_dense(code: str, stride: int) -> None:
    for sparse, dense in zip(gradients(False, code, stride), gradients(True, code, stride), strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-9, atol=1e-9)


def test_closed_gates_do_have_a_gradient() -> None:
    """Negative control: an execution that forgets closed gates would pass no comparison with zero."""
    _, into_gates, *_ = gradients(False, "one", 1)
    assert (into_gates[torch.tensor(CODES["one"]) == 0].abs() > 1e-6).all()


def test_weight_step_runs_only_what_is_open() -> None:
    node = make_node()
    ran: list[str] = []
    for name, op in node.ops.items():
        for part in op.modules():
            part.register_forward_hook(lambda *_, name=name: ran.append(name))
    node(states(), Gates.of(torch.tensor(CODES["one"])))
    assert set(ran) == {"0_sep_conv_3x3"}


def test_recomputing_closed_operations_keeps_their_statistics() -> None:
    node = make_node()
    before = {name: buffer.clone() for name, buffer in node.named_buffers()}
    values = torch.tensor(CODES["one"], dtype=torch.double, requires_grad=True)
    node(states(), Gates.of(values)).square().sum().backward()
    for name, buffer in node.named_buffers():
        changed = not torch.equal(buffer, before[name])
        assert changed == ("0_sep_conv_3x3" in name), name


def test_statistics_kept_restores_tracking_after_an_error() -> None:
    norm = nn.BatchNorm2d(2)
    with pytest.raises(RuntimeError), statistics_kept([norm]):
        raise RuntimeError
    assert norm.track_running_stats


def test_gates_stay_float32_under_autocast() -> None:
    node = make_node().float()
    values = torch.tensor(CODES["several"], dtype=torch.float32, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = node([state.float() for state in states()], Gates.of(values))
    output.float().square().sum().backward()
    assert values.grad is not None
    assert values.grad.dtype == torch.float32
    assert values.grad.isfinite().all()


def test_drop_path_spares_identities() -> None:
    identity = MixedNode({"a": Candidate(0, 0, 0, nn.Identity())}, Zero(1))
    conv = MixedNode({"a": Candidate(0, 0, 0, nn.Conv2d(4, 4, 1))}, Zero(1))
    x = torch.randn(64, 4, 2, 2)
    for node in (identity, conv):
        set_drop_path(node, 0.5)
    assert torch.equal(identity([x]), x)
    dropped = (conv([x]).abs().sum((1, 2, 3)) == 0).sum()
    assert 10 < dropped < 54
    assert (conv.eval()([x]).abs().sum((1, 2, 3)) > 0).all()
