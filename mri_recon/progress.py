"""Report the progress of a reconstruction, and let the caller stop it.

A caller passes `on_progress`, a function of one `Progress`, to `reconstruct`, `compare` or a method. The function is
called between iterations, in the thread that computes. An exception that it raises, for example `Cancelled`, stops the
reconstruction and reaches the caller unchanged. It receives numbers only, so no result depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OnIteration", "OnProgress", "Progress", "ScanProgress"]


@dataclass(frozen=True)
class Progress:
    """Report one moment of a reconstruction.

    Attributes:
        method: name of the method.
        stage: "prepare" (pre-whitening, compression), "maps" (coil sensitivities), "iterate" (a solver), "adapt" (a
            network to the scan), "network", "check" (the hold-out check) or "candidates" (of `auto`).
        iteration: iterations (of a solver), steps (of an adaptation), slices (of a network), folds (of a check) or
            runs (of candidates) completed in this stage, counted over all slices. Never decreases within a stage.
        total: largest possible value of `iteration`; None if unknown. Decreases when a slice needs fewer iterations.
        objective: latest known objective, summed over the slices so far, in the units of `info["objective"]`; None if
            unknown.
        relative_gap: latest known relative duality gap, the largest of the slices so far; None if unknown.
    """

    method: str
    stage: str
    iteration: int
    total: int | None
    objective: float | None = None
    relative_gap: float | None = None


OnProgress: TypeAlias = Callable[[Progress], None]
"""Callback of the caller: called with every `Progress`, raises to stop."""

OnIteration: TypeAlias = "Callable[[int, Tensor | None, Tensor | None], None]"
"""Callback of a solver: iteration, from 1, then objective and relative gap, float64 `(batch,)`, None where unknown."""


class ScanProgress:
    """Report the progress of a scan whose slices are solved in several parts.

    Args:
        on_progress: callback of the caller.
        method: name of the method.
        num_parts: number of parts.
        max_iters: largest number of iterations of a part.
    """

    def __init__(self, on_progress: OnProgress, method: str, *, num_parts: int, max_iters: int) -> None:
        self._on_progress = on_progress
        self._method = method
        self._parts_left = num_parts
        self._max_iters = max_iters
        self._finished = 0
        self._iteration = 0
        self._objectives: list[Tensor] = []
        self._gaps: list[Tensor] = []
        self._objective: float | None = None
        self._gap: float | None = None

    def on_iteration(self, iteration: int, objective: Tensor | None, relative_gap: Tensor | None) -> None:
        """Report an iteration of the current part; see `OnIteration`."""
        self._take(objective, relative_gap)
        self._iteration = iteration
        self._tell()

    def end_part(self, objective: Tensor | None, relative_gap: Tensor | None) -> None:
        """Report the end of the current part, with the final numbers of its `info`."""
        self._take(objective, relative_gap)
        self._finished += self._iteration
        self._iteration = 0
        self._parts_left -= 1
        if objective is not None:
            self._objectives.append(objective)
        if relative_gap is not None:
            self._gaps.append(relative_gap)
        self._tell()

    def _take(self, objective: Tensor | None, relative_gap: Tensor | None) -> None:
        import torch  # imported here, so that naming `Progress` does not import torch

        if objective is not None:
            self._objective = _finite(float(torch.cat([*self._objectives, objective]).sum()))
        if relative_gap is not None:
            self._gap = _finite(float(torch.cat([*self._gaps, relative_gap]).max()))

    def _tell(self) -> None:
        self._on_progress(
            Progress(
                method=self._method,
                stage="iterate",
                iteration=self._finished + self._iteration,
                total=self._finished + self._parts_left * self._max_iters,
                objective=self._objective,
                relative_gap=self._gap,
            )
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
