"""What the machine offers and what it refused: accelerators, names, memory, out-of-memory errors.
Questions only; nothing here places a tensor or chooses a worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import resource
import sys
from pathlib import Path

import torch

from tuner.train.machine.capacity import available_bytes


def devices() -> dict[str, str]:
    """What torch can train on here, device -> kind: the GPUs, or the CPU where there is none."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
    return {name: device_kind(torch.device(name)) for name in names}


def device_kind(device: torch.device) -> str:
    """What seconds may be compared on: the GPU's name, or ``cpu`` and the processor's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} {_processor()}".strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def free_bytes(device: torch.device) -> int:
    """Memory that a new trial could take now: the device's own where it has some, else the host's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes()


def wait_for(device: torch.device) -> None:
    """Return when the device has done all that it was given; at once on the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def trim() -> None:
    """Give freed memory back to the system: glibc keeps it, scattered, and the next model would come on top of it.

    Nothing happens where the C library is another one.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Did an allocation fail, on the device or on the host? torch's CPU allocator raises a plain RuntimeError."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def peak_memory_mb(device: torch.device) -> float:
    """Peak so far, in MB: of the device where it has its own memory, else of the process (resident)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
