"""The configuration of the test with lesions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mri_recon_training.evaluation.config import SimulatedArray

__all__ = ["DEFAULT_ARRAY", "LesionConfig"]

DEFAULT_ARRAY = SimulatedArray(4)


@dataclass(frozen=True)
class LesionConfig:
    """Images, lesions, masks and methods of the test.

    Attributes:
        split: of the registry; its magnitude images are used, one of each subject.
        methods: names, simplest first.
        options: method to its options.
        accelerations: of the masks.
        seeds: of mask and noise; at least two, since every image is compared with one of another seed.
        array: simulated receive coils and noise.
        contrasts: heights of the lesions in units of the bright signal (99.5th percentile of the volume); negative ones
            are dark.
        widths: their full widths at half maximum, pixels.
        num_places: lesions in an image, all at once.
        person: images of this subject only; empty: of all.
        device: to compute on; None: the CPU.
    """

    split: str
    methods: tuple[str, ...]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    accelerations: tuple[float, ...] = (4.0, 8.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    array: SimulatedArray = DEFAULT_ARRAY
    contrasts: tuple[float, ...] = (0.1, 0.2, -0.1)
    widths: tuple[float, ...] = (3.0, 5.0)
    num_places: int = 12
    person: str = ""
    device: str | None = None
