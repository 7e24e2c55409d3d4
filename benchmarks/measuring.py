"""What the benchmarks share: alternating timing, peak memory of another process, and a word on the machine."""

from __future__ import annotations

import ctypes
import gc
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from datanas.kernels.hardware import peak_memory


def alternate(calls: Mapping[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, float]:
    """Median seconds of each call, all of them taken in turn.

    Before each turn the memory that the last one has freed goes back to the system, and the first call, which fetches
    its own, is not counted.

    Args:
        calls: by name what to time, and how often in each round.
        rounds: how many.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (call, times) in calls.items():
            _give_back_memory()
            call()
            for _ in range(times):
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def _give_back_memory() -> None:
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def peak_gb(module: str, arguments: Sequence[str]) -> float:
    """Peak memory in GB (1e9 bytes) of `python -m module arguments` in its own process, which prints it last."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak(steps: Callable[[], object], times: int = 4) -> None:
    """Run some steps and print this process' peak memory in GB."""
    for _ in range(times):
        steps()
    print(peak_memory(torch.device("cpu")) / 1e9)


def machine() -> str:
    """One line on what the figures were taken on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"


def report(title: str, figures: Mapping[str, Any], destination: Path | None) -> None:
    """Print a table of figures and write them as JSON."""
    print(f"{title}\n{machine()}")
    for name, value in figures.items():
        print(f"  {name:24s} {value:.4g}" if isinstance(value, float) else f"  {name:24s} {value}")
    if destination is not None:
        destination.write_text(json.dumps({**figures, "machine": machine()}, indent=1) + "\n")
