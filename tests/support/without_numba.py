"""Take numba away from a test, as on a machine without the extra `fast`."""

from __future__ import annotations

import sys

import pytest

__all__ = ["without_numba"]


def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the import of numba fail, also for the loops of the wavelets that were imported before."""
    for module in ("transforms._compile", "solvers._haar_kernels"):
        monkeypatch.delitem(sys.modules, f"mri_recon.{module}", raising=False)
    monkeypatch.delattr("mri_recon.solvers._haar_kernels", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
