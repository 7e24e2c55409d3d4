"""What a network needs of memory, measured in a process that does nothing but build and run it.

The figure of a process that has done other things before says what these needed. On the CPU it is the peak of the
process' resident memory less what it held before the network was built; on a GPU the peak of torch's allocator, which
holds the weights, the activations and what the kernels work in.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch.nn import functional as F

from datanas.core.errors import ConfigError
from datanas.core.registry import load_plugin, loaded_plugins
from datanas.engine.network_recipe import NetworkRecipe
from datanas.kernels.hardware import forget_peak_memory, move_to, peak_memory, synchronize

TIMEOUT = 600.0
"""Seconds."""


def inference_memory(
    recipe: NetworkRecipe, batches: Sequence[int], device: torch.device, threads: int
) -> tuple[dict[int, int], str]:
    """Bytes at the highest point while the network is built and runs once, for each batch, and why not where empty.

    One process measures all batches, the smallest first, so the figure of each is at least that of the one before.

    Args:
        batches: examples in a forward pass.
        device: where it runs.
        threads: of torch on the CPU.
    """
    order = {
        "recipe": recipe.to_plain(),
        "batches": sorted(batches),
        "device": str(device),
        "threads": threads,
        "plugins": [str(path) for path in loaded_plugins()],
    }
    command = [sys.executable, "-m", "datanas.engine.memory"]
    try:
        done = subprocess.run(
            command, input=json.dumps(order, default=str), capture_output=True, text=True, timeout=TIMEOUT
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {}, f"the process that measures it: {error}"
    try:
        measured = json.loads(done.stdout.splitlines()[-1])
        return {int(batch): int(value) for batch, value in measured.items()}, ""
    except (IndexError, ValueError, AttributeError):
        last = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit code {done.returncode}")
        return {}, f"the process that measures it: {last}"


def measure_memory(order: dict[str, Any]) -> dict[int, int]:
    """What the process does: bytes for each batch."""
    for plugin in order["plugins"]:
        with suppress(ConfigError):  # one that cannot be loaded beside the others is told where it is needed
            load_plugin(plugin)
    torch.set_num_threads(order["threads"])
    device = torch.device(order["device"])
    recipe = NetworkRecipe.from_plain(order["recipe"])
    peaks = {}
    with torch.inference_mode():
        # The libraries' own memory, which they take with the first product, is not the network's.
        F.conv2d(torch.zeros(1, 8, 8, 8, device=device), torch.zeros(8, 8, 3, 3, device=device)).flatten(1) @ (
            torch.zeros(288, 8, device=device)
        )
        synchronize(device)
        forget_peak_memory(device)
        before = peak_memory(device)
        network = move_to(recipe.build(), device).eval()
        for batch in order["batches"]:
            recipe.infer(network, recipe.example(batch, device))
            synchronize(device)
            peaks[batch] = max(0, peak_memory(device) - before)
    return peaks


if __name__ == "__main__":
    print(json.dumps(measure_memory(json.load(sys.stdin))))
