"""Find out how much memory this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["available_memory", "machine_memory"]

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def machine_memory() -> int:
    """Return the bytes of the machine's memory, or of the container's if that is less."""
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _container_limit())


def available_memory() -> int:
    """Return the bytes that can be taken now without swapping: of the machine, or of the container if that is less."""
    found = machine_memory()
    with suppress(OSError, ValueError, StopIteration):
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        found = min(found, 1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    limit = _container_limit()
    with suppress(OSError, ValueError):
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        # Pages of files that were read are counted as used, but are given back when memory is short.
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = sum(int(line.split()[1]) for line in lines if line.startswith(("inactive_file ", "active_file ")))
        found = min(found, max(0, limit - used + cached))
    return found


def _container_limit() -> int:
    """Read the memory limit of the container; a very large number if there is none."""
    with suppress(OSError, ValueError):  # no container, or the word "max"
        return int((_CGROUP / "memory.max").read_text(encoding="ascii"))
    return 1 << 62
