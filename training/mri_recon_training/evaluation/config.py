"""The configuration of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["EvaluationConfig"]


@dataclass(frozen=True)
class EvaluationConfig:
    """Scans, masks and methods that an evaluation compares.

    Attributes:
        split: of the registry: validation for choices, test for numbers that are reported.
        methods: names, simplest first.
        options: method to its options.
        accelerations: of the tables.
        curve: further accelerations, for the plot.
        seeds: of the masks.
        center_fraction: of the masks; None: 0.08 below 6x, else 0.04.
        num_low_frequencies: the fully sampled centre as a number of columns; not with `center_fraction`.
        person: evaluate the scans of this subject only; empty: of all.
        foreground: measure again with the background masked.
        coils: numbers of coils of the simulated scans; none: real raw k-space only.
        coil_seeds: of the masks of the simulated scans.
        coil_slices: middle slices of each image that are simulated.
        device: to compute on; None: the CPU.
    """

    split: str
    methods: tuple[str, ...] = ("zero-filled", "cg-sense", "cs-wavelet", "unet", "unrolled")
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    accelerations: tuple[float, ...] = (4.0, 8.0)
    curve: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    center_fraction: float | None = None
    num_low_frequencies: int | None = None
    person: str = ""
    foreground: bool = False
    coils: tuple[int, ...] = ()
    coil_seeds: tuple[int, ...] = (0, 1, 2)
    coil_slices: int = 1
    device: str | None = None
