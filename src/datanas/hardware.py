"""What a network costs: parameters, multiply-adds, latency, memory."""

from __future__ import annotations

import ctypes
import resource
import statistics
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from datanas.ops.kernels import plain_kernels

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Of glibc's malloc.h."""

MOST_MACS = 10**15
UNITS = {"k": 10**3, "m": 10**6, "g": 10**9}

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def count_parameters(module: nn.Module) -> int:
    """Learned numbers."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(module: nn.Module, x: Any) -> int:
    """Multiply-adds of the convolutions and matrix products of one forward pass of `x`.

    Costs nothing where the module and `x` lie on the meta device.
    """
    training = module.training
    module.eval()
    with torch.no_grad(), plain_kernels(), FlopCounterMode(display=False) as counter:
        module(x)
    module.train(training)
    return int(counter.get_total_flops()) // 2


def read_macs(value: object) -> int:
    """A number of multiply-adds from 600000000, "600M", "0.6G" or "600k".

    Raises:
        ValueError: it is none, or not in 1..10^15.
    """
    text = str(value).strip()
    number, unit = (text[:-1], text[-1].lower()) if text[-1:].lower() in UNITS else (text, "")
    try:
        count = int(Decimal(number) * UNITS.get(unit, 1))
    except (ArithmeticError, ValueError):  # not a number, infinite or NaN
        count = 0
    if isinstance(value, bool) or not 1 <= count <= MOST_MACS:
        raise ValueError(f"must be a number of multiply-adds such as 600M or 1.2G, from 1 to 1000000G, got {value!r}")
    return count


def place(module: ModuleT, device: torch.device) -> ModuleT:
    """Move a module to the device, the weights of its convolutions, if there are any, in channels-last layout."""
    module.to(device)
    module.to(memory_format=torch.channels_last)
    return module


def widest_float(device: torch.device) -> torch.dtype:
    """What sums over a whole data set are kept in: float64, or float32 on Apple's GPUs, which have nothing wider."""
    return torch.float32 if device.type == "mps" else torch.float64


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next step, where it would hand it back to the system each time.

    Fetching a step's memory anew costs a page fault for every 4 KiB. Does nothing but on Linux with glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the largest that glibc takes
        mallopt(M_TOP_PAD, 256 * 2**20)


def synchronize(device: torch.device) -> None:
    """Wait until everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def median_seconds(call: Callable[[], object], device: torch.device, *, warm_up: int = 3, repeats: int = 10) -> float:
    """The median wall-clock time of `call`, in seconds, after warm-up."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def peak_memory(device: torch.device) -> int:
    """Bytes at the highest point so far: of the device's allocator, or of this process on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the process was forked from
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
