"""Networks under what others do with modules: checkpoints, saved-tensor hooks, torch.func, other types, pickle."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, grad, jacrev, vmap
from torch.utils.checkpoint import checkpoint
from torchvision.models.feature_extraction import create_feature_extractor

import datanas
from datanas.kernels.gates import Gates
from datanas.network import Supernet
from datanas.spaces import spaces
from datanas.tasks import tasks

LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def network(layout: torch.memory_format = torch.channels_last, name: str = "darts_v2") -> nn.Module:
    torch.manual_seed(0)
    return datanas.build_network(name, num_classes=3, channels=4, cells=3).to(memory_format=layout)


def images(layout: torch.memory_format = torch.channels_last) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(4, 3, 8, 8, generator=generator).contiguous(memory_format=layout)


def gradients(run: Callable[[Tensor], Tensor], module: nn.Module, x: Tensor) -> list[Tensor]:
    """Those of the input and of every weight."""
    x = x.clone().requires_grad_()
    run(x).square().sum().backward()
    found = [x.grad, *(weight.grad for weight in module.parameters())]
    return [gradient for gradient in found if gradient is not None]


def assert_same(ours: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-5) -> None:
    assert len(ours) == len(theirs) > 1
    for own, other in zip(ours, theirs, strict=True):
        assert float((own - other).norm()) <= tolerance * (1e-3 + float(other.norm()))


@LAYOUTS
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_network_has_its_gradients(reentrant: bool, layout: torch.memory_format) -> None:
    first, second, x = network(layout), network(layout), images(layout)
    ours = gradients(lambda x: checkpoint(first, x, use_reentrant=reentrant), first, x)
    assert_same(ours, gradients(second, second, x))


@LAYOUTS
def test_saved_tensors_may_be_packed(layout: torch.memory_format) -> None:
    first, second, x = network(layout), network(layout), images(layout)

    def packing(x: Tensor) -> Tensor:
        with saved_tensors_hooks(lambda saved: saved.clone(), lambda packed: packed):
            return first(x)

    assert_same(gradients(packing, first, x), gradients(second, second, x))


@LAYOUTS
def test_func_grad_is_that_of_autograd(layout: torch.memory_format) -> None:
    module, x = network(layout).eval(), images(layout)
    weights = dict(module.named_parameters())
    found = grad(lambda weights: functional_call(module, weights, (x,)).square().sum())(weights)
    module(x).square().sum().backward()
    pairs = [(found[name], weight.grad) for name, weight in weights.items() if weight.grad is not None]
    assert_same([own for own, _ in pairs], [other for _, other in pairs])


@LAYOUTS
def test_vmap_is_the_batch(layout: torch.memory_format) -> None:
    module, x = network(layout).eval(), images(layout)
    torch.testing.assert_close(vmap(lambda image: module(image[None])[0])(x), module(x))


def test_jacrev_is_a_gradient_an_output() -> None:
    module, x = network().eval(), images()[:1]
    jacobian = jacrev(module)(x)
    y = module(x.requires_grad_())
    for index in range(3):
        (expected,) = torch.autograd.grad(y[0, index], x, retain_graph=True)
        torch.testing.assert_close(jacobian[0, index], expected)


@LAYOUTS
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float16, 0.05), (torch.bfloat16, 0.2)])
def test_weights_of_any_type_learn(
    dtype: torch.dtype, tolerance: float, training: bool, layout: torch.memory_format
) -> None:
    module = network(layout, "data_m7").train(training)  # with dilated convolutions
    exact, x = deepcopy(module).double(), images(layout)
    cast = deepcopy(module).to(dtype)
    y = cast(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), exact(x.double()), rtol=tolerance, atol=tolerance)
    y.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in cast.parameters() if weight.grad is not None)


def supernet(space: str, **settings: Any) -> tuple[nn.Module, Any, dict[str, Gates]]:
    """One in evaluation mode, with an input and random gates."""
    torch.manual_seed(0)
    entry: Any = spaces[space]
    task, space_ = tasks[entry.task], entry(entry.Config(**settings))
    config = task.Config(**entry.defaults.get("task", {}))
    words = 7
    stem = task.stem(config, words if task.default_size is None else 3, space_.width)
    module = Supernet(space_, stem, lambda widths: task.tied_head(config, widths, words, stem)).eval()
    gates = {}
    for name, group in space_.groups().items():
        values = (torch.rand(group.shape) < 0.4).float()
        values[:, -1] = 1  # so that every node is read
        gates[name] = Gates(values.clone().requires_grad_(), tuple(map(tuple, values.tolist())))
    x = torch.randint(words, (3, 2)) if task.default_size is None else images()
    return module, x, gates


SUPERNETS = pytest.mark.parametrize(
    ("space", "settings"),
    [
        ("conv_cell", {"cells": 3, "channels": 4, "nodes": 5}),
        ("nasbench201", {"channels": 4}),
        ("recurrent_cell", {"hidden": 4, "nodes": 6}),
    ],
)


def outputs(found: Any) -> Tensor:
    return found if isinstance(found, Tensor) else found.logits


@SUPERNETS
def test_supernets_are_pickled_and_saved(space: str, settings: dict[str, Any]) -> None:
    module, x, gates = supernet(space, **settings)
    saved = io.BytesIO()
    torch.save(module, saved)
    saved.seek(0)
    for copy in (pickle.loads(pickle.dumps(module)), torch.load(saved, weights_only=False), deepcopy(module)):
        assert torch.equal(outputs(copy(x, gates)), outputs(module(x, gates)))


@SUPERNETS
def test_gates_learn_through_a_checkpoint(space: str, settings: dict[str, Any]) -> None:
    module, x, gates = supernet(space, **settings)
    tables = [group.values for group in gates.values()]
    expected = torch.autograd.grad(outputs(module(x, gates)).square().sum(), tables)
    y = checkpoint(lambda x: outputs(module(x, gates)), x, use_reentrant=False)
    found = torch.autograd.grad(y.square().sum(), tables)
    torch.testing.assert_close(found, expected)


@SUPERNETS
def test_hooks_of_a_supernets_layers_run(space: str, settings: dict[str, Any]) -> None:
    module, x, gates = supernet(space, **settings)
    leaves = {name for name, part in module.named_modules() if not list(part.children()) and "_blank" not in name}
    called: set[str] = set()
    for name in leaves:
        module.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
    outputs(module(x, gates)).sum().backward()  # closed operations run here
    assert called == leaves


@pytest.mark.parametrize("name", ["darts_v2", "data_m7", "nasnet_a"])
def test_hooks_of_a_networks_layers_run(name: str) -> None:
    module = network(name=name).eval()
    leaves = {name for name, part in module.named_modules() if not list(part.children()) and "_blank" not in name}
    called: set[str] = set()
    for leaf in leaves:
        module.get_submodule(leaf).register_forward_hook(lambda *_, leaf=leaf: called.add(leaf))
    module(images())
    assert called == leaves


def test_features_are_extracted_by_the_names_of_cells() -> None:
    module, x = network().eval(), images()
    features: dict[str, Tensor] = {}
    for index in (0, 2):
        cell = module.get_submodule(f"body.cells.{index}")
        cell.register_forward_hook(lambda module, inputs, output, index=index: features.update({str(index): output}))
    found = create_feature_extractor(module, {"body.cells.0": "0", "body.cells.2": "2"})(x)
    module(x)
    torch.testing.assert_close(dict(found), features)
