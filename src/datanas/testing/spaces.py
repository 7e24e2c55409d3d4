"""What every search space keeps to: its groups, bodies, costs, networks and the texts of its architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.codes.cell import Cell
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.kernels.gates import Gates
from datanas.network import task_settings
from datanas.spaces import spaces
from datanas.spaces.base import Body, Space
from datanas.spaces.network_config import NetworkConfig
from datanas.spaces.sequence import Carried
from datanas.tasks import tasks
from datanas.testing.contract import ComponentContract

WIDTH, SIZE = 4, 8
CELLS = 3
WORDS, STEPS = 11, 5
SMALL = {"cells": CELLS, "channels": WIDTH, "hidden": WIDTH}
"""How large a supernet is, by settings that many spaces have."""


def make_stem(space: Space, width: int = WIDTH) -> nn.Module:
    """The way in of the task that the space serves, with the settings that suit the space."""
    task = tasks[space.task]
    return task.stem(task_settings(type(space), space.task, {}), task.inputs(WORDS), width)


def example(space: Space, batch: int = 2) -> Tensor:
    """What the stem takes: images, or steps of text."""
    if space.task == "language":
        return torch.randint(WORDS, (STEPS, batch))
    x = torch.randn(batch, 3, SIZE, SIZE, dtype=torch.double)
    return x.contiguous(memory_format=torch.channels_last)


def features_of(body: Body, features: tuple[Tensor, ...]) -> Tensor:
    """The last feature map (batch, channels, height, width), or the hidden states as (batch, units, time)."""
    if isinstance(features, Carried):
        assert features.state.shape[0] == features.outputs.shape[1]
        return features.outputs.permute(1, 2, 0)
    assert len(features) == len(body.out_channels)
    return features[-1]


def settings_of(space: Space, **changes: Any) -> NetworkConfig:
    """The smallest network of a space that has several cells, where it can have."""
    settings = space.smallest(space.Network(), WIDTH)
    depth = getattr(getattr(space, "config", None), "cells", CELLS)
    changes |= {"cells": depth} if hasattr(settings, "cells") else {}
    return settings.model_copy(update=changes)


def random_gates(space: Space, seed: int = 0) -> dict[str, Gates]:
    """About a third of the operations, with uneven factors that ask for their gradient.

    In a group without `none`, where a method draws at least one on every edge, so does this.
    """
    generator = torch.Generator().manual_seed(seed)
    gates = {}
    for name, group in space.groups().items():
        values = torch.rand(group.shape, generator=generator, dtype=torch.double)
        opened = torch.rand(group.shape, generator=generator) < 0.35
        if group.null is None:
            empty = ~opened.any(dim=1)
            opened[empty, torch.randint(group.shape[1], (int(empty.sum()),), generator=generator)] = True
        values = (values * opened).requires_grad_()
        gates[name] = replace(Gates.of(values), values=values)
    return gates


def random_architecture(space: Space, seed: int = 0) -> Architecture:
    """One operation on each edge."""
    rng = np.random.default_rng(seed)
    cells = {}
    for name, group in space.groups().items():
        code = np.eye(len(group.primitives), dtype=np.uint8)[rng.integers(len(group.primitives), size=len(group.edges))]
        cells[name] = Cell(group.primitives, group.edges, group.outputs, code, group.inputs)
    return Architecture(cells, space=space.name)


def run(space: Space, body: Body, stem: nn.Module, gates: Mapping[str, Gates]) -> list[Tensor]:
    """The last feature map and the gradients of the gates."""
    torch.manual_seed(2)
    output = features_of(body, body(stem(example(space)), gates))
    assert output.shape[:2] == (2, body.out_channels[-1])
    loss = (output * torch.linspace(-1, 1, output.numel()).double().reshape(output.shape)).sum()
    wanted = [gate.values for gate in gates.values()]
    return [output.detach(), *torch.autograd.grad(loss, wanted)]


def bodies(space: Space, stem: nn.Module) -> dict[str, Body]:
    """The supernet's body, and the one on a part of the channels where the space has it."""
    torch.manual_seed(1)
    by_kind = {"whole": space.supernet_body(stem)}
    if type(space).partial_body is not Space.partial_body:
        by_kind["partial"] = space.partial_body(stem, 2)
    return by_kind


def parameters_of(space: Space, architecture: Architecture, stem: nn.Module) -> int:
    """Those of a network body from which nothing is left out."""
    body = type(space).network_body(architecture, stem, settings_of(space, prune=False))
    return sum(parameter.numel() for parameter in body.parameters())


def sparse_architecture(space: Space, seed: int) -> Architecture:
    """About every sixth operation, so that much of it leads nowhere."""
    rng = np.random.default_rng(seed)
    cells = {}
    for name, group in space.groups().items():
        code = (rng.random(group.shape) < 0.15).astype(np.uint8)
        cells[name] = Cell(group.primitives, group.edges, group.outputs, code, group.inputs)
    return Architecture(cells, space=space.name)


def _of_body(kind: str, message: str) -> str:
    return f"{kind} body: {message}"


