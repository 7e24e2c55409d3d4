"""From an Architecture to a plain network: the operations that were chosen, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from datanas.architecture import Architecture
from datanas.config import validate
from datanas.errors import ArchitectureError, ConfigError
from datanas.spaces import spaces
from datanas.tasks import tasks


class Network(nn.Module):
    """A rebuilt network: stem, the chosen cells, head.

    Args:
        architecture: what to build.
        stem, make_head: the task's way in and way out, as for a supernet.
        channels, cells: width of the first cell and number of cells.
        auxiliary: give the head the features for an auxiliary classifier too.
        pooling_norm: batch norm without scale and shift after pooling, as while searching; DARTS' networks have none.
    """

    def __init__(
        self,
        architecture: Architecture,
        stem: nn.Module,
        make_head: Callable[[tuple[int, ...]], nn.Module],
        *,
        channels: int,
        cells: int,
        auxiliary: bool = False,
        pooling_norm: bool = False,
    ) -> None:
        super().__init__()
        if architecture.space not in spaces:
            raise ArchitectureError(f"space: no space {architecture.space!r} is known here; known: {', '.join(spaces)}")
        self.stem = stem
        body = spaces[architecture.space].network_body(
            architecture, stem, channels=channels, cells=cells, auxiliary=auxiliary, pooling_norm=pooling_norm
        )
        self.body: nn.Module = body
        self.head = make_head(body.out_channels)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(self.stem(x)))


def build_network(
    architecture: Architecture,
    task: str = "classification",
    num_classes: int = 10,
    channels: int = 36,
    cells: int = 20,
    auxiliary: bool = False,
    *,
    in_channels: int = 3,
    pooling_norm: bool = False,
    **task_options: Any,
) -> Network:
    """Rebuild an architecture as a network with fresh weights.

    Args:
        architecture: a searched or published one.
        task: whose stem and head to use.
        num_classes: outputs of the head.
        channels: width of the first cell.
        cells: depth; reduction cells stand at 1/3 and 2/3 of it.
        auxiliary: add the auxiliary tower. It is used in training mode only, where the network then returns
            (output, auxiliary output).
        in_channels: channels of the input.
        pooling_norm: batch norm after pooling, as while searching.
        task_options: settings of the task, such as `stem="imagenet"`.

    Returns:
        A module from (batch, in_channels, height, width) to the task's output; (batch, num_classes) here.

    Raises:
        ArchitectureError: unknown operation or space.
        ConfigError: unknown task or option.
    """
    for label, count in (("num_classes", num_classes), ("channels", channels), ("cells", cells)):
        if count < 1:
            raise ConfigError(f"{label} must be at least 1, got {count}")
    entry = tasks[task]
    config = validate(entry.Config, {"name": task, **task_options}, "task")
    return Network(
        architecture,
        entry.stem(config, in_channels, channels),
        lambda widths: entry.head(config, widths, num_classes),
        channels=channels,
        cells=cells,
        auxiliary=auxiliary,
        pooling_norm=pooling_norm,
    )
