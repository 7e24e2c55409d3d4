"""What a network costs: parameters, multiply-adds, latency, memory."""

from __future__ import annotations

import ctypes
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from datanas.kernels.switch import plain_kernels

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Of glibc's malloc.h."""

MOST_MACS = 10**15
UNITS = {"k": 10**3, "m": 10**6, "g": 10**9}

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def count_parameters(module: nn.Module) -> int:
    """Learned numbers."""
    return sum(parameter.numel() for parameter in module.parameters())


def weight_bytes(module: nn.Module) -> int:
    """Bytes of what is saved of a module: parameters and buffers, as they are held."""
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def count_macs(module: nn.Module, *inputs: Any, **named: Any) -> int:
    """Multiply-adds of the convolutions and matrix products of one forward pass of the inputs.

    Costs nothing where the module and the inputs lie on the meta device.
    """
    return int(_counted(module, *inputs, **named).get_total_flops()) // 2


def macs_by_module(module: nn.Module, x: Any) -> dict[str, int]:
    """The same for each module inside that computes any, by its name; that of `module` itself is ""."""
    root = type(module).__name__
    counts = {
        name: sum(by_operator.values()) // 2 for name, by_operator in _counted(module, x).get_flop_counts().items()
    }
    inner = {name.removeprefix(f"{root}."): count for name, count in counts.items() if name.startswith(f"{root}.")}
    return {"": counts.get(root, 0), **inner}


def _counted(module: nn.Module, *inputs: Any, **named: Any) -> FlopCounterMode:
    training, counter = module.training, FlopCounterMode(display=False)
    module.eval()
    with torch.no_grad(), plain_kernels(), counter:
        module(*inputs, **named)
    module.train(training)
    return counter


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


def move_to(module: ModuleT, device: torch.device) -> ModuleT:
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


def return_freed_memory() -> None:
    """End what `keep_freed_memory` began: hand back what is free, and keep no more than glibc does by itself.

    glibc tells nobody what its settings were. These are what it comes to in a process that frees large blocks.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    mallopt, trim = getattr(libc, "mallopt", None), getattr(libc, "malloc_trim", None)
    if mallopt is not None and trim is not None:
        mallopt(M_TOP_PAD, 128 * 2**10)
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(M_TRIM_THRESHOLD, 64 * 2**20)
        trim(0)


def unusable_because(name: str, error: BaseException) -> str:
    """Why a device cannot be used here, in a line, and what can be.

    Args:
        name: of the device ("cuda:1").
        error: what torch said; of the kinds known here it is not repeated.
    """
    kind, usable = name.partition(":")[0], ["cpu"]
    if count := torch.cuda.device_count() if torch.cuda.is_available() else 0:
        usable += ["cuda", *(f"cuda:{index}" for index in range(count) if count > 1)]
    if torch.backends.mps.is_available():
        usable.append("mps")
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    if kind == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        reason = "this build of torch has no CUDA"
    elif kind == "cuda":
        reason = f"there is no such GPU ({count} found)" if count else "no GPU that torch can use was found"
    elif kind == "mps":
        built = torch.backends.mps.is_built()
        reason = "no GPU of Apple that torch can use was found" if built else "this build of torch has no MPS"
    elif kind not in ("cpu", "cuda", "mps"):
        reason = "torch has no such device here"
    return f"{reason}; available: {', '.join(usable)}"


def synchronize(device: torch.device) -> None:
    """Wait until everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def call_seconds(
    call: Callable[[], object], device: torch.device, *, warm_up: int = 3, repeats: int = 10
) -> list[float]:
    """Wall-clock times of `call`, in seconds, after warm-up."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        call()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds


def median_seconds(call: Callable[[], object], device: torch.device, *, warm_up: int = 3, repeats: int = 10) -> float:
    """The median wall-clock time of `call`, in seconds, after warm-up."""
    return statistics.median(call_seconds(call, device, warm_up=warm_up, repeats=repeats))


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` begin anew from what is held now; where the system cannot, it stays where it was."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _linux_memory(entry: str) -> int:
    """Bytes of an entry of this process' status; 0 where there is none."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith(entry):
                return int(line.split()[1]) * 1024
    return 0


def peak_memory(device: torch.device) -> int:
    """Bytes at the highest point so far: of the device's allocator, or of this process on the CPU; 0 where the system
    does not tell.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if peak := _linux_memory("VmHWM:"):  # getrusage would count what the process was forked from
        return peak
    if sys.platform == "win32":
        return _peak_memory_of_windows()
    try:
        import resource  # which Windows does not have
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _MemoryCounters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of Windows' psapi.h."""

    _fields_ = (
        ("size", ctypes.c_ulong),
        ("page_faults", ctypes.c_ulong),
        ("peak_working_set", ctypes.c_size_t),
        *((f"other_{number}", ctypes.c_size_t) for number in range(7)),
    )


def _peak_memory_of_windows() -> int:
    """The largest working set of this process, in bytes; 0 where Windows does not tell."""
    counters = _MemoryCounters(size=ctypes.sizeof(_MemoryCounters))
    try:
        libraries: Any = ctypes.windll  # type: ignore[attr-defined, unused-ignore]
        this = libraries.kernel32.GetCurrentProcess
        this.restype = ctypes.c_void_p
        ask = libraries.psapi.GetProcessMemoryInfo
        ask.argtypes = (ctypes.c_void_p, ctypes.POINTER(_MemoryCounters), ctypes.c_ulong)
        told = ask(this(), ctypes.byref(counters), counters.size)
    except (AttributeError, OSError):
        return 0
    return int(counters.peak_working_set) if told else 0
