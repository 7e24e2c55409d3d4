"""`ChoiceWidth`: how many channels a layer gives to the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from datanas.blocks.block import Memo
from datanas.blocks.choice import Choice
from datanas.blocks.slices import Slices
from datanas.core.errors import ConfigError


class Narrowed(nn.Module):
    """Layers of which one gives only its first channels to the next.

    Args:
        layers: at full width, whose weights are used.
        slices: which layers are concerned.
        width: so many channels.
    """

    def __init__(self, layers: nn.Sequential, slices: Slices, width: int) -> None:
        super().__init__()
        self.layers, self._slices, self._width = layers, slices, width
        with torch.device("meta"):
            narrow = slices.narrow(layers, width)
        # In a tuple it is no part of this module: its weights are those of `layers`.
        self._narrow = (nn.Sequential(*(narrow.get(index, layer) for index, layer in enumerate(layers))),)

    @property
    def parameter_count(self) -> int:
        """Of the layers at this width."""
        return sum(parameter.numel() for parameter in self._narrow[0].parameters())

    def forward(self, x: Tensor) -> Tensor:
        (narrow,) = self._narrow
        self._slices.follow(self.layers, narrow)
        output: Tensor = functional_call(narrow, self._slices.tensors(self.layers, self._width), (x,))
        return output

    def plain(self, memo: Memo) -> nn.Sequential:
        """A copy of the layers that has only this width."""
        return self._slices.cut(self.layers, self._width, memo)

    def extra_repr(self) -> str:
        return f"width={self._width}"


class ChoiceWidth(Choice):
    """Width as a choice: how many channels one layer gives to the next. One width is kept.

    The first convolution or linear layer gives so many of its channels, and the second one reads them; between them
    may stand batch norm, activations, dropout, pooling and depthwise convolutions. All widths share the weights, of
    which a narrow one uses the first rows and columns, so a child computes and keeps no more than its width; what it
    gives is what the whole gives where the other channels are masked. The module that is left once it is chosen has
    the narrow layers, and costs are counted of them.

    Args:
        layers: at their full width.
        widths: to choose among, rising.
        name: as for `Choice`.

    Raises:
        ConfigError: layers or widths that cannot be.

    Example:
        >>> import datanas, torch
        >>> mlp = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> width = datanas.ChoiceWidth(mlp, widths=(4, 8))
        >>> [width.cost_of(candidate) for candidate in width.primitives]
        [26.0, 50.0]
    """

    def __init__(self, layers: nn.Sequential, widths: Sequence[int], *, name: str | None = None) -> None:
        slices = Slices.of(layers)
        if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1 or widths[-1] > slices.full:
            raise ConfigError(f"widths must be rising numbers from 1 to {slices.full}, got {tuple(widths)}")
        super().__init__({f"width{each}": Narrowed(layers, slices, each) for each in widths}, samples=1, name=name)

    def own_cost(self, candidate: str) -> float:
        narrowed = self.candidates[candidate]
        assert isinstance(narrowed, Narrowed)
        return float(narrowed.parameter_count)

    def resolved(self, factors: Mapping[str, float], memo: Memo) -> nn.Module:
        if len(factors) > 1:
            return super().resolved(factors, memo)
        narrowed = self.candidates[next(iter(factors))]
        assert isinstance(narrowed, Narrowed)
        return narrowed.plain(memo)
