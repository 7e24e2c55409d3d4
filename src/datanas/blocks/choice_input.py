"""`ChoiceInput`: which of several tensors a node reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from datanas.blocks.choice import Choice, Combine
from datanas.blocks.uncompiled import uncompiled
from datanas.core.errors import ConfigError


class Pick(nn.Module):
    """One of several tensors, or tuples of them.

    Args:
        index: its place among them.
    """

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def forward(self, tensors: Sequence[Any]) -> Any:
        return tensors[self.index]

    def extra_repr(self) -> str:
        return str(self.index)


class ChoiceInput(Choice):
    """Which of several tensors of one shape are read, such as the outputs of earlier layers; they are added up.

    Called with the tensors as one list. In place of each may stand a tuple of tensors, which is read as a whole.

    Args:
        inputs: their number, or their names in order; names by default are "input0", "input1", ...
        samples, combine, name, costs: as for `Choice`; an input costs nothing where nobody has said.

    Raises:
        ConfigError: there is none, or a name, cost or `combine` that cannot be.

    Example:
        >>> import datanas, torch
        >>> reads = datanas.ChoiceInput(["image", "layer1", "layer2"], samples=2)
        >>> search = datanas.Search(reads, seed=0)
        >>> with search.sample():
        ...     reads([torch.ones(2), torch.ones(2), torch.ones(2)]).shape
        torch.Size([2])
    """

    def __init__(
        self,
        inputs: int | Sequence[str],
        *,
        samples: int | None = None,
        combine: Combine = "sum",
        name: str | None = None,
        costs: Mapping[str, float] | None = None,
    ) -> None:
        names = [f"input{index}" for index in range(inputs)] if isinstance(inputs, int) else list(inputs)
        if len(set(names)) < len(names):
            raise ConfigError(f"inputs: names must differ, got {', '.join(names)}")
        picks = {each: Pick(index) for index, each in enumerate(names)}
        super().__init__(picks, samples=samples, combine=combine, name=name, costs=costs)

    @uncompiled
    def forward(self, tensors: Sequence[Any]) -> Any:
        if len(tensors) != len(self.candidates):
            raise ConfigError(
                f"a choice among {len(self.candidates)} inputs ({', '.join(self.primitives)}) was given {len(tensors)}"
            )
        return super().forward(list(tensors))
