"""From an Architecture to a plain network: the operations that were chosen, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from datanas.codes.architecture import Architecture
from datanas.core.errors import ArchitectureError, ConfigError
from datanas.core.settings import ComponentConfig, validate
from datanas.lookup import find_architecture
from datanas.references import references
from datanas.spaces import spaces
from datanas.spaces.base import NetworkBuilder, read_out
from datanas.tasks import tasks


class Network(nn.Module):
    """A rebuilt network: stem, the chosen cells, head.

    Args:
        architecture: what to build.
        stem, make_head: the task's way in and way out, as for a supernet.
        channels, cells: width of the first cell and number of cells.
        auxiliary: give the head the features for an auxiliary classifier too.
        pooling_norm: batch norm without scale and shift after pooling, as while searching; DARTS' networks have none.
        prune: leave out what cannot reach the output, or is not reached by the input.
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
        prune: bool = True,
    ) -> None:
        super().__init__()
        builder = builder_of(architecture)
        self.stem = stem
        # A plugin's space may be of a time before there was pruning.
        options = {"prune": prune} if "prune" in signature(builder.network_body).parameters else {}
        body = builder.network_body(
            architecture,
            stem,
            channels=channels,
            cells=cells,
            auxiliary=auxiliary,
            pooling_norm=pooling_norm,
            **options,
        )
        if leave_out := getattr(stem, "leave_out_unread", None):
            leave_out(body.reads)
        self.body: nn.Module = body
        self.head = make_head(body.out_channels)

    def forward(self, x: Any) -> Any:
        return read_out(self.head, self.body(self.stem(x)), x)


def build_network(
    architecture: Architecture | str | Path,
    task: str | None = None,
    num_classes: int | None = None,
    channels: int | None = None,
    cells: int | None = None,
    auxiliary: bool = False,
    *,
    in_channels: int | None = None,
    pooling_norm: bool = False,
    prune: bool = True,
    **task_options: Any,
) -> Network:
    """Rebuild an architecture as a network with fresh weights.

    Args:
        architecture: a searched or published one: itself, the path of its file or run folder, or its name.
        task: whose stem and head to use; None for the one that its space serves.
        num_classes: outputs of the head; None for what the task takes where there are no data (10 classes of images).
        channels: width of the first cell; None for what suits the space (36).
        cells: depth; reduction cells stand at 1/3 and 2/3 of it. None for what suits the space (20).
        auxiliary: add the auxiliary tower. It is used in training mode only, where the network then returns
            (output, auxiliary output).
        in_channels: channels of the input; None for what the task takes (3).
        pooling_norm: batch norm after pooling, as while searching.
        prune: leave out operations and cells that cannot reach the output, or that the input does not reach; otherwise
            they are built and counted, and learn nothing.
        task_options: settings of the task, such as `stem="imagenet"`.

    Returns:
        A module from the task's input to its output: for classification from (batch, in_channels, height, width) to
        (batch, num_classes).

    Raises:
        ArchitectureError: unknown operation or space.
        ConfigError: unknown task or option.

    >>> network = build_network("darts_v2", num_classes=10, channels=4, cells=3)
    >>> network(torch.randn(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    architecture = find_architecture(architecture)
    builder = builder_of(architecture)
    task = builder.task if task is None else task
    entry = tasks[task]
    num_classes = entry.default_classes if num_classes is None else num_classes
    channels = builder.network_size[0] if channels is None else channels
    cells = builder.network_size[1] if cells is None else cells
    for label, count in (("num_classes", num_classes), ("channels", channels), ("cells", cells)):
        if count < 1:
            raise ConfigError(f"{label} must be at least 1, got {count}")
    config = task_settings(builder, task, task_options)
    stem = entry.stem(config, entry.inputs(num_classes) if in_channels is None else in_channels, channels)
    return Network(
        architecture,
        stem,
        lambda widths: entry.tied_head(config, widths, num_classes, stem),
        channels=channels,
        cells=cells,
        auxiliary=auxiliary,
        pooling_norm=pooling_norm,
        prune=prune,
    )


def task_settings(builder: type[NetworkBuilder], task: str, options: Mapping[str, Any]) -> ComponentConfig:
    """The settings of a task around networks of this kind, whose defaults stand where `options` say nothing.

    Raises:
        ConfigError: unknown task or option.
    """
    suited = builder.defaults.get("task", {})
    under = suited if suited.get("name") == task else {}
    return validate(tasks[task].Config, {**under, "name": task, **options}, "task")


def builder_of(architecture: Architecture) -> type[NetworkBuilder]:
    """What builds networks of an architecture: its space, or the reference that it stands for.

    Raises:
        ArchitectureError: it is not known here.
    """
    name = architecture.space
    if name in spaces:
        return spaces[name]
    if name in references:
        return references[name]
    known = ", ".join(sorted([*spaces, *references]))
    raise ArchitectureError(f"space: no space {name!r} is known here; known: {known}")
