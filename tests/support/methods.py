"""Reconstruction methods that exist for one test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from mri_recon.methods import table

BUILT_IN = ["zero-filled", "cg-sense", "cs-wavelet", "unet", "unrolled", "auto"]
"""Every method of the library, in the order of the table."""


def add_method(monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., Any]) -> None:
    """Put a function into the table of methods until the test ends."""
    module = ModuleType(f"method_of_a_test_{name}")
    module.function = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(table._BUILT_IN, name, table.MethodEntry(name, f"{module.__name__}:function", summary=name))
