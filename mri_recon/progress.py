"""How far a reconstruction is: what a method tells while it works, and where it can be stopped.

A caller gives `on_progress`, a function of one `Progress`, to `reconstruct`, `compare` or a method. It is called
between iterations, in the thread that computes. It may raise, `Cancelled` say: the work ends there, and the exception
reaches the caller unchanged. It sees numbers only, so no result depends on it.
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
    """A moment of a reconstruction.

    Attributes:
        method: name of the method.
        stage: "prepare" (pre-whitening, compression), "maps" (coil sensitivities), "iterate" (a solver) or "network".
        iteration: done so far in this stage, over all slices: iterations of the solver, or slices of a network. It
            never falls within a stage.
        total: how many it will be at most; None where that is not known. It falls where a slice needs fewer.
        objective: of the slices so far, as last looked at, in the units of `info["objective"]`; None where none is
            known.
        relative_gap: the worst of the slices so far, as last looked at; None where none is known.
    """

    method: str
    stage: str
    iteration: int
    total: int | None
    objective: float | None = None
    relative_gap: float | None = None


OnProgress: TypeAlias = Callable[[Progress], None]
"""What a caller gives: called with every `Progress`; raises to stop."""

OnIteration: TypeAlias = "Callable[[int, Tensor | None, Tensor | None], None]"
"""What a solver takes: its iteration, from 1, then objective and relative gap, float64 `(batch,)`, where just known."""


class ScanProgress:
    """`Progress` of a scan from the iterations of a solver that takes its slices part by part.

    Args:
        on_progress: the caller's.
        method: name of the method.
        num_parts: parts that the slices are solved in.
        max_iters: most iterations of a part.
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
        """Tell of an iteration of the part at hand; see `OnIteration`."""
        self._take(objective, relative_gap)
        self._iteration = iteration
        self._tell()

    def end_part(self, objective: Tensor | None, relative_gap: Tensor | None) -> None:
        """Tell how the part at hand ended, in the numbers that its `info` has."""
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
        import torch  # here, so that naming `Progress` does not import it

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
