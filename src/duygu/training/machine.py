"""What a run computes on: cores, memory, processor, versions. Part of its record, since another is another rounding."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import sys
from contextlib import suppress
from pathlib import Path

PACKAGES = ("duygu", "numpy", "safetensors", "scikit-learn", "scipy", "tokenizers")
ENGINE_PACKAGES = {"torch": ("torch",), "jax": ("jax", "jaxlib", "optax")}


def cores() -> int:
    """CPU cores for this process: physical ones that it may run on, within its container's quota."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    physical = {
        read_system(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or cpu for cpu in allowed
    }
    quota, _, period = read_system("/sys/fs/cgroup/cpu.max").partition(" ")
    limit = -(-int(quota) // int(period)) if quota.isdigit() and period.strip().isdigit() else len(physical)
    return max(1, min(len(physical), limit))


def peak_memory() -> int:
    """Peak resident bytes of this process so far."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", read_system("/proc/self/status"), re.MULTILINE)
    if found:  # unlike ru_maxrss, not inherited from the process that started this one
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def processor() -> str:
    """The processor's own name, as far as the system tells it."""
    found = re.search(r"^model name\s*:\s*(.+)$", read_system("/proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def versions(engine: str) -> dict[str, str]:
    """Installed versions of Python and of every package that decides numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES + ENGINE_PACKAGES[engine]:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def read_system(path: str) -> str:
    """A file of the system, empty where it has none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
