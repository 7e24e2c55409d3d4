"""A search space of a user's own: any module with choice blocks in it, from the task's input to its output."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map

from datanas.blocks.block import Block
from datanas.blocks.choice import Choice
from datanas.blocks.found import Blocks
from datanas.blocks.resolve import resolve
from datanas.codes.architecture import Architecture
from datanas.codes.choice_group import ChoiceGroup
from datanas.core import seeding
from datanas.core.settings import ComponentConfig
from datanas.kernels.candidates import Call, aside
from datanas.kernels.gates import Gates
from datanas.kernels.hardware import count_macs
from datanas.spaces.base import Body, Costs, Space
from datanas.spaces.network_config import NetworkConfig


class ModuleBody(Body):
    """A module that reads the task's input and gives its output, without a stem before it or a head behind.

    What runs in backward, such as a choice within a closed candidate or a checkpointed part, asks for the child again.
    So it stays drawn until the next forward pass.

    Args:
        module: with choices in it, or with its choices made.
    """

    is_whole = True
    out_channels = (1,)

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Any, gates: Mapping[str, Gates] | None = None) -> Any:
        if self._blocks is None:
            return self.module(x)
        self._blocks.stop()
        if gates is None:
            return self.module(x)
        with self._blocks.left_running(gates):
            return self.module(x)

    @cached_property
    def _blocks(self) -> Blocks | None:
        """None where its choices are made."""
        has_choices = any(isinstance(part, Block) for part in self.module.modules())
        return Blocks.of(self.module) if has_choices else None


class ModuleNetwork(NetworkConfig):
    """Settings of networks that are modules of a user's own, which a space adds its own to."""

    @property
    def width(self) -> int:
        """Of the stem that is made and left out."""
        return STEM_WIDTH

    def at_width(self, width: int) -> ModuleNetwork:
        return self

    def text(self) -> str:
        return "the module as it is"


STEM_WIDTH = 8


class ModuleSpace(Space):
    """A search space that is a module with choices in it. A plugin's file defines `name`, `Config` and `build`.

        @register_space("my_net")
        class MyNet(ModuleSpace):
            name = "my_net"

            class Config(ComponentConfig):
                name: Literal["my_net"] = "my_net"

            @classmethod
            def build(cls, settings):
                return Net()

    The module reads what a network of the task reads and gives what it gives: for classification images
    (batch, channels, height, width) and scores (batch, classes).
    """

    Network: ClassVar[type[NetworkConfig]] = ModuleNetwork
    fixed: ClassVar[Mapping[str, Any]] = {"cells": 1}
    is_one_network: ClassVar[bool] = True
    combines: ClassVar[bool] = True

    def __init__(self, config: ComponentConfig) -> None:
        self.config = config

    @classmethod
    @abstractmethod
    def build(cls, settings: Any) -> nn.Module:
        """The module, with fresh weights.

        Args:
            settings: the `Config` of the search, or the `Network` of a training.
        """

    @property
    def width(self) -> int:
        return STEM_WIDTH

    @cached_property
    def _example(self) -> nn.Module:
        with torch.device("cpu"), seeding.keyed(0, "example of a module", reach="process"):
            return self.build(self.config).to("cpu").eval()

    @cached_property
    def _blocks(self) -> Blocks:
        return Blocks.of(self._example)

    def groups(self) -> dict[str, ChoiceGroup]:
        return self._blocks.groups()

    def supernet_body(self, stem: nn.Module) -> ModuleBody:
        return ModuleBody(self.build(self.config))

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: Any) -> ModuleBody:
        return ModuleBody(resolve(cls.build(settings), architecture))

    def at_size(self, channels: int, cells: int) -> ModuleSpace:
        return self

    def identities(self, group: str) -> frozenset[str]:
        names = frozenset(name for name, part in self._parts(group).items() if isinstance(part, nn.Identity))
        return names if self.parameter_free(group) else frozenset()

    def parameter_free(self, group: str) -> frozenset[str]:
        parts = self._parts(group)
        names = frozenset(name for name, part in parts.items() if not list(part.parameters()))
        return names if len(names) < len(parts) else frozenset()  # none is the worse for learning nothing

    def _parts(self, group: str) -> dict[str, nn.Module]:
        block = self._blocks.by_name[group][0]
        return dict(block.candidates.items()) if isinstance(block, Choice) else {}

    def require_additive_costs(self) -> None:
        self._blocks.require_apart("budget")

    def costs(self, stem: nn.Module, example: Any) -> dict[str, Costs]:
        """Parameters, and multiply-adds for an input like `example`, of every candidate at all its places."""
        parameters = self._blocks.costs(as_counted=True)
        macs = {name: [0.0] * len(costs) for name, costs in parameters.items()}
        with torch.device("cpu"), torch.no_grad(), seeding.put_back(), self._watched(macs):
            first = {name: Gates.of(_first_of(len(costs))) for name, costs in parameters.items()}
            with self._blocks.running(first):
                self._example(tree_map(_on_host, example))
        return {name: Costs(np.array([parameters[name]]), np.array([macs[name]])) for name in parameters}

    @contextmanager
    def _watched(self, macs: dict[str, list[float]]) -> Iterator[None]:
        """Run a block of code in which every call of a block adds to the multiply-adds of its name."""

        def watch(name: str) -> Any:
            def count(block: Block, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
                if not isinstance(block, Choice):
                    return
                call = Call.of(args, kwargs, draws=False)
                for candidate in block.every():
                    with aside(candidate):
                        positional, named = call.inputs.around(call.inputs.tensors)
                        macs[name][candidate.index] += count_macs(candidate.module, *positional, **named)

            return count

        with ExitStack() as stack:
            for name, block in self._blocks.items():
                handle = block.register_forward_pre_hook(watch(name), with_kwargs=True)
                stack.callback(handle.remove)
            yield


def _on_host(leaf: Any) -> Any:
    """A tensor of the same shape, whose values do not matter, of one that may lie on the meta device."""
    return torch.zeros(leaf.shape, dtype=leaf.dtype, device="cpu") if isinstance(leaf, torch.Tensor) else leaf


def _first_of(count: int) -> torch.Tensor:
    gates = torch.zeros(1, count)
    gates[0, 0] = 1.0
    return gates
