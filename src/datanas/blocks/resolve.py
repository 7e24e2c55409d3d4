"""A module with its choices made: from an architecture to the plain module that is left."""

from __future__ import annotations

import copy

from torch import nn

from datanas.blocks.block import Block, Memo
from datanas.blocks.found import Blocks
from datanas.codes.architecture import Architecture
from datanas.core.errors import ArchitectureError
from datanas.lookup import find_architecture


def resolve(module: nn.Module, architecture: Architecture | str) -> nn.Module:
    """A copy of a module in which every choice is replaced by what an architecture keeps of it.

    Weights are those of `module`, of which the copy shares none. What is not kept is not copied. Of several kept
    candidates the module `datanas.blocks.kept.Kept` is left, of one the candidate itself.

    Args:
        module: with choice blocks in it.
        architecture: what `datanas.Search.derive` gave, or the path of its file.

    Raises:
        ArchitectureError: it is one of other choices.
        ConfigError: the module has no choices.

    >>> import datanas
    >>> mix = datanas.Choice({"linear": torch.nn.Linear(3, 3), "skip": torch.nn.Identity()}, samples=1)
    >>> module = torch.nn.Sequential(mix, torch.nn.ReLU())
    >>> datanas.resolve(module, datanas.Search(module, seed=0).derive())
    Sequential(
      (0): Linear(in_features=3, out_features=3, bias=True)
      (1): ReLU()
    )
    """
    architecture = find_architecture(architecture)
    blocks = Blocks.of(module)
    with architecture.naming_file():
        factors = factors_of(blocks, architecture)
    memo: Memo = {}
    # What is inside a candidate must be made before the choice that holds it is copied.
    for name, block in sorted(blocks.items(), key=lambda each: _depth(each[1])):
        memo[id(block)] = block.resolved(factors[name], memo)
    return copy.deepcopy(module, memo)


def _depth(block: Block) -> int:
    """How many blocks it holds, itself among them: more than any within it."""
    return sum(isinstance(part, Block) for part in block.modules())


def factors_of(blocks: Blocks, architecture: Architecture) -> dict[str, dict[str, float]]:
    """For each name the candidates that an architecture keeps, with their factors.

    Raises:
        ArchitectureError: it has other names, or other candidates.
    """
    groups = blocks.groups()
    if set(architecture.cells) != set(groups):
        raise ArchitectureError(
            f"cells: the module chooses {', '.join(groups)}, the architecture {', '.join(architecture.cells)}"
        )
    factors = {}
    for name, group in groups.items():
        cell = architecture.cells[name]
        if cell.primitives != group.primitives or cell.edges != group.edges:
            raise ArchitectureError(
                f"cells.{name}.primitives: the module has the candidates {', '.join(group.primitives)}, the "
                f"architecture {', '.join(cell.primitives)}"
            )
        row = architecture.weights(name)[0].tolist()
        factors[name] = {each: factor for each, factor in zip(group.primitives, row, strict=True) if factor != 0}
        if not factors[name]:
            raise ArchitectureError(f"cells.{name}.code: the architecture keeps none of {', '.join(group.primitives)}")
    return factors
