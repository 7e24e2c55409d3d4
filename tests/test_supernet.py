"""A whole supernet: sparse execution against the dense one, and both against a textbook's plain modules.

The textbook (`benchmarks/textbook.py`) shares no code with the package, so agreement to 1e-9 in double precision says
that every kernel, every gradient and every running statistic is right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from benchmarks import textbook
from torch import Tensor
from torch.nn import functional as F

from datanas.core.settings import validate
from datanas.kernels.frozen import frozen
from datanas.kernels.gates import ClosedGradient, Gates, host_gates
from datanas.kernels.hardware import move_to
from datanas.network import Supernet
from datanas.samplers.egs import EGS
from datanas.spaces.conv_body import reductions
from datanas.spaces.conv_cell import ConvCellSpace
from datanas.tasks import tasks

CPU = torch.device("cpu")
CELLS, CHANNELS = 4, 4
EVERY = textbook.every_operation()
TIGHT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}

space = ConvCellSpace(ConvCellSpace.Config(cells=CELLS, channels=CHANNELS))


def make_supernet() -> Supernet:
    torch.manual_seed(0)
    task = tasks["classification"]
    settings = validate(task.Config, {"name": "classification"}, "task")
    supernet = Supernet(space, task.stem(settings, 3, CHANNELS), lambda widths: task.head(settings, widths, 5))
    return move_to(supernet.double(), CPU)


def make_textbook(supernet: Supernet) -> textbook.Network:
    operations = {"normal": EVERY, "reduce": EVERY}
    network = textbook.Network(
        operations, CHANNELS, CELLS, sorted(reductions(CELLS)), searching=True, classes=5
    ).double()
    textbook.copy_weights(supernet, network)
    return network


def make_sampler(samples: int, scope: str) -> EGS:
    config = validate(EGS.Config, {"name": "egs", "samples": samples, "scope": scope, "init_std": 0.5}, "sampler")
    torch.manual_seed(1)
    return EGS(config, space.groups(), "conv_cell").double()


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 3, 8, 8, dtype=torch.double, generator=generator)
    return images.contiguous(memory_format=torch.channels_last), torch.randint(5, (6,), generator=generator)


def textbook_loss(network: textbook.Network, values: Mapping[str, Tensor], seed: int = 0) -> Tensor:
    images, labels = batch(seed)
    factors = {kind: table[:, 1:].flatten() for kind, table in values.items()}
    return F.cross_entropy(network(images.contiguous(), factors), labels)


def gradients(loss: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, tensors, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, tensors, strict=True)]


def outcome(values: Mapping[str, Tensor], *, dense: bool, grad_mask: ClosedGradient = "exact") -> list[Tensor]:
    """Loss, gradients of the gates, gradients of the weights, of a fresh supernet."""
    supernet = make_supernet()
    images, labels = batch()
    gates = {
        name: group.with_grad(grad_mask, 0.5, torch.Generator().manual_seed(0))
        for name, group in host_gates(values, CPU, dense=dense).items()
    }
    loss = F.cross_entropy(supernet(images, gates), labels)
    return [loss.detach(), *gradients(loss, [*values.values(), *supernet.parameters()])]


def textbook_outcome(values: Mapping[str, Tensor]) -> list[Tensor]:
    network = make_textbook(make_supernet())
    loss = textbook_loss(network, values)
    return [loss.detach(), *gradients(loss, [*values.values(), *network.parameters()])]


def drawn(samples: int, scope: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(samples)
    return {
        name: values.detach().double().requires_grad_()
        for name, values in make_sampler(samples, scope).draw(0.0, generator).gates.items()
    }


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **TIGHT)


@pytest.mark.parametrize(
    ("samples", "scope"), [*((samples, "node") for samples in range(1, 8)), (1, "edge"), (4, "edge")]
)
def test_sparse_dense_and_textbook_are_one_function(samples: int, scope: str) -> None:
    values = drawn(samples, scope)
    expected = textbook_outcome(values)
    assert_same(outcome(values, dense=False), expected)
    assert_same(outcome(values, dense=True), expected)


def with_nothing(nodes: str) -> dict[str, Tensor]:
    """Gates in which some nodes receive nothing."""
    values = {name: table.detach().clone() for name, table in drawn(3, "edge").items()}
    for table in values.values():
        table[: 2 if nodes == "the first" else None] = 0.0
    return {name: table.requires_grad_() for name, table in values.items()}


@pytest.mark.parametrize("nodes", ["the first", "every"])
def test_nodes_that_receive_nothing(nodes: str) -> None:
    values = with_nothing(nodes)
    assert_same(outcome(values, dense=False), textbook_outcome(values))


def test_the_gates_of_a_node_that_receives_nothing_have_a_gradient() -> None:
    """Negative control: zeros would compare well."""
    for table in outcome(with_nothing("the first"), dense=False)[1:3]:
        assert (table[:2, 1:].abs() > 1e-9).any()


def test_leaving_out_closed_gates_is_noticed() -> None:
    """Negative control: the `sampled` gradient is another one, though the loss and the weights' gradients are not."""
    values = drawn(4, "node")
    exact, sampled = outcome(values, dense=False), outcome(values, dense=False, grad_mask="sampled")
    assert_same(sampled[3:], exact[3:])
    for name, found, whole in zip(values, sampled[1:3], exact[1:3], strict=True):
        is_open = values[name] != 0
        torch.testing.assert_close(found[is_open], whole[is_open], **TIGHT)
        assert (found[~is_open] == 0).all()
        assert (whole[~is_open].abs() > 1e-9).any()


