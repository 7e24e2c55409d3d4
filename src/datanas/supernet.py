"""The supernet: every candidate of a space between a task's stem and head. It holds no alpha and draws nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from datanas.codes.liveness import live_edges
from datanas.kernels.gates import Gates
from datanas.spaces.base import Space, read_out


class Supernet(nn.Module):
    """`(x, gates) -> output`, where gates are given for each choice group (Eq. 4).

    Where no gradient of the gates is asked for, only what is live runs: what lies on no path from the group's inputs to
    its outputs cannot change the output.

    Args:
        space: builds the body.
        stem: the task's way in.
        make_head: the task's way out, from the widths of the body's features.
        partial_channels: let candidates see one of so many parts of the channels.
    """

    def __init__(
        self,
        space: Space,
        stem: nn.Module,
        make_head: Callable[[tuple[int, ...]], nn.Module],
        *,
        partial_channels: int = 1,
    ) -> None:
        super().__init__()
        self.stem = stem
        # Where candidates see a part of the channels, the rest passes by whatever is open.
        self._groups = space.groups() if partial_channels == 1 else {}
        body = space.supernet_body(stem) if partial_channels == 1 else space.partial_body(stem, partial_channels)
        self.body: nn.Module = body
        self.head = make_head(body.out_channels)

    def forward(self, x: Any, gates: Mapping[str, Gates]) -> Any:
        live = {name: self._live(name, group) for name, group in gates.items()}
        return read_out(self.head, self.body(self.stem(x), live), x)

    def _live(self, name: str, gates: Gates) -> Gates:
        group = self._groups.get(name)
        if group is None or gates.dense or gates.learns:
            return gates
        is_open = [any(value != 0 for op, value in enumerate(row) if op != group.null) for row in gates.host]
        live = live_edges(group.edges, is_open, group.outputs, group.inputs).edges
        return gates if list(live) == is_open else gates.closed_where([not each for each in live])

    def child(self, gates: Mapping[str, Gates]) -> Callable[[Any], Any]:
        """The sampled network inside the supernet, as a function of its input alone."""
        return partial(self.forward, gates=gates)