class SpaceContract(ComponentContract):
    """The suite of search spaces, behind the stem of the task that the space serves."""

    registry = spaces
    section = "space"

    @pytest.fixture
    def space(self, name: str) -> Space:
        entry: Any = spaces[name]
        small = {key: value for key, value in SMALL.items() if key in entry.Config.model_fields}
        made: Space = entry(self.configure(name, **{**small, **entry.shallow, **self.settings}))
        return made

    def test_it_is_known_by_its_name(self, name: str, space: Space) -> None:
        assert isinstance(space, Space)
        assert space.name == name

    def test_groups_hold_together(self, space: Space) -> None:
        for name, group in space.groups().items():
            assert group.name == name
            assert len(set(group.edges)) == len(group.edges)
            assert len(set(group.primitives)) == len(group.primitives)
            assert all(source < target and target >= group.inputs for source, target in group.edges)
            nodes = group.inputs + len({target for _, target in group.edges})
            assert all(output < nodes for output in group.outputs)
            assert sorted(edge for part in group.partition for edge in part) == list(range(len(group.edges)))
            assert space.identities(name) <= set(group.primitives)
            assert space.identities(name) <= space.parameter_free(name) <= set(group.primitives)

    def test_a_supernet_runs_sparse_as_it_does_dense(self, space: Space) -> None:
        stem = make_stem(space).double()
        gates = random_gates(space)
        for kind, body in bodies(space, stem).items():
            body = body.double().to(memory_format=torch.channels_last)
            sparse = run(space, body, stem, gates)
            dense = run(space, body, stem, {name: replace(given, dense=True) for name, given in gates.items()})
            assert any(gradient.abs().sum() > 0 for gradient in sparse[1:])
            for own, other in zip(sparse, dense, strict=True):
                torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-8, msg=partial(_of_body, kind))

    def test_a_partial_body_has_fewer_weights(self, space: Space) -> None:
        stem = make_stem(space)
        counts = {kind: sum(p.numel() for p in body.parameters()) for kind, body in bodies(space, stem).items()}
        if "partial" not in counts:
            pytest.skip(f"{space.name} has no partial body")
        assert counts["partial"] < counts["whole"]

    def test_a_width_that_cannot_be_divided_is_refused(self, space: Space) -> None:
        if type(space).partial_body is Space.partial_body:
            with pytest.raises(ConfigError, match=space.name):
                space.partial_body(make_stem(space), 2)
            return
        with pytest.raises(ConfigError, match=r"space\.channels: 4 .* 3 equal parts of this sampler"):
            space.partial_body(make_stem(space), 3)

    def test_costs_are_those_of_every_edge_and_operation(self, space: Space) -> None:
        costs = space.costs(make_stem(space).double(), example(space, 1))
        for name, group in space.groups().items():
            assert costs[name].parameters.shape == costs[name].macs.shape == group.shape
            free = [op in space.parameter_free(name) for op in group.primitives]
            assert not costs[name].parameters[:, free].any()
            if group.null is not None:
                assert not costs[name].macs[:, group.null].any()

    def test_costs_add_up_to_the_parameters_of_a_network(self, space: Space) -> None:
        stem = make_stem(space)
        costs = space.costs(stem.double(), example(space, 1))
        if not any(cost.parameters.any() for cost in costs.values()):
            pytest.skip(f"in {space.name} the weights belong to nodes, whatever operations are chosen")
        chosen = random_architecture(space)
        none = {name: replace(cell, code=np.zeros_like(cell.code)) for name, cell in chosen.cells.items()}
        fixed = parameters_of(space, Architecture(none, space=space.name), stem)
        added = sum(float((costs[name].parameters * cell.code).sum()) for name, cell in chosen.cells.items())
        assert added > 0
        counted = parameters_of(space, chosen, stem)
        assert counted == fixed + added, (
            f"the network has {counted} parameters; by `costs` it would have {fixed + added}"
        )

    @pytest.mark.parametrize("seed", range(6))
    def test_every_parameter_of_a_pruned_network_learns(self, space: Space, seed: int) -> None:
        architecture, stem = sparse_architecture(space, seed), make_stem(space).double()
        settings = settings_of(space)
        torch.manual_seed(seed)
        body = type(space).network_body(architecture, stem, settings).double()
        features = features_of(body, body(stem(example(space, 8))))
        (features * torch.randn_like(features)).sum().backward()  # type: ignore[no-untyped-call]
        if type(space).count_live(architecture, settings).operations == 0:
            return  # nothing that is there leads anywhere
        dead = [
            name for name, parameter in body.named_parameters() if parameter.grad is None or not parameter.grad.any()
        ]
        assert not [name for name in dead if not name.endswith("bias")], dead

    def test_live_operations_are_counted(self, space: Space) -> None:
        settings = settings_of(space)
        cells = getattr(settings, "cells", 1)
        counts = [type(space).count_live(sparse_architecture(space, seed), settings) for seed in range(6)]
        assert all(0 <= count.operations <= count.chosen and 0 <= count.cells <= count.of == cells for count in counts)
        assert any(count.operations < count.chosen for count in counts)
        assert all(bool(count.text()) == (count.operations < count.chosen) for count in counts)

    def test_a_network_runs(self, space: Space) -> None:
        stem = make_stem(space).double()
        body = type(space).network_body(random_architecture(space), stem, settings_of(space)).double()
        features = features_of(body, body(stem(example(space))))
        assert features.shape[:2] == (2, body.out_channels[-1])
        features.square().mean().backward()  # type: ignore[no-untyped-call]
        assert any(parameter.grad is not None for parameter in body.parameters())

    @pytest.mark.parametrize("seed", range(3))
    def test_an_architecture_survives_its_texts(self, space: Space, seed: int) -> None:
        """JSON in any space, and a genotype where cells like these have one."""
        architecture = random_architecture(space, seed)
        assert Architecture.from_text(architecture.to_json()) == architecture
        try:
            text = architecture.to_genotype()
        except ArchitectureError as error:
            pytest.skip(f"{space.name} has no genotype: {error}")
        again = Architecture.from_text(text)
        assert again.space == space.name, f"{text} is read as an architecture of space {again.space}"
        assert again.to_genotype() == text
        for name, group in space.groups().items():
            seen = [op for op in range(len(group.primitives)) if op != group.null]
            assert again.cells[name].primitives == group.primitives
            assert np.array_equal(again.code[name][:, seen], architecture.code[name][:, seen])
