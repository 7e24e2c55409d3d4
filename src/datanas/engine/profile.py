"""What a rebuilt network costs on this machine."""

from __future__ import annotations

from typing import Any

import torch

from datanas.architecture import Architecture
from datanas.engine.config import resolve
from datanas.engine.setup import memory_errors, select_device
from datanas.errors import ConfigError
from datanas.hardware import count_macs, count_parameters, median_seconds, peak_memory, place
from datanas.network import build_network


def profile(
    architecture: Architecture,
    channels: int = 36,
    cells: int = 20,
    classes: int = 10,
    size: int = 32,
    stem: str = "cifar",
    batch: int = 1,
    device: str = "auto",
) -> str:
    """Parameters, multiply-adds, latency and memory of the network, as text.

    Args:
        channels, cells, classes, stem: as for `build_network`.
        size: height and width of the images.
        batch: images in the timed forward pass.
        device: where it is timed.

    Raises:
        ConfigError: a value out of range, or no such device.
        ArchitectureError: the architecture cannot be rebuilt.
    """
    for label, value in (("size", size), ("batch", batch)):
        if value < 1:
            raise ConfigError(f"--{label}: must be at least 1, got {value}")
    options: dict[str, Any] = {"num_classes": classes, "channels": channels, "cells": cells, "stem": stem}
    with torch.device("meta"):
        network = build_network(architecture, **options)
        macs = count_macs(network, torch.empty(1, 3, size, size))
    where = select_device(resolve({"device": device}))
    with memory_errors(), torch.inference_mode():
        network = build_network(architecture, **options)
        network = place(network, where).eval()
        x = torch.randn(batch, 3, size, size, device=where).contiguous(memory_format=torch.channels_last)
        seconds = median_seconds(lambda: network(x), where)
    return "\n".join(
        [
            f"parameters     {count_parameters(network):,}",
            f"multiply-adds  {macs / 1e6:,.1f} M an image at {size}x{size}",
            f"latency        {1000 * seconds:.2f} ms for a batch of {batch} on {where}, median of 10 after 3",
            f"memory         {peak_memory(where) / 2**30:.2f} GiB at the highest point of the process",
        ]
    )
