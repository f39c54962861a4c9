"""What a run computes on: cores, memory, processor, versions. Part of its record, since another is another rounding."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

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


def memory() -> tuple[int | None, int | None]:
    """Bytes of memory, and how many a new process may have: what is available within the container's limit."""
    table = dict(re.findall(r"^(\w+):\s+(\d+) kB", read_system("/proc/meminfo"), re.MULTILINE))
    total = int(table["MemTotal"]) * 1024 if "MemTotal" in table else _pages()
    free = int(table["MemAvailable"]) * 1024 if "MemAvailable" in table else None
    limit, used = (read_system(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    if limit.isdigit() and used.isdigit():
        total = min(total or int(limit), int(limit))
        free = min(free if free is not None else int(limit), max(0, int(limit) - int(used)))
    return total, free


def resident_memory() -> int:
    """Resident bytes of this process now; 0 where the system does not tell."""
    found = re.search(r"^VmRSS:\s*(\d+) kB", read_system("/proc/self/status"), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def own_limit() -> int | None:
    """Bytes that this process may not exceed, as ``ulimit -v`` and ``-d`` set them; None where nothing does."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)


def gpus() -> list[dict[str, Any]]:
    """NVIDIA's GPUs as their driver lists them, whether or not a framework can use them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, "--query-gpu=name,driver_version,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
        return [
            {"name": name, "driver": driver, "memory_bytes": int(total) << 20, "free_bytes": int(free) << 20}
            for name, driver, total, free in rows
        ]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []


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


def _pages() -> int | None:
    """Bytes of memory where there is no /proc."""
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
