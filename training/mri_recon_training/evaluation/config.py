"""The configuration of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["DEFAULT_SNR", "EvaluationConfig", "SimulatedArray"]

DEFAULT_SNR = 40.0
"""The 99.5th percentile of a volume's magnitudes over the noise's standard deviation in each part of each coil."""


@dataclass(frozen=True)
class SimulatedArray:
    """Receive coils and noise of simulated scans.

    Attributes:
        num_coils: number of coils.
        snr: see `DEFAULT_SNR`.
        measured: sensitivities and correlated noise of an array that was measured on a validation phantom; else
            modelled coils around the object and white noise.
    """

    num_coils: int
    snr: float = DEFAULT_SNR
    measured: bool = False

    @property
    def text(self) -> str:
        """Number of coils, and what is not the default."""
        noun = "coil" if self.num_coils == 1 else "coils"
        snr = "" if self.snr == DEFAULT_SNR else f", SNR {self.snr:g}"
        return f"{self.num_coils} {'measured ' if self.measured else ''}{noun}{snr}"


@dataclass(frozen=True)
class EvaluationConfig:
    """Scans, masks and methods that an evaluation compares.

    Attributes:
        split: of the registry: validation for choices, test for numbers that are reported.
        methods: names, simplest first.
        options: method to its options.
        accelerations: of the tables.
        curve: further accelerations, for the plot.
        seeds: of the masks of the tables.
        curve_seeds: of the masks at the further accelerations.
        part_seeds: of the masks of scans that are parts of one file, such as inversion times, at every acceleration.
        center_fraction: of the masks; None: 0.08 below 6x, else 0.04.
        num_low_frequencies: the fully sampled centre as a number of columns; not with `center_fraction`.
        person: evaluate the scans of this subject only; empty: of all.
        foreground: measure again with the background masked.
        arrays: receive coils of the simulated scans; none: real raw k-space only.
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
    curve_seeds: tuple[int, ...] = (0, 1)
    part_seeds: tuple[int, ...] = (0, 1)
    center_fraction: float | None = None
    num_low_frequencies: int | None = None
    person: str = ""
    foreground: bool = False
    arrays: tuple[SimulatedArray, ...] = ()
    coil_seeds: tuple[int, ...] = (0, 1, 2)
    coil_slices: int = 1
    device: str | None = None
