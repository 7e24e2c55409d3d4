"""How many processor cores this process may use, which in a container are often fewer than the machine has."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores that the process may run on: its affinity, and a container's quota of time rounded up."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = _QUOTA.read_text().split()
        if quota != "max":
            there = min(there, max(1, math.ceil(int(quota) / int(period))))
    return there
