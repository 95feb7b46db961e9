"""Reconstruction methods that exist for one test."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from mri_recon.methods import table
from mri_recon.progress import OnProgress, Progress
from tests.support.patience import PATIENCE

BUILT_IN = ["zero-filled", "cg-sense", "cs-wavelet", "unet", "unrolled", "auto"]
"""Every method of the library, in the order of the table."""


def add_method(monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., Any]) -> None:
    """Put a function into the table of methods until the test ends."""
    module = ModuleType(f"method_of_a_test_{name}")
    module.function = function  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(table._BUILT_IN, name, table.MethodEntry(name, f"{module.__name__}:function", summary=name))


class Steps:
    """A method of many iterations that takes them when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.begun = threading.Event()
        self.done = 0

    def __call__(self, kspace: Any, mask: Any, *, sens_maps: Any, on_progress: OnProgress | None = None) -> Any:
        assert on_progress is not None
        self.begun.set()
        for step in range(1, 101):
            assert self.go.acquire(timeout=PATIENCE)
            on_progress(Progress("steps", "iterate", step, 100, objective=1.0 / step, relative_gap=float("inf")))
            self.done = step
        return kspace[:, 0], {}
