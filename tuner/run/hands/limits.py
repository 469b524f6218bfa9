"""What this process may have of the machine: its share of the processors, and whether memory ran out among its like.
Read from Linux's files; elsewhere they say nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def _group() -> Path:
    """The folder of this process's control group (version 2)."""
    mine = ""
    with contextlib.suppress(OSError):
        told = Path("/proc/self/cgroup").read_text().splitlines()
        mine = next((line.removeprefix("0::/") for line in told if line.startswith("0::/")), "")
    return GROUPS / mine


GROUP = _group()


def cores() -> int:
    """CPU cores this process may use, by its affinity and by what its container may have of the processors' time."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in _quotas():
        count = min(count, max(1, math.ceil(quota / period)))
    return count


def _quotas() -> Iterator[tuple[int, int]]:
    """How much of the processors' time this process's control group and those above it may have: microseconds, and of
    how many (cgroups of version 2, and 1).
    """
    places = [[folder / "cpu.max"] for folder in (GROUP, *GROUP.parents) if folder.is_relative_to(GROUPS)]
    places.append([GROUPS / "cpu" / name for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")])
    for files in places:
        with contextlib.suppress(OSError, ValueError):  # "max", or no such group
            quota, period = (int(word) for file in files for word in file.read_text().split())
            if quota > 0:
                yield quota, period


def memory_kills() -> int:
    """How often the kernel has ended a process for want of memory, of those in this one's group, or where it does not
    say that, of this machine; 0 where it does not say (Linux).
    """
    for place in (GROUP / "memory.events", Path("/proc/vmstat")):
        with contextlib.suppress(OSError):
            for line in place.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0
