"""Traced, exported, compiled and symbolically recorded networks compute what the networks compute.

Every published architecture and every registered task is recorded by every way that is quick, and by one that is slow.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any, cast

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torchvision.models.feature_extraction import NodePathTracer, create_feature_extractor, get_graph_node_names

import datanas
from datanas.core.errors import ConfigError
from datanas.core.settings import validate
from datanas.network import builder_of
from datanas.references import references
from datanas.tasks import tasks

SIZE, STEPS, CLASSES = 32, 3, 7
SETTINGS: dict[str, dict[str, Any]] = {"segmentation": {"stem": "cifar_half", "output_stride": 4, "head_channels": 4}}
"""Settings that make a task's network small, in a form that has all that it can have."""
BENCHMARK = "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|none~0|skip_connect~1|none~2|"
NETWORKS = [
    *((name, "") for name in (*datanas.architectures(), *references, BENCHMARK) if name != "timm"),
    *(("", task) for task in sorted(tasks) if task not in ("classification", "language")),
]
"""Architectures for the task of their space, and the other tasks with a cell that they take."""

Run = Callable[[Tensor], Any]
Way = Callable[[nn.Module, Tensor], Run]


def build(name: str, task: str) -> nn.Module:
    """A small network in evaluation mode."""
    torch.manual_seed(0)
    if not name:
        for cell in ("gdas", "darts_v1_rnn"):
            try:
                return build(cell, task)
            except ConfigError:
                continue
        pytest.skip(f"{task} takes none of the published cells")
    architecture = datanas.Architecture.from_genotype(name) if name.startswith("|") else datanas.architecture(name)
    builder = builder_of(architecture)
    cells = 3 if "cells" in builder.Network.model_fields else None
    options = SETTINGS.get(task, {})
    network = datanas.build_network(architecture, task or None, CLASSES, 2, cells, **options)
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # so that one pass makes its statistics, and outputs are of a size to be compared
    if norms:
        network(torch.rand(8, 3, SIZE, SIZE))
    else:
        for weight in network.parameters():
            weight.data.mul_(10)
    return network.eval()


def example(name: str, task: str, batch: int) -> Tensor:
    """Random inputs: images, or some steps of text."""
    if not task:
        is_text = name.startswith("|")
        task = builder_of(datanas.Architecture.from_genotype(name) if is_text else datanas.architecture(name)).task
    entry = tasks[task]
    config = validate(entry.Config, {"name": task, **SETTINGS.get(task, {})}, "task")
    size = 1 if entry.default_size is None else SIZE
    like: Tensor = entry.example_input(config, entry.inputs(CLASSES), size, batch, torch.device("cpu"))
    generator = torch.Generator().manual_seed(batch)
    if like.is_floating_point():
        return torch.rand(like.shape, generator=generator)
    return torch.randint(CLASSES, (STEPS, *like.shape[1:]), generator=generator)


def batch_dim(x: Tensor) -> int:
    return 0 if x.is_floating_point() else 1


def any_batch(x: Tensor) -> tuple[dict[int, Any]]:
    return ({batch_dim(x): torch.export.Dim("batch", min=2, max=64)},)


def traced(network: nn.Module, x: Tensor) -> Run:
    return cast(Run, torch.jit.trace(network, x, check_trace=False))


def recorded(network: nn.Module, x: Tensor) -> Run:
    return torch.fx.symbolic_trace(network)


def extracted(network: nn.Module, x: Tensor) -> Run:
    """torchvision's extractor, asked for what the body gives: the network's output is made from that by its head."""
    _, names = get_graph_node_names(network)
    wanted = [name for name in names if name.startswith("body")][-1]
    assert create_feature_extractor(network, [wanted])(x)[wanted] is not None
    return torch.fx.GraphModule(network, NodePathTracer().trace(network))


def pickled(network: nn.Module, x: Tensor) -> Run:
    return cast(Run, pickle.loads(pickle.dumps(network)))


def exported(network: nn.Module, x: Tensor) -> Run:
    saved = io.BytesIO()
    torch.export.save(torch.export.export(network, (x,), dynamic_shapes=any_batch(x), strict=False), saved)
    saved.seek(0)
    return torch.export.load(saved).module()


def exported_strictly(network: nn.Module, x: Tensor) -> Run:
    return torch.export.export(network, (x,), dynamic_shapes=any_batch(x), strict=True).module()


def compiled(network: nn.Module, x: Tensor) -> Run:
    return cast(Run, torch.compile(network, backend="aot_eager", fullgraph=True))


def run_onnx(model: bytes) -> Run:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    return lambda x: [torch.from_numpy(found) for found in session.run(None, {name: x.numpy()})]


def onnx_traced(network: nn.Module, x: Tensor) -> Run:
    saved = io.BytesIO()
    names, axes = ["x"], {"x": {batch_dim(x): "batch"}}
    # Its annotation knows no file that is open; its documentation does.
    torch.onnx.export(network, (x,), saved, dynamo=False, input_names=names, dynamic_axes=axes)  # type: ignore[arg-type]
    return run_onnx(saved.getvalue())


def onnx_exported(network: nn.Module, x: Tensor) -> Run:
    program = torch.onnx.export(network, (x,), dynamo=True, dynamic_shapes=any_batch(x), verbose=False)
    assert program is not None
    return run_onnx(program.model_proto.SerializeToString())


QUICK: tuple[Way, ...] = (traced, recorded, extracted, pickled)
SLOW: tuple[Way, ...] = (onnx_traced, compiled, exported_strictly, onnx_exported, exported)


def error_of(way: Way, name: str, task: str) -> float:
    """The largest difference on the batch that was recorded and on a larger one."""
    network, x = build(name, task), example(name, task, 2)
    with torch.no_grad():
        run = way(network, x)
        batches = [x] if way is compiled else [x, example(name, task, 3)]  # another batch would be compiled anew
        pairs = [(found, right) for each in batches for found, right in zip_leaves(run(each), network(each))]
    return max(float((found - right).abs().max()) for found, right in pairs)


def zip_leaves(found: Any, right: Any) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(tree_leaves(found), tree_leaves(right), strict=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", QUICK, ids=lambda way: way.__name__)
@pytest.mark.parametrize(("name", "task"), NETWORKS)
def test_what_is_recorded_quickly_computes_the_same(name: str, task: str, way: Way) -> None:
    assert error_of(way, name, task) <= 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "task", "way"), [(*network, SLOW[index % len(SLOW)]) for index, network in enumerate(NETWORKS)]
)
def test_what_is_recorded_slowly_computes_the_same(name: str, task: str, way: Way) -> None:
    assert error_of(way, name, task) <= 1e-5
    torch._dynamo.reset()


@pytest.mark.parametrize(("name", "task"), NETWORKS)
def test_a_network_depends_on_its_input(name: str, task: str) -> None:
    """Without which equality would show nothing."""
    network, x = build(name, task), example(name, task, 2)
    with torch.no_grad():
        pairs = list(zip_leaves(network(x), network(1 - x if x.is_floating_point() else CLASSES - 1 - x)))
    assert max(float((found - right).abs().max()) for found, right in pairs) > 1e-2
