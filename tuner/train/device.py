"""What the machine offers and what it refused: accelerators, peak memory, out-of-memory errors.
Questions only; nothing here places a tensor or chooses a worker.
"""

from __future__ import annotations

import resource
import sys

import torch


def accelerators() -> list[str]:
    """The devices torch can use beside the CPU: ``cuda:0`` ...; empty on a machine without."""
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


def is_out_of_memory(error: BaseException) -> bool:
    """Did an allocation fail, on the device or on the host? torch's CPU allocator raises a plain RuntimeError."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def peak_memory_mb(device: torch.device) -> float:
    """Peak so far, in MB: of the device where it has its own memory, else of the process (resident)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
