"""Report the progress of a reconstruction, and let the caller stop it.

A caller passes `on_progress`, a function of one `Progress`, to `reconstruct`, `compare` or a method. The function is
called between iterations, in the caller's thread. An exception that it raises, for example `Cancelled`, stops the
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
        total: largest possible value of `iteration`; None if unknown. Decreases when a slice needs fewer iterations; a
            display shows `fraction` instead.
        objective: latest known objective, summed over the slices so far, in the units of `info["objective"]`; None if
            unknown.
        relative_gap: latest known relative duality gap, the largest of the slices so far; None if unknown.
        fraction: share of the stage that is done, from 0 to 1; never decreases within a stage. A slice that has ended
            counts as a whole, however few iterations it took. None where `iteration / total` says it.
    """

    method: str
    stage: str
    iteration: int
    total: int | None
    objective: float | None = None
    relative_gap: float | None = None
    fraction: float | None = None


OnProgress: TypeAlias = Callable[[Progress], None]
"""Callback of the caller: called with every `Progress`, raises to stop."""

OnIteration: TypeAlias = "Callable[[int, Tensor | None, Tensor | None], None]"
"""Callback of a solver: iteration, from 1, then objective and relative gap, float64 `(batch,)`, None where unknown."""


class ScanProgress:
    """Report the progress of a scan whose slices are solved in several parts, possibly at the same time.

    Args:
        on_progress: callback of the caller.
        method: name of the method.
        num_parts: number of parts.
        max_iters: largest number of iterations of a part.
    """

    def __init__(self, on_progress: OnProgress, method: str, *, num_parts: int, max_iters: int) -> None:
        self._on_progress = on_progress
        self._method = method
        self._max_iters = max_iters
        self._iterations = [0] * num_parts
        self._ended = [False] * num_parts
        self._objectives: list[Tensor | None] = [None] * num_parts
        self._gaps: list[Tensor | None] = [None] * num_parts

    def update(self, part: int, iteration: int | None, objective: Tensor | None, relative_gap: Tensor | None) -> None:
        """Report an iteration of a part.

        Args:
            part: number of the part.
            iteration: as in `OnIteration`; None at the end of the part.
            objective, relative_gap: as in `OnIteration`; at the end of the part the numbers of its `info`.
        """
        import torch  # imported here, so that naming `Progress` does not import torch

        if iteration is None:
            self._ended[part] = True
        else:
            self._iterations[part] = iteration
        if objective is not None:
            self._objectives[part] = objective
        if relative_gap is not None:
            self._gaps[part] = relative_gap
        objectives = [one for one in self._objectives if one is not None]
        gaps = [one for one in self._gaps if one is not None]
        parts = list(zip(self._iterations, self._ended, strict=True))
        self._on_progress(
            Progress(
                method=self._method,
                stage="iterate",
                iteration=sum(self._iterations),
                total=sum(iteration if ended else self._max_iters for iteration, ended in parts),
                objective=_finite(float(torch.cat(objectives).sum())) if objectives else None,
                relative_gap=_finite(float(torch.cat(gaps).max())) if gaps else None,
                fraction=sum(1 if ended else iteration / self._max_iters for iteration, ended in parts) / len(parts),
            )
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
