"""Whether the images will fit, asked before they are read."""

from __future__ import annotations

import os
from pathlib import Path

from datanas.core.errors import OutOfMemoryError


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Make sure that `needed` bytes can be had.

    Raises:
        OutOfMemoryError: they exceed what the host has to give; the message ends with `remedy`.
    """
    available = available_memory()
    if available is not None and needed > available:
        raise OutOfMemoryError(
            f"{what} need {needed / 2**30:.1f} GiB of memory, {available / 2**30:.1f} GiB are available; {remedy}"
        )


def available_memory() -> int | None:
    """Bytes that this process can still take, container limit included; None where the system does not tell."""
    known = [limit for limit in (_host_memory(), _container_limit()) if limit is not None]
    return min(known, default=None)


def _host_memory() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None


def _container_limit() -> int | None:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return None
