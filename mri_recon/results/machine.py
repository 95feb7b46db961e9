"""Name the software and the device that compute a result."""

from __future__ import annotations

import functools
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

__all__ = ["device_name", "versions"]

_PACKAGES = ("mri-recon", "torch", "numpy", "scipy", "pywavelets", "numba", "safetensors")


def versions() -> dict[str, str | None]:
    """Give the versions of Python and of the packages that a result depends on; None for one that is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}}


def device_name(device: torch.device) -> str:
    """Name a device: the model of the GPU, or of the processor with its instruction set."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})" if device.type == "cpu" else device.type


@functools.cache  # packages do not change while a process runs, and reading their metadata takes milliseconds
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@functools.cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()
