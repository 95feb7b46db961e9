"""One slice of raw k-space and its acquired columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = ["RawSlice"]


@dataclass(frozen=True)
class RawSlice:
    """One slice of full k-space `(coil, readout, phase)` and its acquired columns, bool `(phase,)`."""

    kspace: Tensor
    support: npt.NDArray[np.bool_]

    def mirrored(self, rng: np.random.Generator) -> RawSlice:
        """Mirror the image along readout, phase, both or neither, each with probability 1/2.

        Reversing an axis of k-space mirrors the image; the echo and the acquired columns change sides.
        """
        kspace, support = self.kspace, self.support
        if rng.random() < 0.5:
            kspace = kspace.flip(-2)
        if rng.random() < 0.5:
            kspace, support = kspace.flip(-1), support[::-1].copy()
        return RawSlice(kspace, support)
