"""Cells as a textbook writes them: plain torch modules, contiguous layout, every operation run, weighted and added up.

The baseline of the benchmarks. It shares no code with the package and holds its weights in the same order; a test
shows that it computes the same function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

Operation = tuple[int, int, str]
"""Source node, target node, primitive."""

PRIMITIVES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


def relu_conv_bn(inputs: int, outputs: int, affine: bool) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs, affine=affine))


def separable(width: int, kernel: int, stride: int, dilation: int, affine: bool) -> list[nn.Module]:
    padding = dilation * (kernel - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(width, width, kernel, stride, padding, dilation, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width, affine=affine),
    ]


class FactorizedReduce(nn.Module):
    def __init__(self, inputs: int, outputs: int, affine: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        joined: Tensor = self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))
        return joined


def make_operation(primitive: str, width: int, stride: int, affine: bool, pooling_norm: bool) -> nn.Module:
    kind, _, size = primitive.partition("_pool_")
    if size:
        pool: nn.Module = (
            nn.MaxPool2d(3, stride, 1) if kind == "max" else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        )
        return nn.Sequential(pool, nn.BatchNorm2d(width, affine=affine)) if pooling_norm else pool
    if primitive == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(width, width, affine)
    kernel = int(primitive[-1])
    if primitive.startswith("dil_conv"):
        return nn.Sequential(*separable(width, kernel, stride, 2, affine))
    return nn.Sequential(*separable(width, kernel, stride, 1, affine), *separable(width, kernel, 1, 1, affine))


class Cell(nn.Module):
    def __init__(
        self, operations: Sequence[Operation], inputs: tuple[int, int], width: int, halved: bool, stride: int,
        searching: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        affine = not searching
        first, second = inputs
        self.first = (FactorizedReduce if halved else relu_conv_bn)(first, width, affine)
        self.second = relu_conv_bn(second, width, affine)
        self.places = operations
        self.operations = nn.ModuleList(
            make_operation(primitive, width, stride if source < 2 else 1, affine, searching)
            for source, _, primitive in operations
        )

    def forward(self, s0: Tensor, s1: Tensor, factors: Tensor | None) -> Tensor:
        states = [self.first(s0), self.second(s1)]
        for node in range(2, 6):
            total: Tensor | int = 0
            for index, ((source, target, _), operation) in enumerate(zip(self.places, self.operations, strict=True)):
                if target == node:
                    output = operation(states[source])
                    total = total + (output if factors is None else factors[index] * output)
            assert isinstance(total, Tensor)
            states.append(total)
        return torch.cat(states[2:], dim=1)


class Network(nn.Module):
    """Stem, cells, head.

    Args:
        operations: of a normal and of a reduction cell ("normal", "reduce"), in the order of their targets.
        searching: batch norm without scale and shift, and after pooling.
    """

    def __init__(
        self,
        operations: Mapping[str, Sequence[Operation]],
        channels: int,
        cells: int,
        reductions: Sequence[int],
        *,
        searching: bool,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels))
        self.cells = nn.ModuleList()
        before = last = 3 * channels
        halved, width = False, channels
        self.kinds = ["reduce" if index in reductions else "normal" for index in range(cells)]
        for kind in self.kinds:
            width *= 2 if kind == "reduce" else 1
            stride = 2 if kind == "reduce" else 1
            self.cells.append(Cell(operations[kind], (before, last), width, halved, stride, searching))
            before, last, halved = last, 4 * width, kind == "reduce"
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor, factors: Mapping[str, Tensor] | None = None) -> Tensor:
        """Logits. `factors` are those of the operations of each kind of cell, in their order."""
        s0 = s1 = self.stem(x)
        for cell, kind in zip(self.cells, self.kinds, strict=True):
            s0, s1 = s1, cell(s0, s1, None if factors is None else factors[kind])
        logits: Tensor = self.classifier(s1.mean(dim=(2, 3)))
        return logits


def every_operation() -> list[Operation]:
    """All candidates of DARTS' cell but `none`, whose contribution is zero."""
    return [
        (source, target, primitive)
        for target in range(2, 6)
        for source in range(target)
        for primitive in PRIMITIVES[1:]
    ]


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and buffers in their order, which is the same in both."""
    given, taken = list(source.state_dict().values()), list(target.state_dict().values())
    assert [value.shape for value in given] == [value.shape for value in taken]
    with torch.no_grad():
        for value, place in zip(given, taken, strict=True):
            place.copy_(value)