@pytest.mark.parametrize("grad_mask", ["subsampled", "sampled"])
def test_dense_execution_leaves_out_the_same_gates(grad_mask: ClosedGradient) -> None:
    values = drawn(4, "node")
    assert_same(outcome(values, dense=True, grad_mask=grad_mask), outcome(values, dense=False, grad_mask=grad_mask))


def test_alpha_gradients_are_those_of_the_textbook() -> None:
    found = []
    for plain in (False, True):
        sampler, supernet = make_sampler(4, "node"), make_supernet()
        values = sampler.draw(0.0, torch.Generator().manual_seed(3)).gates
        alphas: list[Tensor] = list(sampler.parameters())
        if plain:
            loss = textbook_loss(make_textbook(supernet), values)
            found.append(gradients(loss, alphas))
            continue
        images, labels = batch()
        with frozen(supernet.parameters()):
            loss = F.cross_entropy(supernet(images, host_gates(values, CPU)), labels)
            found.append(gradients(loss, alphas))
    assert_same(*found)
    assert min(float(gradient.abs().max()) for gradient in found[0]) > 1e-6


def test_frozen_weights_keep_nothing_for_a_gradient() -> None:
    supernet = make_supernet()
    images, labels = batch()
    with frozen(supernet.parameters()):
        loss = F.cross_entropy(supernet(images, host_gates(drawn(4, "node"), CPU)), labels)
        loss.backward()
    assert all(parameter.grad is None for parameter in supernet.parameters())


def closed_buffers(network: textbook.Network, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the running statistics of the operations whose gates are closed."""
    kept: dict[str, Tensor] = {}
    for index, kind in enumerate(network.kinds):
        for position, factor in enumerate(values[kind][:, 1:].flatten().tolist()):
            if factor == 0.0:
                prefix = f"cells.{index}.operations.{position}."
                kept |= {name: b.clone() for name, b in network.named_buffers() if name.startswith(prefix)}
    return kept


def test_running_statistics_after_ten_steps_are_those_of_what_ran() -> None:
    """Weight and alpha steps in turn; the textbook's closed operations are put back after each."""
    supernet, sampler = make_supernet(), make_sampler(3, "node")
    network = make_textbook(supernet)
    ours, theirs = (torch.optim.SGD(part.parameters(), 0.05) for part in (supernet, network))
    for step in range(10):
        draw = sampler.draw(0.0, torch.Generator().manual_seed(step)).gates
        values = {name: table.detach().double().requires_grad_(step % 2 == 1) for name, table in draw.items()}
        images, labels = batch(step)
        for optimizer in (ours, theirs):
            optimizer.zero_grad()
        F.cross_entropy(supernet(images, host_gates(values, CPU)), labels).backward()
        before = closed_buffers(network, values)
        textbook_loss(network, values, step).backward()
        state = dict(network.named_buffers())
        for name, buffer in before.items():
            state[name].copy_(buffer)
        if step % 2 == 0:
            ours.step()
            theirs.step()
    found, expected = list(supernet.buffers()), list(network.buffers())
    assert_same(found, expected)
    counts = {int(buffer) for buffer in found if buffer.dtype == torch.int64}
    assert 10 in counts
    assert min(counts) < 10


def test_gates_of_another_draw_are_noticed() -> None:
    """Negative control of the comparison with the textbook."""
    one, other = drawn(4, "node"), drawn(5, "node")
    assert not torch.allclose(outcome(one, dense=False)[0], textbook_outcome(other)[0], rtol=1e-6)


def test_gates_need_not_want_a_gradient() -> None:
    values = {name: table.detach() for name, table in drawn(4, "node").items()}
    supernet = make_supernet()
    images, _ = batch()
    gates = {name: Gates.of(table) for name, table in values.items()}
    assert supernet(images, gates).shape == (6, 5)


def test_autocast_leaves_gates_losses_and_statistics_in_full_precision() -> None:
    found = {}
    for enabled in (True, False):
        supernet = make_supernet().float()
        values = {name: table.detach().float().requires_grad_() for name, table in drawn(4, "node").items()}
        images, labels = batch()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = F.cross_entropy(supernet(images.float(), host_gates(values, CPU)), labels)
        loss.backward()
        gradients_of_gates = [table.grad for table in values.values()]
        assert loss.dtype == torch.float32
        assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients_of_gates)
        assert all(b.dtype == torch.float32 for b in supernet.buffers() if b.is_floating_point())
        assert all(p.grad is None or p.grad.dtype == torch.float32 for p in supernet.parameters())
        found[enabled] = torch.cat([gradient.flatten() for gradient in gradients_of_gates if gradient is not None])
    assert F.cosine_similarity(found[True], found[False], dim=0) > 0.9
    assert not torch.equal(found[True], found[False])
