"""What a supernet runs in one forward pass, and which gradients its closed gates are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Table = tuple[tuple[float, ...], ...]
ClosedGradient = Literal["exact", "subsampled", "sampled"]


@dataclass(frozen=True)
class Gates:
    """What one choice group runs in one forward pass.

    Attributes:
        values: the factor of each operation, 0 where closed; shape (edges, ops), on the supernet's device. It may
            require a gradient, which then is exact for open and closed gates alike, unless `grad_mask` says otherwise.
        host: the same numbers on the host, so that choosing what runs never waits for the device.
        dense: run every operation, closed ones too: the textbook execution, kept as the reference.
        grad_mask: a factor for the gradient of each gate; what has 0 is not computed. None is 1 for all.
    """

    values: Float[Tensor, "edges ops"]
    host: Table
    dense: bool = False
    grad_mask: Table | None = None

    @classmethod
    def of(cls, values: Tensor, device: torch.device | str = "cpu", *, dense: bool = False) -> Gates:
        """Gates from factors that lie on the host."""
        return cls(values.to(device, non_blocking=True), _table(values), dense)

    @property
    def learns(self) -> bool:
        """Whether a forward pass now is to give a gradient of the gates."""
        return self.values.requires_grad and torch.is_grad_enabled()

    def closed_where(self, closed: Sequence[bool]) -> Gates:
        """The same gates with nothing to run on some edges. `values` stay; without gradient nothing reads them."""
        rows = zip(self.host, closed, strict=True)
        return replace(self, host=tuple((0.0,) * len(row) if is_closed else row for row, is_closed in rows))

    def with_grad(self, kind: ClosedGradient, share: float, generator: torch.Generator) -> Gates:
        """The same gates, of which only some closed ones get a gradient.

        Args:
            kind: `exact` asks for all; `subsampled` for a random share of them, scaled so that the gradient's
                expectation is the exact one; `sampled` for none, as in GDAS (Dong and Yang, CVPR 2019).
            share: of the closed gates, for `subsampled`; in (0, 1], and at least one gate is asked.
            generator: chooses them, on the host.
        """
        if kind == "exact":
            return self
        opened = torch.tensor(self.host) != 0
        grad_mask = opened.double()
        closed = (~opened).flatten().nonzero().squeeze(1)
        if kind == "subsampled" and len(closed) > 0:
            count = max(1, round(share * len(closed)))
            chosen = closed[torch.randperm(len(closed), generator=generator)[:count]]
            grad_mask.view(-1)[chosen] = len(closed) / count
        return replace(self, grad_mask=_table(grad_mask))

    def grad_only_within(self, wanted: Tensor) -> Gates:
        """The same gates, of whose closed ones only those in `wanted`, bool (edges, ops), get a gradient."""
        grad_mask = (
            torch.ones_like(wanted, dtype=torch.float64) if self.grad_mask is None else torch.tensor(self.grad_mask)
        )
        return replace(self, grad_mask=_table(grad_mask * (wanted | (torch.tensor(self.host) != 0))))


def host_gates(values: Mapping[str, Tensor], device: torch.device, *, dense: bool = False) -> dict[str, Gates]:
    """Gates for the supernet from factors on the host, by choice group."""
    return {name: Gates.of(factors, device, dense=dense) for name, factors in values.items()}


def _table(values: Tensor) -> Table:
    return tuple(tuple(row) for row in values.detach().tolist())
