"""The long short-term memory (Hochreiter and Schmidhuber, 1997), built as a network to compare searched cells with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datanas.codes.architecture import Architecture
from datanas.kernels.fx_leaf import fx_leaf
from datanas.references import register_reference
from datanas.references.base import Reference
from datanas.spaces.base import Body
from datanas.spaces.sequence import Carried, RecurrentConfig, Sequences, sequence_shape


@fx_leaf
class LSTMBody(Body):
    """One layer, with the same dropout of its hidden state as a searched cell.

    Weights are drawn uniformly from -1/sqrt(hidden) to 1/sqrt(hidden), and the forget gate starts open (Jozefowicz,
    Zaremba and Sutskever, ICML 2015).
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        bound = hidden**-0.5
        self.input = nn.Parameter(torch.empty(width, 4 * hidden).uniform_(-bound, bound))
        self.recurrent = nn.Parameter(torch.empty(hidden, 4 * hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        with torch.no_grad():
            self.bias[hidden : 2 * hidden] = 1.0
        self.out_channels = (hidden,)

    def forward(self, x: Sequences, gates: Mapping[str, Any] | None = None) -> Carried:
        """The state that is carried on is hidden state and memory cell side by side, (batch, 2 hidden)."""
        time, batch, width = x.inputs.shape
        state = x.inputs.new_zeros(batch, 2 * len(self.recurrent)) if x.state is None else x.state
        hidden, memory = state.chunk(2, dim=1)
        projected = torch.addmm(self.bias, x.inputs.reshape(time * batch, width), self.input)
        outputs: list[Tensor] = []
        for projection in projected.view(time, batch, -1).unbind():
            masked = hidden if x.mask is None else hidden * x.mask
            write, forget, read, new = torch.addmm(projection, masked, self.recurrent).chunk(4, dim=1)
            memory = forget.sigmoid() * memory + write.sigmoid() * new.tanh()
            hidden = read.sigmoid() * memory.tanh()
            outputs.append(hidden)
        return Carried(torch.stack(outputs), torch.cat((hidden, memory), dim=1))


@register_reference("lstm")
class LSTM(Reference):
    """One layer."""

    name: ClassVar[str] = "lstm"
    paper: ClassVar[str] = "S. Hochreiter, J. Schmidhuber: Long Short-Term Memory. Neural Computation 9(8), 1997"
    note: ClassVar[str] = "one layer; a network to compare recurrent cells with"
    task: ClassVar[str] = "language"
    Network = RecurrentConfig
    fixed: ClassVar[Mapping[str, Any]] = {"cells": 1}

    @classmethod
    def network_body(cls, architecture: Architecture, stem: nn.Module, settings: RecurrentConfig) -> LSTMBody:
        shape = sequence_shape(stem, settings.channels, cls.name)
        return LSTMBody(shape.width, settings.channels)
