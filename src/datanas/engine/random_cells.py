"""Cells of a space that no search has chosen: random ones, and all of them."""

from __future__ import annotations

import math
from itertools import product

import torch

from datanas.codes.architecture import Architecture
from datanas.engine.config import Config
from datanas.engine.setup import build_space
from datanas.samplers.derivation import assemble
from datanas.samplers.uniform import random_codes


def random_cells(settings: Config, n: int, generator: torch.Generator) -> list[Architecture]:
    """Uniformly random cells of the configuration's space, repetitions included."""
    space = build_space(settings)
    groups = space.groups()
    return [assemble(random_codes(groups, generator), groups, space=space.name) for _ in range(n)]


def all_cells(settings: Config, limit: int) -> list[Architecture]:
    """Every cell of a space of one operation an edge; none where they are more than `limit`."""
    space = build_space(settings)
    groups = space.groups()
    edges = [(name, edge) for name, group in groups.items() for edge in range(len(group.edges))]
    choices = [range(groups[name].shape[1]) for name, _ in edges]
    if not all(group.single for group in groups.values()) or math.prod(map(len, choices)) > limit:
        return []
    cells = []
    for chosen in product(*choices):
        codes = {name: torch.zeros(group.shape) for name, group in groups.items()}
        for (name, edge), op in zip(edges, chosen, strict=True):
            codes[name][edge, op] = 1.0
        cells.append(assemble(codes, groups, space=space.name))
    return cells
